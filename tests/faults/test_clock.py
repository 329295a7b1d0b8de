"""A clock that is set back: nothing asks which of two times is the later one."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from tests.faults.kills import write_images

from nolabel.data import open_images, read
from nolabel.learn import RotNet
from nolabel.search import Index, derived
from nolabel.training import Training


@pytest.fixture
def backwards(monkeypatch):
    """The clock of the day goes back by an hour at every look; the one that counts seconds does not."""
    first = time.time()
    looks = iter(range(1, 10**9))
    monkeypatch.setattr(time, "time", lambda: first - 3600.0 * next(looks))
    monkeypatch.setattr(time, "time_ns", lambda: int((first - 3600.0 * next(looks)) * 1e9))


def older(folder):
    """As if everything in a folder had been written long ago: later writes then come before, and after, the others."""
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (1e9, 1e9))


def newer(folder):
    """As if everything in a folder had been written in a time that has not come yet."""
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (4e9, 4e9))


@pytest.mark.usefixtures("backwards")
@pytest.mark.parametrize("moved", [older, newer])
def test_an_index_follows_what_others_write(moved, tmp_path, monkeypatch):
    monkeypatch.setattr(derived, "BESIDE_ROWS", 60)
    X = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    reader = Index.create(tmp_path, 8)
    writer = Index.open(tmp_path)
    for start in range(0, 400, 50):
        writer.add(X[start : start + 50])
        if start % 100:
            moved(tmp_path)
        for _ in range(3):
            assert reader.search(X[start + 7], 1).ids.tolist() == [start + 7]
    writer.delete(ids=[7])
    assert 7 not in reader.search(X[7], 5).ids
    writer.compact()
    assert reader.search(X[8], 1).ids.tolist() == [8]
    assert Index.open(tmp_path).search(X[399], 1).ids.tolist() == [399]
    assert len(list((tmp_path / "index.lance" / "_versions").glob("*.manifest"))) == 1


def test_a_search_does_not_look_again_at_what_stays(tmp_path, monkeypatch):
    """Even where the last write is dated later than now."""
    index = Index.create(tmp_path, 2)
    index.add(np.eye(2))
    newer(tmp_path / "index.lance" / "_versions")
    index.search([1.0, 0.0], 1)
    time.sleep(0.15)
    index.search([1.0, 0.0], 1)
    monkeypatch.setattr(index._store._db, "open_table", lambda name: pytest.fail("it was opened again"))
    index.search([1.0, 0.0], 1)


AHEAD = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    int (*usual)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = usual(id, now);
    if (id == CLOCK_REALTIME) now->tv_sec += 36000;
    return failed;
}
"""

WRITER = """
import sys
import numpy as np
from nolabel.search import Index
index = Index.create(sys.argv[1], 2)
index.add(np.eye(2))
index.delete(ids=[0])
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc for a process whose clock is ahead")
def test_what_cannot_be_dropped_after_the_clock_was_set_back_is_said(tmp_path):
    """Lance drops versions that are older than now; those of a clock that was ahead stay, deleted rows and all."""
    (tmp_path / "ahead.c").write_text(AHEAD)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "ahead.so", "ahead.c", "-ldl"], cwd=tmp_path, check=True)
    ahead = os.environ | {"LD_PRELOAD": str(tmp_path / "ahead.so")}
    subprocess.run([sys.executable, "-c", WRITER, tmp_path / "run"], env=ahead, check=True)
    index = Index.open(tmp_path / "run")
    with pytest.warns(
        UserWarning, match=r"3 older versions of .*index.lance stay on the disk, .* clock had been set back"
    ):
        index.compact()
    assert index.search([0.0, 1.0]).ids.tolist() == [1]


@pytest.mark.usefixtures("backwards")
@pytest.mark.parametrize("moved", [older, newer])
def test_a_cache_is_known_again_and_a_changed_file_is_seen(moved, tmp_path, monkeypatch):
    write_images(tmp_path / "photos", 0, 12)
    cache = tmp_path / "cache"
    before = open_images(read(tmp_path / "photos"), size=8, folder=cache)
    moved(cache)
    monkeypatch.setattr("nolabel.data.cache_files.decode", lambda *given: pytest.fail("it was decoded again"))
    again = open_images(read(tmp_path / "photos"), size=8, folder=cache)
    assert np.array_equal(before.images(range(12)), again.images(range(12)))
    monkeypatch.undo()
    moved(tmp_path / "photos")  # the files have another time: as if each had been written over
    changed = next(iter((tmp_path / "photos").rglob("*.png")))
    other = next(path for path in (tmp_path / "photos").rglob("*.png") if path != changed)
    changed.write_bytes(other.read_bytes())
    os.utime(changed, (5e8, 5e8))  # before all others
    seen = open_images(read(tmp_path / "photos"), size=8, folder=cache)
    assert not np.array_equal(before.images(range(12)), seen.images(range(12)))


@pytest.mark.usefixtures("backwards")
def test_a_run_is_resumed_bit_by_bit(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (32, 16, 16), dtype=np.uint8)

    class Cut(RotNet):
        def before_step(self, net, clock):
            if clock.step == 3 and stop:
                raise KeyError

    def learner(cls):
        return cls("resnet10-x0.125", image_size=16, training=Training(steps=5, batch_size=16, checkpoint_seconds=0))

    stop, unbroken = True, learner(RotNet).fit(images)
    Cut.__name__ = "RotNet"
    with pytest.raises(KeyError):
        learner(Cut).fit(images, run=tmp_path)
    older(tmp_path)
    resumed = learner(RotNet).fit(images, run=tmp_path, resume=True)
    for one, other in zip(resumed.net_.state_dict().values(), unbroken.net_.state_dict().values(), strict=True):
        assert np.array_equal(one.numpy(), other.numpy())
    assert resumed.seconds_ > 0
    seconds = [row["seconds"] for row in resumed.history_]
    assert seconds == sorted(seconds)
