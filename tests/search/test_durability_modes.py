"""Killed writers, lost and damaged structures, and a second process, for every kind of search at once."""

import inspect
import os
import shutil
import signal
import subprocess
import sys
import time

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from nolabel.data.locks import exclusive
from nolabel.search import Index, derived

WORDS = 30


def rows(number, count=100):
    """What `Index.add` takes, the same for the same number."""
    rng = np.random.default_rng(number)
    texts = [" ".join(rng.choice(["alpha", "beta", "gamma", "delta"], 5)) for _ in range(count)]
    return {
        "vectors": rng.normal(size=(count, 8)),
        "codes": rng.random((count, 16)) < 0.5,
        "sparse": sparse.random_array((count, 30), density=0.2, format="csr", rng=number),
        "payload": {"title": [f"{text} add{number}" for text in texts], "add": [number] * count},
    }


IMPORTS = "import sys\nimport numpy as np\nfrom scipy import sparse\nfrom nolabel.search import Index, derived\n"
KILLED_WRITER = f"""{IMPORTS}
{inspect.getsource(rows)}
index = Index(sys.argv[1])
for number in range(10_000):
    index.add({{**rows(3 * number + piece), "payload": rows(3 * number)["payload"]}} for piece in range(3))
    print(number, flush=True)
"""

SECOND_PROCESS = f"""{IMPORTS}
derived.BESIDE_ROWS = 200
print(Index(sys.argv[1]).search("add7", 3).ids.tolist())
"""


def made(path):
    return Index.create(path, 8, bits=16, vocabulary=WORDS, text="title")


def queries(number):
    """A query of each kind, made of the first row that is added under this number."""
    given = rows(number)
    return {
        "dense": given["vectors"][0],
        "binary": given["codes"][0],
        "sparse": given["sparse"][[0]].toarray()[0],
        "bm25": f"add{number} alpha",
    }


def answers(index, number, k=5):
    return {
        mode: (hits.ids.tolist(), hits.scores.tolist())
        for mode, query in queries(number).items()
        for hits in [index.search(query, k, mode=mode, exact=mode in ("dense", "binary"))]
    }


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(derived, "BESIDE_ROWS", 200)


