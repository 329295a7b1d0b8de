"""`nolabel curate`: what it writes, and that it leaves its input alone."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.commands import run


@pytest.fixture
def crawl(tmp_path):
    texts = ["a red leather shoe", "a blue leather shoe", "<script>alert(1)</script> shoe", "a red shoe", "shoe", None]
    table = {"alt": texts, "url": [f"u{row}" for row in range(6)], "width": [400, 400, 400, 90, 400, 400]}
    path = tmp_path / "crawl.parquet"
    pq.write_table(pa.table(table | {"height": [300] * 6}), path)
    return path


COLUMNS = ["--column", "text=alt", "--column", "image_id=url"]


def test_what_is_written(crawl, capsys, tmp_path):
    before = crawl.read_bytes()
    out = tmp_path / "out"
    code, said, err = run(
        capsys, "curate", crawl, *COLUMNS, "--min-count", "1", "--max-words", "4", "-o", out, "--json"
    )
    assert code == 0, err
    summary = json.loads(said)
    assert (summary["rows"], summary["kept"]) == (6, 2)
    assert {rule: n for rule, n in summary["dropped"].items() if n} == {"no text": 1, "small": 1, "length": 2}
    assert pq.read_table(out / "kept.parquet")["text"].to_pylist() == ["a red leather shoe", "a blue leather shoe"]
    with (out / "dropped.csv").open(newline="") as file:
        dropped = list(csv.DictReader(file))
    assert [(row["row"], row["rule"], row["image_id"]) for row in dropped] == [
        *(("2", "length", "u2"), ("3", "small", "u3"), ("4", "length", "u4"), ("5", "no text", "u5")),
    ]
    assert dropped[1]["reason"] == "short side 90, not above 200"
    report = json.loads((out / "report.json").read_text())
    assert (report["kept"], report["rules"]["max_words"]) == (2, 4)
    page = (out / "curated.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert crawl.read_bytes() == before
    code, _, err = run(capsys, "curate", crawl, *COLUMNS, "-o", out)
    assert code == 2
    assert "holds kept.parquet already" in err


def test_a_table_for_people(crawl, capsys, tmp_path):
    code, said, err = run(capsys, "curate", crawl, *COLUMNS, "-o", tmp_path / "out", "--any-size", "--min-count", "1")
    assert code == 0, err
    assert "boilerplate" in said
    assert f"nolabel learn {tmp_path / 'out' / 'kept.parquet'}" in said.replace("\n", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no column 'text' among"),
        (["--column", "text=alt"], "no column 'image' or 'image_id'"),
        ([*COLUMNS, "--column", "w=width"], "leave sizes out with --any-size"),
        ([*COLUMNS, "--bigrams", "both"], "bigrams must be"),
        ([*COLUMNS, "--max-unsafe", "0.5"], "no column 'unsafe'"),
        ([*COLUMNS, "--examples", "-1"], "--examples must be at least 0"),
        ([*COLUMNS, "--held-out", "x"], "held_out: the table has no column 'image'"),
    ],
)
def test_bad_input(crawl, capsys, tmp_path, words, said):
    code, _, err = run(capsys, "curate", crawl, *words, "-o", tmp_path / "out")
    assert code == 2
    assert said in err
    assert not (tmp_path / "out").exists()
