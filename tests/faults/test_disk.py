"""A full disk and a read-only folder: one line that names the place, nothing half-written, what was there before unharmed."""

import json
import os
import resource
import shutil
import subprocess
from contextlib import contextmanager

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.commands import told
from tests.faults.kills import TINY, files_of, write_images

import nolabel
from nolabel.cli.app import main
from nolabel.data import open_images, read
from nolabel.learn import Untrained
from nolabel.report.report import ReportContents, write_report
from nolabel.search import Index, derived
from nolabel.training import Training, identity
from nolabel.training.estimator import write_tensors, write_text
from nolabel.training.journal import Journal

LEARN = [
    "--method",
    "simclr",
    *TINY,
    "--epochs",
    "1",
    "--batch-size",
    "16",
    "--lr",
    "0.01",
    "--set",
    "projection=(16,8)",
]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Disk:
    """A small file system of its own."""

    def __init__(self, place):
        self.place = place
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "nolabel-test", place], check=True, capture_output=True
        )

    def options(self, options):
        subprocess.run(["mount", "-o", f"remount,{options}", self.place], check=True, capture_output=True)

    @contextmanager
    def leaving(self, room):
        """As if all but so many bytes were taken."""
        status = os.statvfs(self.place)
        filler = self.place / "filler"
        filler.write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - room)))
        try:
            yield
        finally:
            filler.unlink()

    @contextmanager
    def read_only(self):
        self.options("ro")
        try:
            yield
        finally:
            self.options("rw")


@pytest.fixture
def disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    try:
        made = Disk(place)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system of its own may not be mounted here: {getattr(error, 'stderr', error)}")
    yield made
    subprocess.run(["umount", "--lazy", place], check=True)


