"""Some kills in every run of the tests; the many that are committed were drawn by the same program."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.faults.kills import SHARES

RECORDED = Path(__file__).with_name("kills.json")


def test_what_is_killed_ends_as_if_nothing_had_happened(tmp_path):
    kills = int(os.environ.get("NOLABEL_KILLS", "8"))
    out = tmp_path / "kills.json"
    words = [sys.executable, "-m", "tests.faults", "kills", "--number", str(kills), "--seed", "1", "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(out.read_text())
    assert len(found["rows"]) == kills
    assert {row["outcome"] for row in found["rows"]} == {"same"}, done.stderr[-3000:]
    assert found["two at once"] == ["learn: refused", "clean: refused", "embed --add: waited"]


def test_the_recorded_kills():
    found = json.loads(RECORDED.read_text())
    assert found["kills"] == found["same"] == len(found["rows"]) >= 50
    assert found["two at once"] == ["learn: refused", "clean: refused", "embed --add: waited"]
    assert {row["job"] for row in found["rows"]} == set(SHARES)
    assert max(row["in a row"] for row in found["rows"]) > 1
    left = {file for row in found["rows"] for file in row["left"]}
    assert left >= {"checkpoint.safetensors", "config.json", "index.lance"}, (
        "some came while the last files were written"
    )