def run(code, path):
    command = [sys.executable, "-c", code, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_killed_in_the_middle_of_an_add(tmp_path):
    made(tmp_path)
    writer = run(KILLED_WRITER, tmp_path)
    assert writer.stdout.readline() == "0\n"
    time.sleep(0.05)
    writer.send_signal(signal.SIGKILL)  # it does nothing but add, so this falls into an add
    reported = 1 + len(writer.stdout.read().splitlines())
    assert writer.wait() == -signal.SIGKILL
    index = Index(tmp_path)
    adds = len(index) // 300
    assert len(index) == 300 * adds
    assert adds in (reported, reported + 1)
    last, row = 3 * (adds - 1), 300 * (adds - 1)
    found = answers(index, last)
    assert row in found["dense"][0]
    assert row in found["binary"][0]
    ids, scores = answers(index, last, k=len(index))["sparse"]  # a row need not be the best of its own products
    assert scores[ids.index(row)] == pytest.approx((queries(last)["sparse"] ** 2).sum(), rel=1e-3)
    assert set(index.search(f"add{last}", 500).ids) == set(range(row, row + 300))
    assert index.add(**rows(0))[0] == 300 * adds
    index.compact()
    assert len(Index(tmp_path).search("alpha", 3)) == 3


def damage(folder, how):
    bases = [path for path in folder.iterdir() if path.is_dir()]
    assert len(bases) == 4
    for base in bases:
        if how == "lost":
            shutil.rmtree(base)
        elif how == "notes":
            (base / "structure.json").write_text("{}")
        elif how == "cut":
            largest = max(base.iterdir(), key=lambda file: file.stat().st_size)
            os.truncate(largest, largest.stat().st_size // 2)
        elif how == "zeroed":
            for name in ("matrix", "codes", "weights"):
                if (base / f"{name}.npy").exists():
                    with (base / f"{name}.npy").open("r+b") as file:
                        file.seek(600)
                        file.write(bytes(600))
        elif how == "ids":
            (base / "ids.npy").unlink()


@pytest.mark.parametrize("how", ["lost", "notes", "cut", "zeroed", "ids"])
def test_lost_or_damaged_structures_are_rebuilt(tmp_path, small_limits, caplog, how):
    index = made(tmp_path)
    index.add(rows(number) for number in range(5))
    before = answers(index, 3)
    assert {name: each["structure_rows"] for name, each in index.info()["structures"].items()} == dict.fromkeys(
        before, 500
    )
    damage(tmp_path / "index.faiss", how)
    with caplog.at_level("INFO", logger="nolabel.search"):
        assert answers(Index(tmp_path), 3) == before
    assert caplog.text.count("building the search structure") == 4
    assert len([path for path in (tmp_path / "index.faiss").iterdir() if path.is_dir()]) == 4
    caplog.clear()
    with caplog.at_level("INFO", logger="nolabel.search"):
        assert answers(Index(tmp_path), 3) == before
    assert caplog.text == ""  # the next process finds them sound


def test_one_kind_rebuilt_leaves_the_others(tmp_path, small_limits):
    index = made(tmp_path)
    index.add(rows(number) for number in range(5))
    answers(index, 3)
    names = {path.name for path in (tmp_path / "index.faiss").iterdir() if path.is_dir()}
    index.add(rows(number) for number in range(5, 10))
    assert set(index.search("add7", 200).ids) == set(range(700, 800))
    now = {path.name for path in (tmp_path / "index.faiss").iterdir() if path.is_dir()}
    assert len(now) == 4
    assert len(now - names) == 1


def test_of_a_replaced_data_set_nothing_is_used(tmp_path, small_limits):
    first = made(tmp_path)
    first.add(rows(number) for number in range(5))
    answers(first, 3)
    shutil.rmtree(tmp_path / "index.lance")
    second = made(tmp_path)
    second.add(rows(number) for number in range(10, 15))
    expected = made(tmp_path / "elsewhere")
    expected.add(rows(number) for number in range(10, 15))
    assert answers(second, 13) == answers(expected, 13)
    with pytest.raises(ValueError, match=r"was replaced by another: open it again$"):
        first.search("alpha")


def test_a_second_process_builds_and_finds_what_the_first_wrote(tmp_path, small_limits):
    index = made(tmp_path)
    index.add(rows(number) for number in range(5))
    index.search("alpha")
    index.add(**rows(7))
    other = run(SECOND_PROCESS, tmp_path)
    assert other.stdout.read().strip() == str(index.search("add7", 3).ids.tolist())
    assert other.wait() == 0
    with exclusive(tmp_path / "index.lock", ""):
        with pytest.raises(BlockingIOError, match=rf"index.lance is in use by process {os.getpid()}"):
            index.add(**rows(8))
        assert len(index.search("add7", 3)) == 3  # readers are not kept out
    reader = Index(tmp_path)
    reader.search("alpha")
    Index(tmp_path).delete(where="add = 7")
    with pytest.raises(ValueError, match="has none of its words: add7"):
        reader.search("add7")


def test_what_another_program_changes_is_seen(tmp_path):
    index = made(tmp_path)
    index.add(**rows(0))
    index.search("alpha")
    table = lancedb.connect(tmp_path).open_table("index")
    table.update(where="id = 4", values={"title": "epsilon"})
    assert index.search("epsilon").ids.tolist() == [4]
    table.delete("id = 4")
    with pytest.raises(ValueError, match="none of its words: epsilon"):
        index.search("epsilon")
    row = table.search().where("id = 5").to_arrow().select(table.schema.names)
    number = pa.array([900], pa.int64())
    nulls = {name: pa.nulls(1, table.schema.field(name).type) for name in ("sparse_indices", "sparse_values", "title")}
    bare = {"id": number, **nulls}
    table.add(pa.table({name: bare.get(name, row[name]) for name in table.schema.names}, schema=table.schema))
    query = rows(0)["sparse"][[5]]
    assert 900 not in index.search(query, 200)[0].ids  # no sparse vector, no text: not found by these
    assert 900 in index.search(rows(0)["codes"][5], 2, mode="binary").ids


def test_compact_keeps_every_answer(tmp_path, small_limits):
    index = made(tmp_path)
    index.add(rows(number) for number in range(5))
    index.update([5, 3], payload={"title": ["zeta", "zeta"]})
    index.delete(where="id % 50 = 0")
    before = answers(index, 3, k=20)
    index.compact()
    assert answers(index, 3, k=20) == before
    assert answers(Index(tmp_path), 3, k=20) == before
