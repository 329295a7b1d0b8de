"""What the commands share: sources, learners by name, and the files of a run folder."""

import ast
import difflib
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.cli.catalogue import arguments_of, method

INDEX, REPORT = "index.lance", "report.html"


def read_columns(given: list[str]) -> dict[str, str] | None:
    """``["image=photo"]`` as a mapping."""
    return dict(_halves(word, "--column", "image=photo") for word in given) or None


def open_table(source: str, columns: dict[str, str] | None) -> Any:
    """A table from a path or the name of a known set."""
    from nolabel.cli.graphs import graph_at
    from nolabel.data import load, read
    from nolabel.data.dom_pages import with_text

    if (nodes := graph_at(source)) is not None:
        return nodes
    known = not os.path.exists(source) and os.sep not in source and "." not in source
    if not known:
        return with_text(read(source, columns=columns))
    try:
        table = load(source)
    except (ValueError, FileNotFoundError) as error:
        raise FileNotFoundError(f"{source} is neither a path here nor a known set: {error}") from None
    return with_text(read(table, columns=columns))


def require_columns(cls: Any, name: str, table: Any, source: str) -> None:
    """Refuse a table that lacks a column of the method, with the option that names it."""
    from nolabel.cli.graphs import require_graph
    from nolabel.data import modality

    require_graph(cls, name, table, source)
    if hasattr(table, "graph"):
        return
    missing = [column for column in cls.columns if column not in table.column_names]
    if missing:
        column = missing[0]
        raise ValueError(
            f"{source} holds {modality(table)}: {name} needs a column {column!r}, and there are "
            f"{', '.join(table.column_names)}; name it with --column {column}=NAME"
        )


def usual_method(table: Any) -> str:
    """The method for a table of which nothing is said."""
    from nolabel.data.video_tables import holds_videos

    if hasattr(table, "graph"):
        return "infomgf"
    if holds_videos(table):
        return "rspnet"
    if "image" in table.column_names:
        return "align" if "text" in table.column_names else "simclr"
    if "text" in table.column_names:
        return "contriever"
    return "urlbert" if "url" in table.column_names else "simclr"


def learner_of(name: str, settings: list[str], encoder: str | None, image_size: int | None, training: Any) -> Any:
    """An unfitted learner from the words of the command line."""
    cls = method(name)
    params: dict[str, Any] = {"training": training}
    if "image_size" in cls._get_param_names():
        params["image_size"] = image_size
    elif image_size is not None:
        raise ValueError(
            f"--size is for methods that learn from images; {name} learns from {' and '.join(cls.columns)}"
        )
    if encoder is not None:
        if "encoder" not in cls._get_param_names():
            raise ValueError(f"{name} has an encoder of its own: leave --encoder out")
        params["encoder"] = encoder
    return cls(**params, **settings_of(cls, name, settings))


