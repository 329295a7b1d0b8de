"""Killed writers, lost and damaged structures, two writers, and paths that are not an index."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from nolabel.data.locks import exclusive
from nolabel.search import Index, derived, structure
from nolabel.search.files import locate

ROWS, DIM = 3000, 32

KILLED_WRITER = """
import sys
import numpy as np
from nolabel.search import Index

index = Index(sys.argv[1])
for number in range(10_000):
    rng = np.random.default_rng(number)
    pieces = ((rng.normal(size=(100, 32)), {"add": [number] * 100}) for _ in range(3))  # one add, several batches
    index.add(pieces)
    print(number, flush=True)
"""


def vectors_of_add(number):
    rng = np.random.default_rng(number)
    return np.concatenate([rng.normal(size=(100, 32)) for _ in range(3)]).astype(np.float32)


def random_rows(seed=0, rows=ROWS):
    return np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(structure, "EXACT_ROWS", 1000)
    monkeypatch.setattr(derived, "BESIDE_ROWS", 100)


def test_killed_in_the_middle_of_an_add(tmp_path):
    Index.create(tmp_path, DIM)
    command = [sys.executable, "-c", KILLED_WRITER, str(tmp_path)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert writer.stdout.readline() == "0\n"
    time.sleep(0.05)
    writer.send_signal(signal.SIGKILL)  # it does nothing but add, so this falls into an add
    reported = 1 + len(writer.stdout.read().splitlines())
    assert writer.wait() == -signal.SIGKILL

    index = Index(tmp_path)
    adds = len(index) // 300
    assert len(index) == 300 * adds
    assert adds in (reported, reported + 1)  # nothing reported is lost; at most the last one was not reported yet
    stored = np.concatenate([vectors_of_add(number) for number in range(adds)])
    for row, hits in enumerate(index.search(stored, 1)):
        assert hits.ids[0] == row
        assert hits.scores[0] == pytest.approx(1, abs=1e-5)
    assert index.search(stored[-1], 1).to_dicts()[0]["add"] == adds - 1
    assert index.add(random_rows(rows=10))[0] == 300 * adds  # the dead writer's lock is free
    index.compact()
    assert len(Index(tmp_path)) == 300 * adds + 10


def damage(folder, how):
    base = next(path for path in folder.iterdir() if path.is_dir())
    if how == "lost":
        shutil.rmtree(folder)
    elif how == "notes":
        (base / "structure.json").write_text("{")
    elif how == "short":
        os.truncate(base / "ivf.faiss", 1000)
    elif how == "zeroed":
        with (base / "matrix.npy").open("r+b") as file:
            file.seek(200_000)
            file.write(bytes(60_000))
    elif how == "newer":
        notes = json.loads((base / "structure.json").read_text())
        (base / "structure.json").write_text(json.dumps(notes | {"format": 99}))
    elif how == "half built":
        shutil.copytree(base, folder / ".temporary-0123")
        (base / "ids.npy").unlink()


@pytest.mark.parametrize("how", ["lost", "notes", "short", "zeroed", "newer", "half built"])
def test_a_lost_or_damaged_structure_is_rebuilt(tmp_path, small_limits, caplog, how):
    X = random_rows()
    index = Index.create(tmp_path, DIM)
    index.add(X)
    before = [hits.ids.tolist() for hits in index.search(X[:20], 5)]
    damage(tmp_path / "index.faiss", how)
    with caplog.at_level("INFO", logger="nolabel.search"):
        after = [hits.ids.tolist() for hits in Index(tmp_path).search(X[:20], 5)]
    assert after == before
    assert "building the search structure" in caplog.text
    assert len([path for path in (tmp_path / "index.faiss").iterdir() if path.is_dir()]) == 1
    caplog.clear()
    with caplog.at_level("INFO", logger="nolabel.search"):
        Index(tmp_path).search(X[0])
    assert caplog.text == ""  # the next process finds it sound


def test_the_structure_of_a_replaced_data_set_is_not_used(tmp_path, small_limits):
    X, Y = random_rows(0), random_rows(1)
    first = Index.create(tmp_path, DIM)
    first.add(X)
    first.search(X[0])
    shutil.rmtree(tmp_path / "index.lance")
    second = Index.create(tmp_path, DIM)
    second.add(Y)  # same version number, same ids, same addresses, other vectors
    assert [int(hits.ids[0]) for hits in second.search(Y[:50], 1)] == list(range(50))
    with pytest.raises(ValueError, match=r"was replaced by another: open it again$"):
        first.search(X[0])


def test_prefix_structure_is_kept_and_survives_clearing(tmp_path, small_limits):
    X = random_rows()
    index = Index.create(tmp_path, DIM)
    index.add(X)
    expected = index.search(X[0], 5, dim=8).ids.tolist()
    assert list((tmp_path / "index.faiss").glob("*/prefix-8/ivf.faiss"))
    again = Index(tmp_path)
    again.search(X[0])
    shutil.rmtree(tmp_path / "index.faiss")
    assert again.search(X[0], 5, dim=8).ids.tolist() == expected
    assert Index(tmp_path).search(X[0], 5, dim=8).ids.tolist() == expected


def test_changes_by_another_program_are_seen(tmp_path, small_limits):
    X = random_rows()
    index = Index.create(tmp_path, DIM)
    index.add(X, {"kind": ["a"] * ROWS})
    index.search(X[0])
    table = lancedb.connect(tmp_path).open_table("index")
    table.delete("id < 10")
    table.update(where="id = 20", values={"vector": (-X[50]).tolist()})
    vector = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(DIM, np.float32)), DIM)
    table.add(pa.table({"id": [70_000], "vector": vector, "kind": ["b"]}))
    assert len(index) == ROWS - 9
    assert index.search(np.ones(DIM), 1).to_dicts()[0]["kind"] == "b"
    assert index.search(-X[50], 1).ids[0] == 20
    assert index.search(X[5], 1).ids[0] >= 10


def test_threads_search_while_rows_are_added(tmp_path, small_limits):
    X = random_rows()
    index = Index.create(tmp_path, DIM)
    index.add(X[:1500], {"number": np.arange(1500)})

    def searches(start):
        for row in range(start, 1500, 60):
            hit = index.search(X[row], 1, where=f"number % 2 = {row % 2}").to_dicts()[0]
            assert (hit["id"], hit["number"]) == (row, row)
        return "done"

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(searches, start) for start in range(4)]
        for start in range(1500, ROWS, 500):
            index.add(X[start : start + 500], {"number": np.arange(start, start + 500)})
        assert [each.result() for each in running] == ["done"] * 4
    assert len(index) == ROWS


def test_two_writers(tmp_path):
    index = Index.create(tmp_path, 2)
    with exclusive(tmp_path / "index.lock", ""):
        for write in (lambda: index.add(np.eye(2)), lambda: index.delete(where="true"), index.compact):
            with pytest.raises(BlockingIOError, match=rf"index.lance is in use by process {os.getpid()}: wait"):
                write()
        assert len(index.search([1.0, 0.0])) == 0  # readers are not kept out
    assert index.add(np.eye(2)).tolist() == [0, 1]


def test_encoders(tmp_path):
    Index.create(tmp_path / "named", 2, encoder="resnet18-ab12")
    assert Index.open(tmp_path / "named", encoder="resnet18-ab12").info()["encoder"] == "resnet18-ab12"
    assert Index(tmp_path / "named").info()["encoder"] == "resnet18-ab12"
    with pytest.raises(ValueError, match=r"encoder: the index .* was made by encoder 'resnet18-ab12', got 'other'$"):
        Index(tmp_path / "named", encoder="other")
    Index.create(tmp_path / "plain", 2)
    with pytest.raises(ValueError, match=r"encoder: the index .* was made by no named encoder, got 'other'$"):
        Index(tmp_path / "plain", encoder="other")


def test_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^path: there is no index at .*nowhere$"):
        Index(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is not an index: it holds no Lance data set index.lance$"):
        Index(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"is not an index"):
        Index(tmp_path / "file")
    (tmp_path / "empty.lance" / "_versions").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"^path: .*empty.lance is not an index: [^\n]*$"):
        Index(tmp_path / "empty.lance")
    lancedb.connect(tmp_path).create_table("foreign", pa.table({"a": [1]}))
    with pytest.raises(ValueError, match=r"is a Lance data set, but not an index made by nolabel$"):
        Index(tmp_path / "foreign.lance")
    newer = pa.schema([pa.field("id", pa.int64())], metadata={"nolabel.format": "3"})
    lancedb.connect(tmp_path).create_table("newer", schema=newer)
    with pytest.raises(ValueError, match=r"has index format 3, but this nolabel reads up to 2$"):
        Index(tmp_path / "newer.lance")
    Index.create(tmp_path / "made", 2)
    with pytest.raises(FileExistsError, match=r"^path: .*index.lance exists already$"):
        Index.create(tmp_path / "made", 2)
    with pytest.raises(FileExistsError, match=r"^path: .*file exists already$"):
        Index.create(tmp_path / "file", 2)


def test_bad_settings(tmp_path):
    for dim in (0, -1, 2.0, True, "2"):
        with pytest.raises(ValueError, match=r"^dim: expected a whole number of at least 1, got"):
            Index.create(tmp_path, dim)
    with pytest.raises(ValueError, match=r"^metric: expected one of cosine, dot, l2, got 'angle'$"):
        Index.create(tmp_path, 2, metric="angle")
    with pytest.raises(TypeError, match=r"^encoder: expected a name or fingerprint, got int$"):
        Index.create(tmp_path, 2, encoder=3)
    assert list(tmp_path.iterdir()) == []


def test_locate(tmp_path):
    assert locate(tmp_path / "run") == (tmp_path / "run", "index")
    assert locate(tmp_path / "run" / "texts.lance") == (tmp_path / "run", "texts")
    for name in ("a b.lance", "..lance", "ä.lance"):
        with pytest.raises(ValueError, match=r"^path: a table's name is made of"):
            locate(tmp_path / name)
    with pytest.raises(ValueError, match=r"^path: an index lies in a local folder, got 's3://bucket/x'$"):
        locate("s3://bucket/x")
    with pytest.raises(TypeError, match=r"^path: expected a string or a path, got int$"):
        locate(3)
