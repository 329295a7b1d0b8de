"""A corpus made of another: every row once, whatever happens on the way."""

import json
import sys

import duckdb
import fsspec
import lance
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from nolabel.corpus import Made, each, map_corpus, open_corpus
from nolabel.corpus.reading import pieces
from nolabel.corpus.writing import Output
from nolabel.data.sources import Skipped


class Doubled:
    """A vector of each even number; odd ones are skipped."""

    job = {"times": 2}  # noqa: RUF012

    def __call__(self, piece):
        values = piece["number"].to_numpy()
        rows = np.flatnonzero(values % 2 == 0)
        flat = pa.array(np.outer(values[rows], [1, 2]).ravel().astype(np.float32))
        made = pa.table({"vector": pa.FixedSizeListArray.from_arrays(flat, 2)})
        return Made(rows, made, [Skipped(int(row), None, "odd") for row in np.flatnonzero(values % 2)])


class Failing(Doubled):
    """Gives out at one shard, in the middle of it."""

    def __init__(self, at, error):
        self.at, self.error = at, error

    def __call__(self, piece):
        if self.at in piece["number"].to_pylist():
            raise self.error
        return super().__call__(piece)


def source(url, shards=5, rows=20):
    files, path = fsspec.core.url_to_fs(url)
    for shard in range(shards):
        files.makedirs(path, exist_ok=True)
        with files.open(f"{path}/part-{shard}.parquet", "wb") as file:
            values = np.arange(rows) + rows * shard
            pq.write_table(pa.table({"number": values, "blob": [b"x"] * rows}), file, row_group_size=7)
    return url


def places(tmp_path):
    yield str(tmp_path / "out"), "parquet"
    yield str(tmp_path / "out.lance"), "lance"
    yield str(tmp_path / "tars"), "webdataset"


def vectors(url):
    """First component of the vectors of a corpus, in order."""
    return [
        row[0] for shard in open_corpus(url).shards for piece in pieces(shard) for row in piece["vector"].to_pylist()
    ]


def test_every_row_is_made_once_or_listed(tmp_path):
    corpus = open_corpus(source(str(tmp_path / "in")))
    for url, format in places(tmp_path):
        seen = []
        manifest = map_corpus(
            corpus, Doubled(), Output(url, format), progress=lambda *done, seen=seen: seen.append(done)
        )
        assert {key: manifest[key] for key in ("rows", "written", "skipped")} == {
            "rows": 100, "written": 50, "skipped": 50,
        }  # fmt: skip
        assert seen == [(number, 5) for number in range(1, 6)]
        assert sorted(vectors(url)) == list(range(0, 100, 2))
        lines = (tmp_path / url / "_nolabel" / "skipped.csv").read_text().splitlines()
        assert lines[:2] == ["shard,row,path,reason", "part-0,1,,odd"]
        assert len(lines) == 51


def test_ids_and_payload(tmp_path):
    map_corpus(open_corpus(source(str(tmp_path / "in"))), Doubled(), Output(str(tmp_path / "out")))
    table = pq.read_table(tmp_path / "out")
    assert table.column_names == ["id", "number", "vector"]  # no bytes
    assert table["id"].to_pylist()[10:12] == ["part-1:0", "part-1:2"]
    assert table["vector"].type == pa.list_(pa.float32(), 2)


def test_in_memory_as_on_disk(tmp_path):
    on_disk, there = str(tmp_path / "out"), "memory://mapped/out"
    for url, out in ((str(tmp_path / "in"), on_disk), ("memory://mapped/in", there)):
        map_corpus(open_corpus(source(url)), Doubled(), Output(out))
    assert vectors(there) == vectors(on_disk)
    names = {name.rpartition("/")[2] for name in fsspec.filesystem("memory").find("/mapped/out")}
    assert {"manifest.json", "skipped.csv", "part-0.parquet"} <= names
    with pytest.raises(ValueError, match="memory of one process"):
        map_corpus(open_corpus("memory://mapped/in"), Doubled(), Output(there), engine="ray")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("fault")])
