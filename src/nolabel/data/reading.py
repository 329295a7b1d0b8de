"""Any source a person has, as one table of typed columns."""

from __future__ import annotations

import sys
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nolabel.data.decoding import ENDINGS
from nolabel.data.table_files import load_arrays, load_csv, load_jsonl, read_file
from nolabel.data.text_files import PAGES, TEXTS, read_files, read_lines
from nolabel.data.video_decoding import VIDEOS

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

_FILES = (".parquet", ".csv", ".jsonl", ".npy", ".npz", *TEXTS, *PAGES)


def read(source: Any, *, columns: Mapping[str, str] | None = None) -> Dataset:
    """Read a source into a table of typed columns.

    Parameters
    ----------
    source : one of

        * a folder: every image below it, sorted by relative path (hidden files are passed over, links that leave the
          folder are counted, not followed). Columns ``image``, ``path`` and, with sub-folders, ``folder``;
        * a folder without images: every text (.txt, .md, .rst) or page (.html) below it, columns ``text`` or ``html``,
          ``path`` and ``folder``;
        * a folder of videos (.mp4, .mov, .avi, .mkv, .webm, moving .gif), a video file, or a list of these: columns
          ``video`` and ``path``; a list of videos (t, h, w, 3): a row a frame, columns ``video``, ``frame``, ``image``;
        * an image file, or a .parquet, .csv, .jsonl, .npy or .npz file;
        * a .txt, .md or .rst file: a row a line, columns ``text`` and ``line``; an .html file: one row;
        * an array or tensor of images: (n, h, w), (n, h, w, c) or (n, c, h, w), uint8, floats in [0, 1] or integers
          in [0, 255]; a two-dimensional array becomes the column ``vector``;
        * a list of Pillow images, of paths, of arrays, or of texts; a dict of columns;
        * a pandas DataFrame, a pyarrow Table or a ``datasets.Dataset``.
    columns : dict, optional
        New name to the name in the source, ``{"text": "alt"}``; a column that had the new name gives way.

    Returns
    -------
    datasets.Dataset
        Encoded images as ``datasets.Image(decode=False)`` (bytes or path), arrays of images as uint8
        ``Array2D``/``Array3D`` with channels last; every other column as it came.

    Raises
    ------
    FileNotFoundError
        For a path that does not exist.
    ValueError
        For an empty source, a missing column, NaN or values outside the range.
    TypeError
        For a source of another kind.

    Examples
    --------
    >>> table = read({"image": np.zeros((5, 8, 8), np.uint8), "alt": list("abcde")}, columns={"text": "alt"})
    >>> table.column_names, len(table)
    (['image', 'text'], 5)
    """
    table = _typed(_table(source))
    if not len(table):
        raise ValueError(f"source: no rows in {_described(source)}")
    return _renamed(table, columns) if columns else table


def _described(source: Any) -> str:
    return str(source) if isinstance(source, (str, Path)) else f"the {type(source).__name__}"


def _table(source: Any) -> Dataset:
    """Send each kind of source to its reader."""
    import datasets
    import pyarrow as pa

    torch, pandas = sys.modules.get("torch"), sys.modules.get("pandas")
    if isinstance(source, datasets.Dataset):
        return source.with_format(None)
    if isinstance(source, (str, Path)):
        return _from_path(Path(source).expanduser())
    if isinstance(source, np.ndarray) and source.ndim == 5:
        return _from_list(list(source))
    if isinstance(source, np.ndarray):
        return _from_columns({"image" if source.ndim > 2 else "vector": source})
    if torch is not None and isinstance(source, torch.Tensor):
        return _from_columns({"image" if source.ndim > 2 else "vector": source})
    if isinstance(source, pa.Table):
        return from_arrow(source)
    if pandas is not None and isinstance(source, pandas.DataFrame):
        return _from_columns({str(name): _series(source[name]) for name in source.columns})
    if isinstance(source, Mapping) and not isinstance(source, datasets.DatasetDict):
        return _from_columns(source)
    if isinstance(source, (list, tuple)):
        return _from_list(list(source))
    hint = f"; choose a split: {', '.join(source)}" if isinstance(source, datasets.DatasetDict) else ""
    expected = "a folder, a file, an array, a list, a DataFrame or a Dataset"
    raise TypeError(f"source: expected {expected}, got {type(source).__name__}{hint}")