def settings_of(cls: Any, name: str, settings: list[str]) -> dict[str, Any]:
    """The words of ``--set`` as arguments of a class that the command line calls `name`."""
    known = arguments_of(cls)
    params: dict[str, Any] = {}
    for word in settings:
        key, value = _halves(word, "--set", "temperature=0.1")
        if key not in known:
            if key in ("augment", "nested"):
                option = {"augment": "--views", "nested": "--nested"}[key]
                raise ValueError(f"{option}: {name} has no such choice; it has {', '.join(known)}")
            near = difflib.get_close_matches(key, known, n=2, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise ValueError(f"--set {key}: {name} has no such parameter; {hint}there are {', '.join(known)}")
        try:
            params[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            params[key] = value
    return params


def in_parts(learner: Any, table: Any) -> Any:
    """The table as the learner takes it: whole, or one table for each of the data sets it learns from at once."""
    if not learner.parts:
        return table
    what = f"{type(learner).__name__} learns from {' and '.join(learner.parts)}"
    if "part" in table.column_names:
        names = np.asarray(table["part"]).astype(str)
    elif "folder" in table.column_names:
        names = np.array([str(name).split("/")[0] for name in table["folder"]])
    else:
        raise ValueError(
            f"{what}: expected folders or a column 'part' of these names, got {', '.join(table.column_names)}"
        )
    rows = {part: np.flatnonzero(names == part) for part in learner.parts}
    for part, found in rows.items():
        if not len(found):
            raise ValueError(f"{what}: no images of {part!r} among {', '.join(sorted(set(names))[:8])}")
    return {part: table.select(found) for part, found in rows.items()}


def cut_off(asked: Any | None, table: Any, folder: Path) -> Any:
    """The learner of a run that was cut off before its index and report were whole, if it is what is `asked` for."""
    from sklearn.base import clone

    from nolabel.training import Training, load
    from nolabel.training.checkpoint import CHECKPOINT
    from nolabel.training.unfinished import identity, require_same

    learner = load(folder)
    fresh = clone(learner) if asked is None else asked
    # What is trained is stopped no more: it matters not whether it would have been
    stopped = (learner.training or Training()).stop_on_collapse
    fresh.training = clone(fresh.training or Training()).set_params(stop_on_collapse=stopped)
    source = fresh.open(in_parts(learner, table), None)
    require_same(folder, identity(fresh, source), identity(learner, source) | {"data": learner.fingerprint_})
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return learner


def candidates(encoder: str | None, image_size: int | None, training: Any) -> dict[str, Any]:
    """What ``--method auto`` tries: the methods that learn from images at a few settings, and the two controls."""
    from sklearn.base import clone

    from nolabel.learn import RawPixels, RotNet, SimCLR, SwAV, Untrained

    shared = {"image_size": image_size} | ({"encoder": encoder} if encoder is not None else {})
    made = {
        "raw pixels": RawPixels(image_size=image_size),
        "untrained": Untrained(**shared),
        "simclr, temperature 0.1": SimCLR(temperature=0.1, **shared),
        "simclr, temperature 0.2": SimCLR(temperature=0.2, **shared),
        "simclr, temperature 0.5": SimCLR(temperature=0.5, **shared),
        "swav": SwAV(**shared),
        "rotnet": RotNet(**shared),
    }
    return {name: learner.set_params(training=clone(training)) for name, learner in made.items()}


def complete(learner: Any, table: Any, folder: Path, source: str, command: str) -> dict[str, Any]:
    """Write the index and the report of a trained run; the summary that the command prints."""
    from nolabel.cli.contents import contents_of
    from nolabel.cli.graphs import clustered, write_graph_files
    from nolabel.training.memory import give_back

    table = clustered(learner, table) if hasattr(table, "graph") else found_again(learner, table)
    opened = learner.open_one(table, None)
    contents = contents_of(opened, table)
    searched = searched_rows(learner, table, opened)
    write_index(folder, searched, learner, table, contents)
    give_back()
    vectors = searched["dense"] if "dense" in searched else learner.transform_source(opened)
    written = write_graph_files(learner, table, folder) if hasattr(table, "graph") else {}
    write_page(folder, learner, vectors, table, contents, source, command)  # last: a run with a report is finished
    health = learner.health_
    summary: dict[str, Any] = {
        "run": str(folder),
        "method": type(learner).__name__,
        contents.noun: len(contents),
        "skipped": len(contents.skipped),
        "seconds": round(learner.seconds_, 1),
        "verdict": health["verdict"],
        "RankMe": round(health["rankme"], 2),
        "width": health["width"],
        "self-consistency": health.get("self_consistency"),
        "report": str(folder / REPORT),
        **written,
    }
    query = {"images": "IMAGE", "videos": "VIDEO", "nodes": "NODE"}.get(contents.noun, "'some words'")
    query = "'some words'" if learner.columns == ("image", "text") else query
    summary["next"] = [
        f"open    {folder / REPORT}",
        f"search  nolabel search {folder} {query}",
        f"embed   nolabel embed {folder} {'GRAPH' if contents.noun == 'nodes' else 'FOLDER'}",
    ]
    return summary


def found_again(learner: Any, table: Any) -> Any:
    """The table whose rows a run is searched for: of pairs of queries and passages, each passage once, as ``text``."""
    if learner.transform_columns != ("text",) or "text" in table.column_names or "passage" not in table.column_names:
        return table
    first: dict[str, int] = {}
    for row, passage in enumerate(table["passage"]):
        first.setdefault(passage, row)
    return table.select(list(first.values())).rename_column("passage", "text")


def write_index(folder: Path, searched: dict[str, Any], learner: Any, table: Any, contents: Any) -> None:
    """A fresh index of the run: a row an item with what it is searched by, its scalar columns, and its thumbnail or text."""
    import shutil

    from nolabel.search import Index
    from nolabel.training import identity

    for derived in (INDEX, "index.faiss"):  # of a run that was cut off while it wrote its index
        shutil.rmtree(folder / derived, ignore_errors=True)
    made: dict[str, Any] = {}
    if "dense" in searched:
        made["dim"] = searched["dense"].shape[1]
    if "binary" in searched:
        made["bits"] = 8 * searched["binary"].shape[1]
    if "sparse" in searched:
        made["vocabulary"] = learner.words_
    if contents.noun == "texts":
        made["text"] = "text"
    index = Index.create(folder, **made, encoder=identity(folder))
    index.add(index_rows(searched, table, contents))


def searched_rows(learner: Any, table: Any, opened: Any) -> dict[str, Any]:
    """What a run's index keeps of the rows of a table, by mode: vectors, codes, sparse vectors."""
    found = learner.search_rows(table) if hasattr(learner, "search_rows") else None
    return found or {"dense": learner.transform_source(opened)}


def index_rows(
    searched: dict[str, Any], table: Any, contents: Any, *, learned: bool = True
) -> Iterator[dict[str, Any]]:
    """Pieces for `Index.add`; rows that were not learned from have no number."""
    taken = {"html", "row", "id", "vector", "code", "sparse_indices", "sparse_values", "thumbnail", "text", "score"}
    scalars = [name for name in table.column_names if name not in taken and _is_scalar(table, name)]
    names = {"dense": "vectors", "binary": "codes", "sparse": "sparse"}
    kept = np.arange(len(contents))
    if "dense" in searched:  # a vector of zeros, of a text without a known word, is near nothing
        kept = np.flatnonzero(searched["dense"].any(axis=1))
    for start in range(0, len(kept), 4096):
        positions = kept[start : start + 4096]
        part = table.select(contents.rows[positions])
        payload = {name: list(part[name]) for name in scalars} | contents.payload(positions)
        if learned:
            payload["row"] = contents.rows[positions].tolist()
        yield {"payload": payload, **{names[mode]: rows[positions] for mode, rows in searched.items()}}


def write_page(
    folder: Path, learner: Any, vectors: np.ndarray, table: Any, contents: Any, source: str, command: str
) -> None:
    """The run's ``report.html``."""
    from nolabel.report import ReportContents, write_report
    from nolabel.training.estimator import versions

    settings = learner.training_
    called = next((name for name in ("path", "video", "node") if name in table.column_names), None)
    paths = table[called] if called else None
    rows = contents.rows.tolist()
    names = [f"row {row}" for row in rows] if paths is None else [str(paths[row]) for row in rows]
    parameters = {
        k: v if isinstance(v, str) else repr(v) for k, v in learner.get_params(deep=False).items() if k != "training"
    }
    used = {k: str(v) for k, v in settings.get_params().items() if v is not None and k != "progress"}
    summary = {
        "method": type(learner).__name__,
        "data": f"{source}: {contents.described}",
        "data fingerprint": learner.fingerprint_,
        "duration": str(timedelta(seconds=round(learner.seconds_))),
        "command": command,
        **parameters,
        **used,
        **{f"version of {k}": v for k, v in versions().items()},
    }
    write_report(
        folder / REPORT,
        ReportContents(
            title=folder.name,
            embeddings=vectors,
            summary=summary,
            names=names,
            history=[{k: v for k, v in row.items() if k != "rows_per_second"} for row in learner.history_],
            health=learner.health_,
            skipped=[(skip.path or f"row {skip.row}", skip.reason) for skip in contents.skipped],
            **contents.shown,
        ),
    )


def _is_scalar(table: Any, name: str) -> bool:
    import pyarrow.types as kinds

    kind = table.data.schema.field(name).type
    return bool(kinds.is_string(kind) or kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind))


def _halves(word: str, option: str, example: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals or not key or not value:
        raise ValueError(f"{option} wants NAME=VALUE, such as {example}; got {word!r}")
    return key, value
