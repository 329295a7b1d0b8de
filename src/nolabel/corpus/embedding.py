"""Vectors of the pieces of a corpus by a trained run."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nolabel.corpus.mapping import Made
from nolabel.data.caching import passing_cache
from nolabel.data.dom_pages import with_text
from nolabel.data.reading import read
from nolabel.data.sources import NothingUsable

SAVED = ("config.json", "model.safetensors")


class Embedding:
    """A function for `map_corpus`: the column ``vector``, float32 of one width, by what a run folder has learned.

    It carries the files of the run with it, so workers on other machines need not see the folder; each loads the model once.

    Parameters
    ----------
    run : a run folder of `nolabel learn`
    columns : new name to the name in the corpus, such as ``{"image": "photo"}``
    layer : what to take of an encoder of images, as in `ImageLearner.transform`
    """

    def __init__(self, run: str | Path, *, columns: dict[str, str] | None = None, layer: str | None = None) -> None:
        from nolabel.training import identity

        folder = Path(run)
        self._learner = _loaded(folder)
        self._files = {
            str(file.relative_to(folder)): file.read_bytes() for name in SAVED for file in sorted(folder.rglob(name))
        }
        self.columns, self.layer = columns, layer
        self.job = {"run": identity(folder), "columns": columns, "layer": layer}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_learner": None}

    @property
    def learner(self) -> Any:
        if self._learner is None:  # in another process
            with tempfile.TemporaryDirectory() as scratch:
                for name, content in self._files.items():
                    file = Path(scratch) / name
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(content)
                self._learner = _loaded(Path(scratch))
        return self._learner

    def __call__(self, piece: pa.Table) -> Made:
        with passing_cache(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".* were skipped, first")  # they are listed
            table = with_text(read(piece, columns=self.columns))
            try:
                opened = self.learner.open_one(table, None)
            except NothingUsable as error:
                return Made(np.zeros(0, np.int64), pa.table({}), error.skipped)
            chosen = {} if self.layer is None else {"layer": self.layer}
            vectors = self.learner.transform_source(opened, **chosen)
        source = opened.sources[0] if hasattr(opened, "sources") else opened
        listed = hasattr(source, "rows")  # else every row has a vector
        rows = np.asarray(source.rows, np.int64) if listed else np.arange(len(piece))
        if len(rows) + len(source.skipped) * listed != len(piece):
            raise ValueError(
                f"{type(self.learner).__name__} makes one vector of several rows: a corpus has a row an item"
            )
        flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
        columns = pa.table({"vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])})
        return Made(rows, columns, list(source.skipped) if listed else [])


def _loaded(folder: Path) -> Any:
    from nolabel.training import Learner, load

    learner = load(folder)
    if not isinstance(learner, Learner) or learner.parts:
        raise ValueError(f"{folder} holds a {type(learner).__name__}, which does not encode the rows of one table")
    return learner