def from_arrow(table: pa.Table, features: Mapping[str, Any] | None = None) -> Dataset:
    """An Arrow table as a Dataset, without copying or hashing its content."""
    from datasets import Dataset, DatasetInfo, Features
    from datasets.table import InMemoryTable

    typed = Features({**Features.from_arrow_schema(table.schema), **(features or {})})
    return Dataset(InMemoryTable(table), info=DatasetInfo(features=typed), fingerprint=uuid.uuid4().hex[:16])


def _image_paths(paths: Sequence[str | None]) -> tuple[pa.Array, Any]:
    """A column of images that are only paths."""
    import pyarrow as pa
    from datasets import Image

    empty = pa.nulls(len(paths), pa.binary())
    return pa.StructArray.from_arrays([empty, pa.array(paths, pa.string())], ["bytes", "path"]), Image(decode=False)


def _image_bytes(images: Sequence[bytes | str | None]) -> tuple[pa.Array, Any]:
    """A column of images that are encoded bytes, paths where a string stands, or missing."""
    import pyarrow as pa
    from datasets import Image

    data = pa.array([item if isinstance(item, bytes) else None for item in images], pa.binary())
    paths = pa.array([item if isinstance(item, str) else None for item in images], pa.string())
    return pa.StructArray.from_arrays([data, paths], ["bytes", "path"]), Image(decode=False)


def _from_path(path: Path) -> Dataset:
    ending = path.suffix.lower()
    if not path.exists():
        raise FileNotFoundError(f"source: {path} does not exist")
    if path.is_dir():
        return _from_folder(path)
    if ending in ENDINGS or ending in VIDEOS:
        return _from_files([str(path.absolute())], [path.name], videos=ending in VIDEOS)
    if ending not in _FILES:
        known = f"a folder, an image, a video, or {', '.join(_FILES)}"
        raise ValueError(f"source: {path} ends in {ending!r}; expected {known}")
    if ending in TEXTS:
        return read_file(lambda file: _from_columns(read_lines(file)), path)
    if ending in PAGES:
        return _texts_of_files(path.parent, [path.name])
    if ending in (".npy", ".npz"):
        return read_file(lambda file: _from_columns(load_arrays(file)), path)
    if ending == ".parquet":
        import pyarrow.parquet as pq

        return read_file(lambda file: from_arrow(pq.ParquetFile(file, memory_map=True).read()), path)
    reader = load_csv if ending == ".csv" else load_jsonl
    return read_file(lambda file: _with_paths(from_arrow(reader(file)), path.parent), path)


def _from_folder(folder: Path) -> Dataset:
    from nolabel.data.folders import list_files
    from nolabel.data.video_tables import videos_in_folder

    listing = list_files(folder, ENDINGS)
    moving = videos_in_folder(listing.files, listing.others, folder)
    if moving:
        others = len(listing.files)
        listing = list_files(folder, moving)
        if others > sum(name.lower().endswith(".gif") for name in listing.files):
            warnings.warn(f"{folder} holds videos and images: took its {len(listing.files)} videos", stacklevel=5)
    images = bool(listing.files)
    if not images:
        texts, pages = (sum(listing.others[ending] for ending in kind) for kind in (TEXTS, PAGES))
        if not texts + pages:
            looked = " ".join([*ENDINGS, *VIDEOS, *TEXTS, *PAGES])
            raise ValueError(
                f"source: no images or texts in {folder}; looked for {looked}, found {listing.found_instead()}"
            )
        listing = list_files(folder, PAGES if pages > texts else TEXTS)
        if texts and pages:
            few, kept = ("texts", "pages") if pages > texts else ("pages", "texts")
            warnings.warn(f"{folder} holds {kept} and {few}: took its {len(listing.files)} {kept}", stacklevel=5)
    if listing.links or listing.closed:
        left_out = [f"{len(listing.links)} links that leave it or lead nowhere"] if listing.links else []
        left_out += [f"{len(listing.closed)} sub-folders that may not be read"] if listing.closed else []
        first = (listing.links + listing.closed)[0]
        warnings.warn(f"{folder}: left out {' and '.join(left_out)}, first {first}", stacklevel=5)
    root = folder.resolve()
    if not images:
        return _texts_of_files(root, listing.files)
    return _from_files([f"{root}/{relative}" for relative in listing.files], listing.files, videos=bool(moving))


