"""The map by UMAP, made in a process of its own: `python -m nolabel.explorer.umap_layout RUN`.

UMAP (McInnes, Healy and Melville 2018, arXiv:1802.03426) places at most `LANDMARKS` rows; every other row goes between its
nearest landmarks. The result is kept in the run's folder under the key of its vectors.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch

from nolabel.explorer.opened import FOLDER, OpenRun
from nolabel.report.layout import main_components, place_between

LANDMARKS = 20_000
FEWEST = 10  # fewer rows have no neighbourhoods: their main components say all
NEIGHBOURS = 15


def file_of(folder: Path, key: str) -> Path:
    return folder / FOLDER / f"umap-{key}.npy"


def fitted(points: np.ndarray) -> np.ndarray:
    """Points (n, 2) moved and scaled alike in both directions so that the larger side spans [-1, 1]; float32.

    >>> fitted(np.array([[0.0, 0.0], [10.0, 5.0]])).tolist()
    [[-1.0, -0.5], [1.0, 0.5]]
    """
    low, high = points.min(axis=0), points.max(axis=0)
    span = max(float((high - low).max()), 1e-12)
    return (2 * (points - (low + high) / 2) / span).clip(-1, 1).astype(np.float32)


def umap_points(vectors: np.ndarray, *, landmarks: int = LANDMARKS, random_state: int = 0) -> np.ndarray:
    """Lay out unit vectors (n >= 10, d) on a plane: float32 (n, 2) in [-1, 1]."""
    from umap import UMAP

    z = main_components(vectors, random_state)
    order = np.random.default_rng(random_state).permutation(len(z))
    chosen, rest = np.sort(order[:landmarks]), np.sort(order[landmarks:])
    model = UMAP(n_neighbors=min(NEIGHBOURS, len(chosen) - 1), init="pca", random_state=random_state, n_jobs=1)
    points = np.empty((len(z), 2))
    threads = torch.get_num_threads()
    try:
        points[chosen] = model.fit_transform(z[chosen])
    finally:
        torch.set_num_threads(threads)  # Numba gives the whole process as many threads as there are cores
    if len(rest):
        points[rest] = place_between(z[rest], z[chosen], points[chosen])
    return fitted(points)


def write(folder: Path) -> None:
    """Make the map of a run and put it beside the run's other files in one step."""
    run = OpenRun(folder)
    rows = run.rows()
    final = file_of(run.folder, rows.key)
    partial = final.with_name(f".{final.stem}.{os.getpid()}.npy")
    final.parent.mkdir(exist_ok=True)
    try:
        np.save(partial, umap_points(rows.vectors), allow_pickle=False)
        os.replace(partial, final)
    finally:
        partial.unlink(missing_ok=True)
    for other in final.parent.glob("umap-*.npy"):
        if other != final:
            other.unlink(missing_ok=True)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
