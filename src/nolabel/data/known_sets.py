"""Known public data sets by name: from a folder of one's own, or from the Hugging Face hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nolabel.data.columns import listed, require_column

if TYPE_CHECKING:
    from datasets import Dataset

_HUB = {
    "cifar10": "uoft-cs/cifar10",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "mnist": "ylecun/mnist",
}


def load(name: str, split: str | None = None, **filters: Any) -> Any:
    """Load a public data set as a table, or as a graph.

    ``digits`` (scikit-learn's, 1,797 images of 8 x 8) and ``docstrings`` (what Python's standard library says of itself)
    are always there. Others are read from the file
    ``$NOLABEL_DATA/<name>.parquet`` if it exists, graphs (`HeteroData`) from ``<name>.npz``, else ``cifar10``, ``fashion_mnist``
    and ``mnist`` from the hub.

    Parameters
    ----------
    name : name of the set
    split : keep the rows whose column ``split`` has this value
    **filters : keep the rows whose column of that name has this value, such as ``small=True``

    Raises
    ------
    ValueError
        For a name that is not known or contains a path, a filter on a missing column, or one that keeps no row.
    FileNotFoundError
        If a known set is in neither place.

    Examples
    --------
    >>> load("digits", label=3).column_names, len(load("digits"))
    (['image', 'label'], 1797)
    """
    from nolabel.data.reading import read

    if not name or name != Path(name).name or "\\" in name or name.startswith("."):
        raise ValueError(f"name: expected the name of a data set, got {name!r}; nolabel.data.read takes paths")
    home = os.environ.get("NOLABEL_DATA")
    file = Path(home).expanduser() / f"{name}.parquet" if home else None
    if name == "digits":
        table = _digits()
    elif name == "docstrings":
        from nolabel.data.docstrings import docstrings

        table = docstrings()
    elif file is not None and file.is_file():
        table = read(file)
    elif (graph := graph_file(name)) is not None:
        from nolabel.data.graphs import read_graph

        if split is not None or filters:
            raise ValueError(f"name: {name} is a graph, whose nodes are not filtered: leave split and filters out")
        return read_graph(graph)
    elif name in _HUB:
        table = _from_hub(name, file)
    else:
        local = (
            sorted({p.stem for s in ("parquet", "npz") for p in file.parent.glob(f"*.{s}")}) if file is not None else []
        )
        names = sorted({"digits", "docstrings", *_HUB, *local})
        raise ValueError(f"name: no data set {name!r} in {_place(file)} or on the hub; {listed(name, names, 'names')}")
    wanted = {**({} if split is None else {"split": split}), **filters}
    return _filtered(table, wanted) if wanted else table


def graph_file(name: str) -> Path | None:
    """The file ``$NOLABEL_DATA/<name>.npz`` of a graph, if there is one."""
    home = os.environ.get("NOLABEL_DATA")
    if home is None or not name or name != Path(name).name or name.startswith("."):
        return None
    file = Path(home).expanduser() / f"{name}.npz"
    return file if file.is_file() else None


def _place(file: Path | None) -> str:
    return f"$NOLABEL_DATA ({file.parent})" if file is not None else "$NOLABEL_DATA (not set)"


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    from nolabel.data.reading import read

    digits = load_digits()
    return read({"image": np.rint(digits.images * (255 / 16)).astype(np.uint8), "label": digits.target})


def _from_hub(name: str, file: Path | None) -> Dataset:
    """All splits one after the other, with a column ``split``."""
    import datasets

    from nolabel.data.reading import read

    try:
        splits = datasets.load_dataset(_HUB[name])
    except Exception as error:  # offline, refused, moved: whatever keeps the hub from answering
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise FileNotFoundError(
            f"name: {name!r} is neither in {_place(file)} nor to be had from the hub as {_HUB[name]!r} ({reason})"
        ) from error
    parts = [part.add_column("split", [key] * len(part)) for key, part in splits.items()]
    table = datasets.concatenate_datasets(parts)
    return read(table, columns={"image": "img"} if "img" in table.column_names else None)


def _filtered(table: Dataset, wanted: dict[str, Any]) -> Dataset:
    """The rows in which every column has the wanted value."""
    import pyarrow as pa
    import pyarrow.compute as compute

    from nolabel.data.reading import from_arrow

    keep = np.ones(len(table), bool)
    arrow = table.with_format("arrow")[:]
    for column, value in wanted.items():
        require_column(table, column, "filter")
        try:
            equal = compute.equal(arrow[column], pa.scalar(value))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise ValueError(f"{column}: {value!r} cannot be compared with {arrow[column].type}") from error
        keep &= compute.fill_null(equal, False).to_numpy(zero_copy_only=False)
        if not keep.any():
            values = arrow[column].unique().to_pylist()
            shown = ", ".join(repr(item) for item in values[:10]) + (", ..." if len(values) > 10 else "")
            raise ValueError(f"{column}: no row has {value!r} (with the filters before it); its values are {shown}")
    return from_arrow(arrow.filter(pa.array(keep)), table.features)
