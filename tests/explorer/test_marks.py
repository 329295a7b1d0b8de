"""Marks: saved at once, undone by those who made them, nothing lost among several writers."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from nolabel.explorer.marks import CannotUndo, Marks
from nolabel.explorer.opened import NoSuchItem, OpenRun
from nolabel.search import Index


@pytest.fixture
def run(tmp_path):
    index = Index.create(tmp_path / "run", dim=3)
    index.add(np.random.default_rng(0).normal(size=(200, 3)), {"name": [f"item {i}" for i in range(200)]})
    return OpenRun(tmp_path / "run")


def held(run, *ids):
    table = Index(run.folder).rows(list(ids))
    return list(zip(table["curated"].to_pylist(), table["curated_tags"].to_pylist()))


def test_marks_and_tags_are_columns_of_the_index(run):
    marks = Marks(run)
    assert marks.summary("a")["undo"] is None
    assert marks.change([1, 2, 2], "a", mark="keep", marks=True, add=["night", " blurred "]) == 2
    assert held(run, 1, 2, 3) == [("keep", "night, blurred"), ("keep", "night, blurred"), (None, None)]
    assert marks.change([1, 2], "a", mark="keep", marks=True) == 0  # nothing changes, nothing to undo
    assert marks.change([2, 3], "a", remove=["night"]) == 1
    assert marks.change([1], "a", mark=None, marks=True) == 1
    assert held(run, 1, 2, 3) == [(None, "night, blurred"), ("keep", "blurred"), (None, None)]
    summary = marks.summary("a")
    assert summary["marks"] == {"keep": 1, "drop": 0, "wrong label": 0}
    assert summary["tags"] == {"blurred": 2, "night": 1}
    assert summary["undo"] == "no mark: 1 item"
    assert len(Index(run.folder).ids("curated = 'keep'")) == 1


def test_everybody_undoes_his_own_steps_also_in_another_process(run):
    Marks(run).change([1, 2], "ann", mark="keep", marks=True)
    Marks(run).change([3], "bob", mark="drop", marks=True)
    Marks(run).change([1], "ann", add=["x"])
    again = Marks(OpenRun(run.folder))
    assert again.undo("ann") == 1
    assert again.undo("ann") == 2
    with pytest.raises(CannotUndo, match="nothing to undo"):
        again.undo("ann")
    assert held(run, 1, 2, 3) == [(None, None), (None, None), ("drop", None)]


def test_what_others_changed_since_is_not_undone(run):
    marks = Marks(run)
    marks.change([1, 2], "ann", mark="keep", marks=True)
    marks.change([2], "bob", mark="drop", marks=True)
    with pytest.raises(CannotUndo, match="keep: 2 items cannot be undone: item 2 was changed again since"):
        marks.undo("ann")
    assert held(run, 1, 2) == [("keep", None), ("drop", None)]
    marks.undo("bob")
    marks.undo("ann")
    assert held(run, 1, 2) == [(None, None), (None, None)]


def test_items_that_are_gone_are_named_and_nothing_is_changed(run):
    marks = Marks(run)
    with pytest.raises(NoSuchItem, match="no row 999"):
        marks.change([1, 999], "a", mark="keep", marks=True)
    assert "curated" not in Index(run.folder).schema.names
    marks.change([5], "a", mark="keep", marks=True)
    Index(run.folder).delete(ids=[5])
    with pytest.raises(CannotUndo, match="no row 5"):
        marks.undo("a")


def test_a_step_that_a_killed_process_left_half_done_never_happened(run):
    marks = Marks(run)
    marks.change([1], "a", mark="keep", marks=True)
    entry = {"step": 2, "session": "a", "ids": [7], "before": [[None, None]], "after": [["drop", None]], "said": "drop"}
    with marks.journal.open("ab") as file:
        file.write(json.dumps(entry).encode() + b'\n{"step": 3, "sess')
    assert marks.undo("a") == 1
    assert held(run, 1, 7) == [(None, None), (None, None)]


def test_a_torn_line_does_not_swallow_the_next_step(run):
    marks = Marks(run)
    marks.journal.parent.mkdir()
    marks.journal.write_bytes(b'{"step": 1, "sess')
    marks.change([1], "a", mark="keep", marks=True)
    assert marks.summary("a")["undo"] == "keep: 1 item"
    assert marks.undo("a") == 1


ADDER = """
import sys, numpy as np
from nolabel.search import Index
from nolabel.search.files import when_free
index = Index(sys.argv[1])
for piece in range(15):
    when_free(lambda: index.add(np.full((4, 3), piece + 1.0), {"name": [f"new {piece}"] * 4}))
"""


def test_two_browsers_and_a_writer_at_the_same_time_lose_nothing(run):
    adder = subprocess.Popen([sys.executable, "-c", ADDER, str(run.folder)])
    failed = []

    def browser(name, first):
        marks = Marks(OpenRun(run.folder))  # as another process would have it
        try:
            for number in range(first, first + 12):
                marks.change([number, 150], name, add=[f"{name}{number}"])
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=browser, args=(name, first)) for name, first in (("a", 0), ("b", 50))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert adder.wait() == 0
    assert not failed
    index = Index(run.folder)
    assert len(index) == 260
    assert [tags for _, tags in held(run, *range(12))] == [f"a{n}" for n in range(12)]
    assert [tags for _, tags in held(run, *range(50, 62))] == [f"b{n}" for n in range(50, 62)]
    both = held(run, 150)[0][1].split(", ")
    assert sorted(both) == sorted([f"a{n}" for n in range(12)] + [f"b{n}" for n in range(50, 62)])