def _texts_of_files(root: Path, relative: list[str]) -> Dataset:
    """A row a file: its content, its path and, with sub-folders, its folder."""
    name = "html" if relative[0].lower().endswith(PAGES) else "text"
    columns: dict[str, Any] = {name: read_files(root, relative), "path": relative}
    if any("/" in path for path in relative):
        columns["folder"] = [path.rpartition("/")[0] for path in relative]
    return _from_columns(columns)


def _from_files(files: list[str], relative: list[str], *, videos: bool = False) -> Dataset:
    import pyarrow as pa

    image, feature = _image_paths(files)
    columns = {"video": pa.array(files)} if videos else {"image": image}
    columns["path"] = pa.array(relative)
    if any("/" in name for name in relative):
        columns["folder"] = pa.array([name.rpartition("/")[0] for name in relative])
    return from_arrow(pa.table(columns), {} if videos else {"image": feature})


def _series(series: Any) -> Any:
    """A pandas column: plain values through Arrow, objects as a list."""
    import pyarrow as pa

    return series.tolist() if series.dtype == object else pa.Array.from_pandas(series)


def _from_columns(columns: Mapping[str, Any]) -> Dataset:
    """Arrays, tensors and lists of equal length by name."""
    import pyarrow as pa

    for name, values in columns.items():
        if getattr(values, "shape", None) == () or not hasattr(values, "__len__") or isinstance(values, (str, bytes)):
            raise TypeError(f"source: column {name!r} is one {type(values).__name__}, expected a value for each row")
    lengths = {name: len(values) for name, values in columns.items()}
    if not lengths or len(set(lengths.values())) != 1:
        raise ValueError(f"source: expected columns of one length, got {lengths}")
    arrays: dict[str, Any] = {}
    features: dict[str, Any] = {}
    for name, values in columns.items():
        array, feature = _column(values, name)
        arrays[name] = array
        if feature is not None:
            features[name] = feature
    return _with_paths(from_arrow(pa.table(arrays), features), Path())


def _column(values: Any, name: str) -> tuple[Any, Any]:
    """One column as Arrow, and its feature where Arrow's type does not tell it."""
    import pyarrow as pa

    from nolabel.data.arrays import uint8_images
    from nolabel.data.columns import image_array_column

    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values, None
    first = False
    if hasattr(values, "detach"):
        values, first = _tensor_array(values), True
    if isinstance(values, np.ndarray):
        if values.ndim > 2:
            return image_array_column(uint8_images(values, name, first))
        if values.ndim == 2:
            return _vectors(values, name), None
        return pa.array(values), None
    values = list(values)
    sample = next((value for value in values if value is not None), None)
    if _is_picture(sample):
        return _pictures(values, name)
    if isinstance(sample, Path):
        return _image_paths([None if value is None else str(value) for value in values])
    return pa.array(values), None


def _tensor_array(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor if tensor.element_size() != 2 or not tensor.is_floating_point() else tensor.float()).numpy()


def _vectors(values: np.ndarray, name: str) -> pa.Array:
    import pyarrow as pa

    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError(f"{name}: NaN in row {int(np.flatnonzero(np.isnan(values).any(axis=1))[0])}")
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _is_picture(value: Any) -> bool:
    from PIL import Image

    return isinstance(value, Image.Image) or getattr(value, "ndim", 0) in (2, 3)