@contextmanager
def no_file_above(size):
    """Files may not grow beyond so many bytes: what a full disk is to a writer, where nothing may be mounted."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_images(folder, 0, 40)
    return folder


@pytest.fixture(scope="module")
def learned(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned") / "run"
    with pytest.raises(SystemExit) as stop:
        main(["learn", str(photos), "--out", str(folder), *LEARN])
    assert stop.value.code == 0
    return folder


def partials(folder):
    return [path.name for path in folder.rglob("*") if "partial" in path.name or path.name.endswith(".part")]


# A full disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [4096, 60_000, 250_000, 420_000])
def test_learn_on_a_full_disk(disk, photos, learned, room, capsys):
    """Wherever it ends, it says so, and with more room it goes on to the same result."""
    folder = disk.place / "run"
    with disk.leaving(room):
        code, out, lines = told(capsys, "learn", photos, "--out", folder, *LEARN)
        assert (code, out, len(lines)) == (2, "", 1), lines
        assert str(folder) in lines[0]
        assert "No space left on device" in lines[0]
        assert partials(folder) == []
        assert not (folder / "report.html").exists()
    trained = (folder / "config.json").exists()
    code, _, lines = told(capsys, "learn", photos, "--out", folder, *LEARN, *(["--resume"] if trained else []))
    assert code == 0, lines
    assert (folder / "model.safetensors").read_bytes() == (learned / "model.safetensors").read_bytes()
    assert files_of(folder) == files_of(learned)


def test_embed_on_a_full_disk(disk, photos, learned, capsys):
    out = disk.place / "z.parquet"
    assert told(capsys, "embed", learned, photos, "--out", out)[0] == 0
    before = out.read_bytes()
    with disk.leaving(4096):
        code, _, lines = told(capsys, "embed", learned, photos / "1", "--out", out)
        assert (code, len(lines)) == (2, 1)
        assert lines[0] == f"nolabel: [Errno 28] No space left on device: '{out}'"
    assert out.read_bytes() == before
    assert sorted(os.listdir(disk.place)) == ["z.parquet"]


def test_an_index_on_a_full_disk(disk, monkeypatch):
    X = np.random.default_rng(0).normal(size=(3000, 16)).astype(np.float32)
    index = Index.create(disk.place, 16)
    index.add(X[:200], {"n": np.arange(200)})
    with disk.leaving(8192):
        for write in (
            lambda: index.add(X, {"n": np.arange(3000)}),
            lambda: index.update(np.arange(100), payload={"new": ["x" * 2000] * 100}),
            index.compact,
        ):
            with pytest.raises(OSError, match=r"^could not write the index .*index.lance: .*No space left on device"):
                write()
    for opened in (index, Index.open(disk.place)):
        assert len(opened) == 200
        assert opened.search(X[5], 1).ids.tolist() == [5]
    assert index.add(X[200:], {"n": np.arange(200, 3000)}).tolist() == list(range(200, 3000))
    monkeypatch.setattr(derived, "BESIDE_ROWS", 500)  # from here on it is searched through a structure
    for room in (
        0,
        60_000,
        150_000,
        250_000,
    ):  # the matrix is mapped: were its room not taken, writing it would be the end
        with (
            disk.leaving(room),
            pytest.warns(UserWarning, match=r"every row is compared, .*index.faiss.* cannot be written"),
        ):
            assert Index.open(disk.place).search(X[2500], 1).ids.tolist() == [2500]
        assert [path for path in (disk.place / "index.faiss").glob("*") if path.is_dir()] == []
    searched = Index.open(disk.place)
    assert searched.search(X[2500], 1).ids.tolist() == [2500]
    assert searched.info()["structure_rows"] == 3000


def test_a_cache_on_a_full_disk(disk, photos):
    table = read(photos)
    cache = disk.place / "cache"
    with disk.leaving(4096), pytest.raises(OSError, match=f"^.Errno 28. No space left on device: '{cache}"):
        open_images(table, size=16, folder=cache)
    assert len(open_images(table, size=16, folder=cache)) == 40


def test_files_that_may_not_grow(tmp_path, learned, photos):
    """Without a disk of its own: every kind of file stops in its middle."""
    model = shutil.copytree(learned, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()}
    contents = ReportContents(
        title="title",
        embeddings=np.random.default_rng(0).normal(size=(60, 8)),
        texts=lambda rows: ["words"] * len(rows),
    )
    import torch

    writers = {
        "model.safetensors": lambda: nolabel.load(model).save(model),
        "report.html": lambda: write_report(model / "report.html", contents),
        "config.json": lambda: write_text(model / "config.json", "x" * 10_000),
        "tensors": lambda: write_tensors(model / "tensors", {"a": torch.zeros(5000)}, {}),
        "metrics.jsonl": lambda: Journal(model, [{"step": 1, "loss": 0.5, "long": "x" * 5000}], None),
    }
    for name, write in writers.items():
        with (
            no_file_above(4096),
            pytest.raises(OSError, match=rf"{name}.*(File too large|os error 27)|File too large.*{name}"),
        ):
            write()
        assert partials(model) == [], name
    assert {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()} == before
    index = Index.open(model, encoder=identity(model))
    rows = len(index)
    with no_file_above(2000), pytest.raises(OSError, match=r"^could not write the index .*run/index.lance: "):
        index.add(np.ones((500, index.dim)), {"path": ["x" * 100] * 500})
    assert len(Index.open(model)) == rows


def test_a_checkpoint_that_finds_no_room_leaves_the_last_one(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (32, 16, 16), dtype=np.uint8)
    from nolabel.learn import RotNet

    def learner():
        return RotNet("resnet10-x0.125", image_size=16, training=Training(steps=6, batch_size=16, checkpoint_seconds=0))

    class Full(RotNet):
        def after_step(self, net, clock):
            if clock.step == 4:
                resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))

    full = Full(**learner().get_params(deep=False))
    Full.__name__ = "RotNet"
    try:
        with pytest.raises(OSError, match=r"^could not write .*checkpoint.safetensors: .*os error 27"):
            full.fit(images, run=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    resumed = learner().fit(images, run=tmp_path, resume=True)
    unbroken = learner().fit(images)
    for one, other in zip(resumed.net_.state_dict().values(), unbroken.net_.state_dict().values(), strict=True):
        assert np.array_equal(one.numpy(), other.numpy())


# A read-only folder ---------------------------------------------------------------------------------------------------


def test_a_read_only_folder(disk, photos, learned, capsys, tmp_path, monkeypatch):
    """What only reads works, without leaving anything; what writes says that it cannot, and where."""
    folder = shutil.copytree(learned, disk.place / "run")
    table = files_of(folder)
    with disk.read_only():
        for words in (
            ("learn", photos, "--out", disk.place / "new", *LEARN),
            ("clean", photos, "--out", disk.place / "new"),
            ("embed", folder, photos / "1", "--out", disk.place / "z.parquet"),
            ("embed", folder, photos / "1", "--add", "--out", tmp_path / "z.parquet"),
        ):
            code, _, lines = told(capsys, *words)
            assert (code, len(lines)) == (2, 1), lines
            assert "Read-only file system" in lines[0]
            assert str(disk.place) in lines[0]
        assert told(capsys, "embed", folder, photos, "--out", tmp_path / "z.parquet")[0] == 0
        code, out, _ = told(capsys, "search", folder, "id:3", "-k", 1, "--json")
        assert (code, json.loads(out)[0]["id"]) == (0, 3)
        assert told(capsys, "assess", folder, "--json")[0] == 0
        monkeypatch.setattr(derived, "BESIDE_ROWS", 10)  # it would be searched through a structure
        index = Index.open(folder)
        vector = index.rows([7])["vector"][0].as_py()
        with pytest.warns(UserWarning, match=r"every row is compared, .*Read-only file system"):
            found = index.search(vector, 1)
        assert found.ids.tolist() == [7]
    assert files_of(folder) == table
    assert pq.read_table(tmp_path / "z.parquet").num_rows == 40


def test_a_folder_below_a_file(photos, capsys, tmp_path):
    (tmp_path / "file").write_text("x")
    for words in (("learn", photos, *LEARN), ("clean", photos)):
        code, _, lines = told(capsys, *words, "--out", tmp_path / "file" / "run")
        assert (code, len(lines)) == (2, 1)
        assert str(tmp_path / "file") in lines[0]
    with pytest.raises(OSError, match="file"):
        Untrained("resnet10-x0.125", image_size=16).fit(read(photos)).save(tmp_path / "file" / "run")