def test_an_interrupted_run_goes_on(tmp_path, error):
    corpus = open_corpus(source(str(tmp_path / "in")))
    for url, format in places(tmp_path):
        with pytest.raises(type(error)):
            map_corpus(corpus, Failing(53, error), Output(url, format))
        with pytest.raises(ValueError, match="not finished"):
            open_corpus(url)
        called = []

        class Counted(Doubled):
            def __call__(self, piece, called=called):
                called.append(int(piece["number"][0].as_py()) // 20)
                return super().__call__(piece)

        map_corpus(corpus, Counted(), Output(url, format))
        assert min(called) == 2, "what was finished is not done again"
        assert sorted(vectors(url)) == list(range(0, 100, 2))
        assert not [path for path in (tmp_path / url).rglob("*") if "partial" in path.name]


def test_a_shard_that_cannot_be_read_comes_last(tmp_path):
    corpus = open_corpus(source(str(tmp_path / "in")))
    out = Output(str(tmp_path / "out"))
    with pytest.raises(ValueError, match=r"1 of 5 shards failed, first part-1: damaged"):
        map_corpus(corpus, Failing(21, ValueError("damaged")), out)
    assert len(out.reports()) == 4
    assert map_corpus(corpus, Doubled(), out)["rows"] == 100
    calls = []

    class Hopeless(Doubled):
        def __call__(self, piece):
            calls.append(1)
            raise ValueError("always")

    with pytest.raises(ValueError, match="3 of 5 shards failed"):
        map_corpus(corpus, Hopeless(), Output(str(tmp_path / "other")))
    assert len(calls) == 3


def test_a_corpus_that_has_grown_and_one_that_has_changed(tmp_path):
    folder = str(tmp_path / "in")
    source(folder, shards=2)
    for url, format in places(tmp_path):
        map_corpus(open_corpus(folder), Doubled(), Output(url, format))
    table = pa.table({"number": np.arange(40, 60), "blob": [b"x"] * 20})
    pq.write_table(table, f"{folder}/part-2.parquet")
    for url, format in places(tmp_path):
        assert map_corpus(open_corpus(folder), Doubled(), Output(url, format))["rows"] == 60
        assert sorted(vectors(url)) == list(range(0, 60, 2))
    pq.write_table(table.slice(1), f"{folder}/part-2.parquet")
    with pytest.raises(ValueError, match="the shard part-2 has changed"):
        map_corpus(open_corpus(folder), Doubled(), Output(str(tmp_path / "out")))
    (tmp_path / "in" / "part-2.parquet").unlink()
    with pytest.raises(ValueError, match="the shard part-2 is no longer in"):
        map_corpus(open_corpus(folder), Doubled(), Output(str(tmp_path / "out")))


def test_what_else_is_refused(tmp_path):
    corpus = open_corpus(source(str(tmp_path / "in"), shards=2))
    map_corpus(corpus, Doubled(), Output(str(tmp_path / "out")))

    class Tripled(Doubled):
        job = {"times": 3}  # noqa: RUF012

    with pytest.raises(ValueError, match="was made with times 2, not 3"):
        map_corpus(corpus, Tripled(), Output(str(tmp_path / "out")))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else"):
        map_corpus(corpus, Doubled(), Output(str(tmp_path / "other")))
    for inside in ("in", "in/vectors"):
        with pytest.raises(ValueError, match="would become a part"):
            map_corpus(corpus, Doubled(), Output(str(tmp_path / inside)))
    with pytest.raises(ValueError, match="format must be one of parquet, lance, webdataset, got 'csv'"):
        Output("x", "csv")
    pq.write_table(pa.table({"number": [2], "blob": [b"x"], "more": ["x"]}), tmp_path / "in" / "part-1.parquet")
    with pytest.raises(ValueError, match=r"part-0 and part-1 have different columns: .*; .*more string"):
        map_corpus(open_corpus(str(tmp_path / "in")), Doubled(), Output(str(tmp_path / "mixed")))


class Forgetful(Doubled):
    """Loses a row and says nothing of it."""

    def __call__(self, piece):
        made = super().__call__(piece)
        return Made(made.rows, made.columns, made.skipped[1:])


class Repeating(Doubled):
    """Makes a row twice."""

    def __call__(self, piece):
        made = super().__call__(piece)
        return Made(made.rows[[0, 0]], made.columns.take([0, 0]), made.skipped)


@pytest.mark.parametrize("function", [Forgetful(), Repeating()])
def test_a_function_that_loses_or_repeats_a_row_is_caught(tmp_path, function):
    with pytest.raises(RuntimeError, match="skipped"):
        map_corpus(open_corpus(source(str(tmp_path / "in"))), function, Output(str(tmp_path / "out")))


def test_shards_written_twice_are_there_once(tmp_path):
    """As when a worker dies after its rows are in place and before it says so."""
    corpus = open_corpus(source(str(tmp_path / "in"), shards=3))
    for url, format in places(tmp_path):
        out = Output(url, format)
        out.begin({"format": format, **Doubled.job})
        tables = iter(
            [pa.table({"id": ["lost"], "number": [1], "vector": pa.array([[0, 0]], pa.list_(pa.float32(), 2))})]
        )
        out.write("part-1", tables)
        map_corpus(corpus, Doubled(), out)
        assert sorted(vectors(url)) == list(range(0, 60, 2))


def test_engines_are_named():
    with pytest.raises(ValueError, match="engine must be one of local, ray, got 'spark'"):
        each([1], float, engine="spark")
    with pytest.raises(ValueError, match="needs engine='ray'"):
        each([1], float, address="127.0.0.1:1")
    attempts = list(each(["1", "x"], float))
    assert attempts[0].value == 1.0
    assert "could not convert" in attempts[1].error


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(ImportError, match=r"needs Ray: pip install 'nolabel\[corpus\]'"):
        list(each([1], float, engine="ray"))
    with pytest.raises(ImportError, match=r"need pylance: pip install 'nolabel\[corpus\]'"):
        Output(str(tmp_path / "x.lance"), "lance")


def test_who_else_reads_the_lance_data_set(tmp_path):
    """As docs/corpus.md shows it."""
    map_corpus(open_corpus(source(str(tmp_path / "in"))), Doubled(), Output(str(tmp_path / "vectors.lance"), "lance"))
    vectors = lance.dataset(str(tmp_path / "vectors.lance"))
    assert isinstance(vectors, pyarrow.dataset.Dataset)
    table = vectors.to_table(columns=["id", "vector"], filter="number > 90")
    assert table["id"].to_pylist() == [f"part-4:{row}" for row in (12, 14, 16, 18)]
    assert duckdb.sql("select count(*), sum(vector[2]) from vectors where number < 10").fetchall() == [(5, 40.0)]
    assert json.loads((tmp_path / "vectors.lance/_nolabel/manifest.json").read_text())["written"] == 50