def _from_list(items: list[Any]) -> Dataset:
    """Pillow images, arrays, paths, or texts."""
    if not items:
        raise ValueError("source: the list is empty")
    if all(getattr(item, "ndim", 0) == 4 for item in items):
        from nolabel.data.video_tables import video_columns

        return _from_columns(video_columns([_tensor_array(v) if hasattr(v, "detach") else v for v in items]))
    if all(_is_picture(item) for item in items):
        return _from_columns({"image": items})
    if all(isinstance(item, (str, Path)) for item in items):
        videos = all(str(item).lower().endswith(VIDEOS) for item in items)
        if not videos and not all(isinstance(item, Path) or item.lower().endswith(ENDINGS) for item in items):
            return _from_columns({"text": [str(item) for item in items]})
        files = [Path(item).expanduser() for item in items]
        missing = [str(file) for file in files if not file.exists()]
        if missing:
            raise FileNotFoundError(f"source: {len(missing)} of {len(files)} paths do not exist, first {missing[0]}")
        if videos:
            return _from_columns({"video": [str(file.absolute()) for file in files], "path": [str(i) for i in items]})
        image, _ = _image_paths([str(file.absolute()) for file in files])
        return _from_columns({"image": image, "path": [str(item) for item in items]})
    kinds = sorted({type(item).__name__ for item in items})
    raise TypeError(f"source: expected a list of images, of arrays, of paths or of texts, got {', '.join(kinds)}")


def _pictures(values: list[Any], name: str) -> tuple[Any, Any]:
    """Pillow images or arrays, perhaps of several sizes."""
    from PIL import Image

    from nolabel.data.arrays import encoded, uint8_images
    from nolabel.data.columns import image_array_column

    def pixels(value: Any, row: int) -> np.ndarray:
        tensor = hasattr(value, "detach")
        array = _tensor_array(value) if tensor else np.asarray(value)
        return uint8_images(array[None], f"{name}: row {row}", tensor)[0]

    if all(not isinstance(value, Image.Image) and value is not None for value in values):
        arrays = [pixels(value, row) for row, value in enumerate(values)]
        if len({array.shape for array in arrays}) == 1:
            return image_array_column(np.stack(arrays))
    cells: list[bytes | str | None] = []
    for row, value in enumerate(values):
        if value is None:
            cells.append(None)
        elif not isinstance(value, Image.Image):
            cells.append(encoded(Image.fromarray(pixels(value, row))))
        elif _untouched(value):
            cells.append(str(Path(value.filename).absolute()))  # type: ignore[attr-defined]
        else:
            cells.append(encoded(value))
    return _image_bytes(cells)


def _untouched(image: Any) -> bool:
    """Whether a Pillow image is still only an open file, which the cache will read itself."""
    waiting = bool(getattr(image, "filename", "")) and getattr(image, "fp", None) is not None
    return waiting and getattr(image, "n_frames", 1) == 1 and Path(image.filename).is_file()


def _with_paths(table: Dataset, base: Path) -> Dataset:
    """Turn string columns that name image files (relative to ``base``) into image columns, if there is no other.

    Videos stay paths, but from wherever one looks.
    """
    import pyarrow as pa

    from nolabel.data.modalities import holds_images

    if any(holds_images(table, name) for name in table.column_names):
        return table
    for name, feature in table.features.items():
        if getattr(feature, "dtype", None) not in ("string", "large_string"):
            continue
        values = table.data.column(name).to_pylist()
        named = [value for value in values if value]
        if name == "video" and named and (base / named[0]).is_file():
            full = pa.array([str((base / value).absolute()) if value else None for value in values])
            arrow = table.data.table
            return from_arrow(arrow.set_column(arrow.column_names.index(name), name, full))
        if named and all(value.lower().endswith(ENDINGS) for value in named) and (base / named[0]).is_file():
            column, kind = _image_paths([str((base / value).absolute()) if value else None for value in values])
            arrow = table.data.table
            arrow = arrow.set_column(arrow.column_names.index(name), name, column)
            table = from_arrow(arrow, {**table.features, name: kind})
    return table


def _typed(table: Dataset) -> Dataset:
    """Encoded images, whether bytes or already typed, as ``Image(decode=False)``."""
    from datasets import Image

    from nolabel.data.modalities import holds_image_bytes

    for name, feature in table.features.items():
        if (isinstance(feature, Image) and feature.decode) or holds_image_bytes(table, name):
            table = table.cast_column(name, Image(decode=False))
    return table


def _renamed(table: Dataset, columns: Mapping[str, str]) -> Dataset:
    from nolabel.data.columns import require_column

    for old in columns.values():
        require_column(table, old, "columns")
    if len(set(columns.values())) != len(columns):
        raise ValueError(f"columns: one column under two names in {dict(columns)}")
    gives_way = [name for name in columns if name in table.column_names and name not in columns.values()]
    return table.remove_columns(gives_way).rename_columns({old: new for new, old in columns.items() if old != new})
