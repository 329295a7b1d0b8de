"""A thousand damaged inputs, and what the recorded thousands said."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.faults.inputs import SHARES

import nolabel
from nolabel.cli.run import open_table
from nolabel.learn import Untrained
from nolabel.search import Index

RECORDED = Path(__file__).with_name("inputs.json")


def test_damaged_inputs_are_read_or_refused_in_one_line(tmp_path):
    inputs = int(os.environ.get("NOLABEL_INPUTS", "1000"))
    out = tmp_path / "inputs.json"
    words = [sys.executable, "-m", "tests.faults", "inputs", "--number", str(inputs), "--seed", "1", "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(out.read_text())
    assert found["inputs"] == inputs
    assert found["faults"] == []
    assert sum(sum(outcomes.values()) for outcomes in found["outcomes"].values()) == inputs


def test_the_recorded_inputs():
    found = json.loads(RECORDED.read_text())
    assert found["inputs"] >= 1000
    assert found["faults"] == []
    assert set(found["outcomes"]) == set(SHARES)
    assert found["by the command as well"] > 20


# What once was a traceback ----------------------------------------------------------------------------------------------


def twice(path):
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), path)


def of_maps(path):
    pq.write_table(pa.table({"m": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64()))}), path)


FILES = {
    "a column twice": ("given.parquet", twice, ValueError),
    "columns of maps": ("given.parquet", of_maps, ValueError),
    "no archive": ("given.npz", lambda path: path.write_bytes(b"PK\x03\x04 and no more"), ValueError),
    "half a header": (
        "given.npy",
        lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': (((  \n"),
        ValueError,
    ),
    "complex numbers": ("given.npy", lambda path: np.save(path, np.zeros((3, 4), np.complex64)), ValueError),
    "dates": ("given.npy", lambda path: np.save(path, np.zeros((3, 8, 8), "datetime64[s]")), TypeError),
    "five axes": ("given.npy", lambda path: np.save(path, np.zeros((2, 2, 2, 2, 2))), ValueError),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_were_not_refused_in_one_line(name, tmp_path):
    file, write, expected = FILES[name]
    write(tmp_path / file)
    with pytest.raises(expected, match=f"^source: {re.escape(str(tmp_path / file))} cannot be read as") as caught:
        open_table(str(tmp_path / file), None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["resnet81", {"tuple": 1}, {"dict": {}}, -1])
def test_a_run_that_says_something_else(value, tmp_path):
    learner = Untrained("resnet10-x0.125", image_size=8)
    learner.fit(np.random.default_rng(0).integers(0, 256, (8, 8, 8), dtype=np.uint8)).save(tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["params"]["encoder"] = value
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"run/config.json is damaged or of another version: ") as caught:
        nolabel.load(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_an_index_with_damaged_files(tmp_path):
    index = Index.create(tmp_path, 4)
    index.add(np.random.default_rng(0).normal(size=(300, 4)), {"n": np.arange(300)})
    (data,) = (tmp_path / "index.lance" / "data").iterdir()
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    for read in (lambda: Index.open(tmp_path).rows(), lambda: Index.open(tmp_path).search(np.ones(4))):
        with pytest.raises(OSError, match=r"^could not read the index .*index.lance: [^\n]*$"):
            read()
    data.write_bytes(whole)
    newest = min((tmp_path / "index.lance" / "_versions").glob("*.manifest"))
    newest.write_bytes(newest.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"^path: .* is not an index: [^\n]*$"):
        Index.open(tmp_path)
