"""Where every item lies on the map: by main components at once, by UMAP as soon as that is made."""

import importlib.util
import subprocess
import sys
import threading
from dataclasses import dataclass, field

import numpy as np

from nolabel.explorer.opened import OpenRun, Rows
from nolabel.explorer.umap_layout import FEWEST, file_of, fitted

PIECE = 8192  # rows
MISSING = "UMAP is drawn where umap-learn is installed: pip install 'nolabel[viz]'"


@dataclass(frozen=True)
class Picture:
    """One layout of all rows.

    Attributes
    ----------
    state : "pca" while a better layout is being made, else "ready"
    method : "PCA" or "UMAP"
    rows : whose ids and order these are
    points : float32 (n, 2) in [-1, 1]
    note : why there is no UMAP, or ""
    """

    state: str
    method: str
    rows: Rows
    points: np.ndarray = field(repr=False)
    note: str = ""

    @property
    def key(self) -> str:
        return f"{self.method.lower()}-{self.rows.key}"


def main_plane(vectors: np.ndarray) -> np.ndarray:
    """Project rows (n, d) on their two main components: float32 (n, 2) in [-1, 1].

    >>> main_plane(np.array([[0.0, 0, 1], [0, 4, 1], [0, 8, 1]])).round(3).tolist()
    [[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]
    """
    if not len(vectors):
        return np.zeros((0, 2), dtype=np.float32)
    mean = vectors.mean(axis=0)
    scatter = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), PIECE):  # no second copy of all rows
        centred = vectors[start : start + PIECE] - mean
        scatter += centred.T @ centred
    _, directions = np.linalg.eigh(scatter)
    plane = np.zeros((len(vectors), 2), dtype=np.float32)
    found = directions[:, ::-1][:, :2]
    found = found * np.where(found[np.abs(found).argmax(axis=0), range(found.shape[1])] < 0, -1, 1)
    plane[:, : found.shape[1]] = vectors @ found.astype(vectors.dtype) - mean @ found
    return fitted(plane)


class Places:
    """The layouts of a run, made again when rows came or went."""

    def __init__(self, run: OpenRun) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._plane: tuple[str, np.ndarray] | None = None
        self._umap: tuple[str, np.ndarray] | None = None
        self._making: tuple[str, subprocess.Popen[str]] | None = None
        self._failed: dict[str, str] = {}
        self._asked = ""  # for which rows a layout was asked

    def current(self) -> Picture:
        """The best layout there is now; what is better is on its way while its state is "pca"."""
        rows = self.run.rows()
        with self._lock:
            if self._umap is None or self._umap[0] != rows.key:
                self._umap = self._kept(rows)
            if self._umap is not None:
                return Picture("ready", "UMAP", rows, self._umap[1])
            if self._plane is None or self._plane[0] != rows.key:
                self._plane = (rows.key, main_plane(rows.vectors))
            state, note = self._progress(rows)
            return Picture(state, "PCA", rows, self._plane[1], note)

    def stop(self) -> None:
        """End what goes on in the background: the process that makes a layout, the reading of the learner."""
        self.run.stop()
        with self._lock:
            if self._making is not None:
                self._making[1].kill()
                self._making[1].communicate()
                self._making = None

    def _kept(self, rows: Rows) -> tuple[str, np.ndarray] | None:
        path = file_of(self.run.folder, rows.key)
        if not path.exists():
            return None
        try:
            points = np.load(path, allow_pickle=False)
        except (OSError, ValueError):
            return None
        right = points.shape == (len(rows.ids), 2) and points.dtype == np.float32 and np.isfinite(points).all()
        return (rows.key, points) if right else None

    def _progress(self, rows: Rows) -> tuple[str, str]:
        """Start or look after the process, once it is asked again; the state and, where there will be no UMAP, why."""
        if len(rows.ids) < FEWEST:
            return "ready", ""
        if importlib.util.find_spec("umap") is None:
            return "ready", MISSING
        if rows.key in self._failed:
            return "ready", self._failed[rows.key]
        if self._making is not None:
            key, process = self._making
            if process.poll() is None:
                return "pca", ""
            said = process.communicate()[1].strip().splitlines()
            self._making = None
            if key == rows.key:  # it ended, and left nothing for these rows
                self._failed[key] = f"UMAP failed: {said[-1] if said else f'exit code {process.returncode}'}"
                return "ready", self._failed[key]
        if self._asked != rows.key:  # the first picture comes before anything competes with it for the processor
            self._asked = rows.key
            return "pca", ""
        command = [sys.executable, "-m", "nolabel.explorer.umap_layout", str(self.run.folder)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self._making = (rows.key, process)
        return "pca", ""
