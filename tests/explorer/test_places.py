"""Where items lie on the map."""

import time

import numpy as np
import pytest

from nolabel.explorer.opened import FOLDER, OpenRun
from nolabel.explorer.places import Places, main_plane
from nolabel.explorer.umap_layout import umap_points
from nolabel.search import Index


def groups(n=90, seed=0):
    """Three groups of unit vectors, far apart."""
    rng = np.random.default_rng(seed)
    z = np.eye(8, dtype=np.float32)[np.arange(n) % 3] + 0.05 * rng.normal(size=(n, 8)).astype(np.float32)
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def apart(points, n=90):
    """Whether each of three groups is closer together than any two groups are."""
    centres = np.array([points[np.arange(n) % 3 == group].mean(axis=0) for group in range(3)])
    inside = max(np.linalg.norm(points[g::3] - centres[g], axis=1).max() for g in range(3))
    between = min(np.linalg.norm(centres[a] - centres[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    return between > 2 * inside


def test_main_plane_is_that_of_the_covariance():
    z = groups()
    plane = main_plane(z)
    assert apart(plane)
    u, s, _ = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    exact = (u * s)[:, :2]
    correlations = [abs(np.corrcoef(plane[:, axis], exact[:, axis])[0, 1]) for axis in (0, 1)]
    assert min(correlations) > 0.9999
    assert np.ptp(plane, axis=0).max() == pytest.approx(2)


def test_rows_that_do_not_differ_and_no_rows_have_places():
    assert main_plane(np.ones((4, 3))).shape == (4, 2)
    assert np.isfinite(main_plane(np.ones((4, 3)))).all()
    assert main_plane(np.zeros((0, 3))).shape == (0, 2)
    assert main_plane(np.ones((1, 1))).shape == (1, 2)


@pytest.mark.umap
def test_umap_of_landmarks_and_of_those_between():
    z = groups()
    points = umap_points(z, landmarks=60)
    assert points.dtype == np.float32
    assert np.abs(points).max() == 1
    assert apart(points)
    np.testing.assert_array_equal(points, umap_points(z, landmarks=60))


QUICK = """
class UMAP:
    def __init__(self, **options): assert options["random_state"] == 0
    def fit_transform(self, z): return z[:, [1, 0]]
"""


@pytest.mark.umap
def test_umap_takes_the_place_of_the_plane_and_is_kept(tmp_path, monkeypatch):
    (tmp_path / "umap.py").write_text(QUICK)  # the real one compiles for half a minute
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    index = Index.create(tmp_path / "run", dim=8)
    index.add(groups())
    run = OpenRun(tmp_path / "run")
    places = Places(run)
    try:
        first = places.current()
        assert (first.state, first.method) == ("pca", "PCA")
        begun = time.monotonic()
        while places.current().state == "pca":
            assert time.monotonic() - begun < 300
            time.sleep(0.2)
        ready = places.current()
        assert (ready.state, ready.method, ready.note) == ("ready", "UMAP", "")
        assert ready.key != first.key
        assert apart(ready.points)
    finally:
        places.stop()
    index.update([5], payload={"name": ["marked"]})  # lies elsewhere now, and is the same
    again = Places(OpenRun(tmp_path / "run")).current()
    np.testing.assert_array_equal(again.points, ready.points)
    index.delete(ids=[5])
    fresh = Places(OpenRun(tmp_path / "run"))
    try:
        assert (fresh.current().state, len(fresh.current().points)) == ("pca", 89)
    finally:
        fresh.stop()


@pytest.mark.umap
def test_a_map_that_cannot_be_read_or_made_is_said(tmp_path, monkeypatch):
    Index.create(tmp_path / "run", dim=8).add(groups())
    run = OpenRun(tmp_path / "run")
    (run.folder / FOLDER).mkdir()
    (run.folder / FOLDER / f"umap-{run.rows().key}.npy").write_bytes(b"no array")
    monkeypatch.setattr("nolabel.explorer.places.sys.executable", "/bin/false")
    places = Places(run)
    assert places.current().state == "pca"
    begun = time.monotonic()
    while places.current().state == "pca":
        assert time.monotonic() - begun < 60
        time.sleep(0.05)
    assert places.current().note == "UMAP failed: exit code 1"
    monkeypatch.setattr("nolabel.explorer.places.importlib.util.find_spec", lambda name: None)
    assert "pip install 'nolabel[viz]'" in Places(run).current().note
