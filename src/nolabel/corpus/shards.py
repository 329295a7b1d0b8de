"""What a corpus is on disk: shards of Parquet, WebDataset tars, or the fragments of a Lance data set."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

from nolabel.corpus.places import inside, is_local, place
from nolabel.data.decoding import ENDINGS
from nolabel.data.video_decoding import VIDEOS

KINDS = {".parquet": "parquet", ".tar": "webdataset"}
#: Folder of a written corpus for what is known of it; MANIFEST is written last.
NOTES = "_nolabel"
MANIFEST, JOB = f"{NOTES}/manifest.json", f"{NOTES}/job.json"


@dataclass(frozen=True)
class Shard:
    """One part of a corpus, which one worker reads.

    Attributes
    ----------
    name : its path in the corpus without the ending; what is made of it is called the same
    url : its file, or the Lance data set
    kind : parquet, webdataset or lance
    mark : changes when its content does
    rows : how many, where that is known without reading it
    fragment, version : of a Lance data set
    """

    name: str
    url: str
    kind: str
    mark: str
    rows: int | None = None
    fragment: int | None = None
    version: int | None = None


@dataclass(frozen=True)
class Corpus:
    """Shards of one kind, by name."""

    url: str
    kind: str
    shards: tuple[Shard, ...]


def is_corpus(source: str) -> bool:
    """Whether a source is read shard by shard: a URL, a glob, a .lance or .tar, a folder of shards without images or videos."""
    if "://" in source or source.rstrip("/").endswith((".lance", ".tar")) or _is_glob(source):
        return True
    files, path = place(source)
    if not files.isdir(path):
        return False
    if files.exists(f"{path}/{JOB}"):
        return True
    shards = False
    for _, _, names in os.walk(path) if is_local(files) else files.walk(path):
        endings = {f".{name.rpartition('.')[2].lower()}" for name in names}
        if endings & {*ENDINGS, *VIDEOS}:
            return False
        shards = shards or bool(endings & set(KINDS))
    return shards


def open_corpus(source: str) -> Corpus:
    """The shards of a folder, a glob, a file or a Lance data set, on a local path or a URL of fsspec.

    Of a corpus that this library wrote, the shards are those that its manifest names.

    Raises
    ------
    FileNotFoundError : nothing is there
    ValueError : no shards, shards of several kinds, or a corpus that is not finished
    """
    files, path = place(source)
    if path.endswith(".lance"):
        return _lance(source, files, path)
    if _is_glob(source):
        found, root = files.glob(path), _fixed(path)
    elif files.isfile(path):
        found, root = [path], path.rpartition("/")[0]
    elif files.isdir(path):
        if files.exists(f"{path}/{JOB}"):
            return _written(source, files, path)
        found, root = files.find(path), path
    else:
        raise FileNotFoundError(f"{source} does not exist")
    root = root.rstrip("/")
    names = {file.removeprefix(root).lstrip("/"): file for file in found}
    shown = {name: file for name, file in names.items() if not any(part[0] in "._" for part in name.split("/"))}
    kinds = Counter(ending for ending in KINDS for name in shown if name.endswith(ending))
    if not kinds:
        raise ValueError(f"{source} holds no shards: expected files that end in {' or '.join(KINDS)}, or a .lance")
    if len(kinds) > 1:
        both = " and ".join(f"{number} {ending}" for ending, number in kinds.items())
        raise ValueError(f"{source} holds {both}: name one kind by a glob, such as '{source.rstrip('/')}/*.tar'")
    (ending,) = kinds
    shards = [
        Shard(inside(name.removesuffix(ending)), files.unstrip_protocol(file), KINDS[ending], _mark(files.info(file)))
        for name, file in sorted(shown.items())
        if name.endswith(ending)
    ]
    return Corpus(source, KINDS[ending], tuple(shards))


def _is_glob(source: str) -> bool:
    return any(sign in source for sign in "*?[")


def _fixed(pattern: str) -> str:
    """The folder before the first sign of a glob.

    >>> _fixed("/data/2024-*/part-*.parquet")
    '/data'
    """
    first = min(pattern.find(sign) for sign in "*?[" if sign in pattern)
    return pattern[:first].rpartition("/")[0]


def _mark(info: dict[str, Any]) -> str:
    stamp = next(
        (info[key] for key in ("ETag", "etag", "mtime", "LastModified", "updated", "created") if key in info), ""
    )
    return f"{info.get('size')} {stamp}"


def _written(source: str, files: Any, path: str) -> Corpus:
    """The shards of a corpus that this library wrote."""
    if not files.exists(f"{path}/{MANIFEST}"):
        raise ValueError(f"{source} is not finished: run the command that makes it again, it goes on where it stopped")
    manifest = json.loads(files.cat_file(f"{path}/{MANIFEST}"))
    kind = manifest["format"]
    shards = []
    for entry in manifest["shards"]:
        if entry["file"] is not None:
            file = f"{path}/{inside(entry['file'])}"
            url = files.unstrip_protocol(file)
            shards.append(Shard(inside(entry["shard"]), url, kind, _mark(files.info(file)), entry["written"]))
    if not shards:
        raise ValueError(f"{source} has no rows")
    return Corpus(source, kind, tuple(shards))


def lance_url(files: Any, path: str, url: str) -> str:
    """What Lance calls a place."""
    if is_local(files):
        return path
    if url.startswith("memory:"):
        raise ValueError(f"{url}: Lance data sets lie on disks or object stores, not in fsspec's memory")
    return url


def lance() -> Any:
    try:
        import lance as module
    except ImportError:
        raise ImportError("Lance data sets need pylance: pip install 'nolabel[corpus]'") from None
    return module


def _lance(source: str, files: Any, path: str) -> Corpus:
    module, url = lance(), lance_url(files, path, source)
    if is_local(files) and not files.exists(f"{path}/_versions"):
        if files.exists(f"{path}/{JOB}"):
            raise ValueError(f"{source} is not finished: run the command that makes it again, it goes on")
        raise FileNotFoundError(f"{source} is no Lance data set")
    dataset = module.dataset(url)
    shards = []
    for fragment in dataset.get_fragments():
        known = {key: value for key, value in fragment.metadata.to_json().items() if key != "id"}  # ids change
        mark = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
        name = inside(known["files"][0]["path"].rpartition("/")[2].removesuffix(".lance"))
        shards.append(
            Shard(name, url, "lance", mark, fragment.count_rows(), fragment.fragment_id, int(dataset.version))
        )
    if not shards:
        raise ValueError(f"{source} has no rows")
    return Corpus(source, "lance", tuple(shards))
