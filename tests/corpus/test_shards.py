"""Which shards a corpus has, on disk and behind URLs, and how they are cut into pieces."""

import json

import fsspec
import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nolabel.corpus import is_corpus, open_corpus, reading
from nolabel.corpus.places import inside, on_disk, place, placed
from nolabel.corpus.reading import count_rows, pieces


def numbers(*values):
    return pa.table({"id": pa.array(values)})


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "corpus"
    for name, values in {"b": [3, 4], "deep/a": [1, 2], "_temporary/x": [9], ".hidden": [9]}.items():
        (place / f"{name}.parquet").parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(numbers(*values), place / f"{name}.parquet")
    (place / "README.md").write_text("of what")
    return place


def ids(corpus):
    return [row for shard in corpus.shards for piece in pieces(shard) for row in piece["id"].to_pylist()]


def test_a_folder_a_glob_a_file_and_a_url(folder):
    for source in (folder, folder.as_uri()):
        corpus = open_corpus(str(source))
        assert [shard.name for shard in corpus.shards] == ["b", "deep/a"]
        assert ids(corpus) == [3, 4, 1, 2]
    assert ids(open_corpus(f"{folder}/deep/*.parquet")) == [1, 2]
    assert ids(open_corpus(str(folder / "b.parquet"))) == [3, 4]


def test_in_memory():
    with fsspec.open("memory://shards/a.parquet", "wb") as file:
        pq.write_table(numbers(5, 6), file)
    corpus = open_corpus("memory://shards")
    assert ids(corpus) == [5, 6]
    assert count_rows(corpus.shards[0]) == 2


def test_the_mark_changes_with_the_file(folder):
    before = open_corpus(str(folder)).shards
    pq.write_table(numbers(3, 5, 6), folder / "b.parquet")
    after = open_corpus(str(folder)).shards
    assert before[0].mark != after[0].mark
    assert before[1] == after[1]


def test_fragments_of_a_lance_data_set_and_the_version_they_are_of(tmp_path):
    path = str(tmp_path / "x.lance")
    lance.write_dataset(numbers(1, 2), path)
    lance.write_dataset(numbers(3), path, mode="append")
    corpus = open_corpus(path)
    assert [shard.rows for shard in corpus.shards] == [2, 1]
    lance.dataset(path).delete("id = 1")
    assert ids(corpus) == [1, 2, 3]
    later = open_corpus(path)
    assert ids(later) == [2, 3]
    assert later.shards[0].mark != corpus.shards[0].mark
    assert later.shards[1].mark == corpus.shards[1].mark


def test_what_is_a_corpus(folder, tmp_path):
    assert is_corpus(str(folder))
    assert is_corpus("s3://bucket/data")
    assert is_corpus("*.tar")
    assert not is_corpus(str(folder / "b.parquet"))
    assert not is_corpus(str(tmp_path / "nothing"))
    (folder / "deep" / "photo.jpg").write_bytes(b"")
    assert not is_corpus(str(folder))


def test_what_is_refused(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_corpus(str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no shards: expected files that end in \.parquet or \.tar"):
        open_corpus(str(tmp_path / "empty"))
    (folder / "c.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"2 \.parquet and 1 \.tar: name one kind by a glob"):
        open_corpus(str(folder))
    with pytest.raises(ValueError, match="nonsense://x"):
        open_corpus("nonsense://x")
    with pytest.raises(ValueError, match="not in fsspec's memory"):
        open_corpus("memory://x.lance")
    (folder / "b.parquet").write_bytes(b"PAR1 nothing else")
    with pytest.raises(ValueError, match="cannot be read as parquet"):
        ids(open_corpus(str(folder / "b.parquet")))


def test_a_missing_column_is_named(folder):
    (shard,) = open_corpus(str(folder / "b.parquet")).shards
    with pytest.raises(ValueError, match="no column 'vector'; there are id"):
        list(pieces(shard, ("vector",)))


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "a\\..\\x"])
def test_names_that_leave_the_folder(name, tmp_path):
    with pytest.raises(ValueError, match="leaves its folder"):
        inside(name)
    notes = tmp_path / "_nolabel"
    notes.mkdir()
    (notes / "job.json").write_text("{}")
    entry = {"shard": "x", "file": name, "rows": 1, "written": 1}
    (notes / "manifest.json").write_text(json.dumps({"format": "parquet", "shards": [entry]}))
    with pytest.raises(ValueError, match="leaves its folder"):
        open_corpus(str(tmp_path))


def test_pieces_are_of_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BYTES", 10_000)
    cells = [np.random.default_rng(row).bytes(1000) for row in range(100)]
    pq.write_table(pa.table({"image": cells}), tmp_path / "a.parquet", row_group_size=30)
    lance.write_dataset(pa.table({"image": cells}), str(tmp_path / "a.lance"))
    for name in ("a.parquet", "a.lance"):
        (shard,) = open_corpus(str(tmp_path / name)).shards
        lengths = [len(piece) for piece in pieces(shard)]
        assert sum(lengths) == 100
        assert 5 <= max(lengths) <= 11, name


def test_files_are_there_whole_or_not_at_all(tmp_path):
    for url in (str(tmp_path), "memory://whole"):
        files, path = place(url)
        with pytest.raises(RuntimeError, match="in the middle"), placed(files, f"{path}/deep/x") as local:
            local.write_text("half")
            raise RuntimeError("in the middle")
        assert not files.exists(f"{path}/deep/x")
        with placed(files, f"{path}/deep/x") as local:
            local.write_text("whole")
        with on_disk(files, f"{path}/deep/x") as local:
            assert local.read_text() == "whole"
    assert [file.name for file in tmp_path.rglob("*")] == ["deep", "x"]
