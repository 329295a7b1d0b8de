"""A corpus made of another, shard by shard: what was finished stays, every row is there once, or is listed as skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from nolabel.corpus.engine import each
from nolabel.corpus.places import place
from nolabel.corpus.reading import count_rows, pieces
from nolabel.corpus.shards import Corpus, Shard
from nolabel.corpus.writing import Output, schema_of
from nolabel.data.sources import Skipped

#: So many shards in a row that fail before any succeeds fail for one reason.
HOPELESS = 3


@dataclass(frozen=True)
class Made:
    """What became of a piece: `columns` (k rows) belong to its rows `rows` (k,); `skipped` are all the others."""

    rows: np.ndarray
    columns: pa.Table
    skipped: list[Skipped]


class Function(Protocol):
    """What maps a piece of a shard; it is pickled once and called for many pieces."""

    @property
    def job(self) -> dict[str, Any]:
        """What has to stay the same from one run to the next, for their results to belong together; JSON."""
        ...

    def __call__(self, piece: pa.Table) -> Made: ...


def map_corpus(
    corpus: Corpus,
    function: Function,
    out: Output,
    *,
    engine: str = "local",
    address: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Apply a function to every piece of a corpus and write a shard for each of its shards.

    What comes out has the columns ``id`` (the corpus's own, or ``SHARD:ROW``), the scalar columns of the corpus, and those of
    the function. Called again after an interruption it goes on; called again after the corpus has grown it does what is new.

    Parameters
    ----------
    engine, address : as in `each`
    progress : called with the shards done and their total

    Returns
    -------
    dict
        The manifest: format, rows, written, skipped, shards. ``rows == written + skipped``.

    Raises
    ------
    ValueError
        A shard that cannot be read: all others are done first. Shards with different columns; a place that holds
        something else; a shard that has changed since it was done.
    """
    if engine == "ray":
        for url in (corpus.url, out.url):
            if url.startswith("memory:"):
                raise ValueError(f"{url} lies in the memory of one process, where Ray's workers cannot see it")
    if f"{place(out.url)[1]}/".startswith(f"{place(corpus.url)[1]}/"):
        raise ValueError(f"{out.url} lies in {corpus.url}, of which it would become a part: choose another place")
    out.begin({"format": out.format, **function.job})
    done = out.reports()
    _require_same(corpus, done, out)
    waiting = [shard for shard in corpus.shards if shard.name not in done]
    failed: list[str] = []
    first = next((report for report in done.values() if report["schema"]), None)
    for number, attempt in enumerate(each(waiting, _Shards(function, out), engine=engine, address=address), 1):
        if attempt.error is not None:
            failed.append(f"{attempt.item.name}: {attempt.error}")
            if len(failed) == number >= HOPELESS:
                break
            continue
        report = attempt.value
        first = first or (report if report["schema"] else None)
        if first and report["schema"] and not schema_of(report).equals(schema_of(first)):
            raise ValueError(
                f"the shards {first['shard']} and {report['shard']} have different columns: {_listed(first)}; {_listed(report)}"
            )
        if progress is not None:
            progress(len(done) + number, len(corpus.shards))
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(corpus.shards)} shards failed, first {failed[0]}; what is done stays: mend or remove "
            "them and run this again"
        )
    reports = out.reports()
    missing = [shard.name for shard in corpus.shards if shard.name not in reports]
    manifest = out.commit([reports[shard.name] for shard in corpus.shards if shard.name in reports])
    if missing or manifest["rows"] != manifest["written"] + manifest["skipped"]:
        raise RuntimeError(
            f"{out.url}: rows are missing after the commit, of shards {missing[:3] or 'that report them'}"
        )
    return manifest


def _require_same(corpus: Corpus, done: dict[str, dict[str, Any]], out: Output) -> None:
    """Refuse to go on where what is done is of other shards than there are now."""
    now = {shard.name: shard.mark for shard in corpus.shards}
    for name, report in done.items():
        if now.get(name) != report["mark"]:
            how = "has changed" if name in now else f"is no longer in {corpus.url}"
            raise ValueError(f"the shard {name} {how} since {out.url} was begun: choose another place")


def _listed(report: dict[str, Any]) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema_of(report))


class _Shards:
    """Read one shard, map it, write it, report it."""

    def __init__(self, function: Function, out: Output) -> None:
        self.function, self.out = function, out

    def __call__(self, shard: Shard) -> dict[str, Any]:
        report = self.out.report(shard.name)
        if report is None:  # else a worker finished it whose answer was lost
            report = self._made(shard)
            self.out.finish(report)
        return {"shard": shard.name, "schema": report["schema"]}

    def _made(self, shard: Shard) -> dict[str, Any]:
        rows, written = 0, 0
        skipped: list[Skipped] = []

        def tables() -> Iterator[pa.Table]:
            nonlocal rows, written
            for piece in pieces(shard):
                made = self.function(piece)
                _require_each_once(made, len(piece))
                skipped.extend(replace(skip, row=skip.row + rows) for skip in made.skipped)
                if len(made.rows):
                    yield _table(shard, piece, made, rows)
                rows, written = rows + len(piece), written + len(made.rows)

        stored = self.out.write(shard.name, tables())
        if rows != count_rows(shard):
            raise ValueError(f"holds {count_rows(shard)} rows, but {rows} were read")
        return {
            "shard": shard.name,
            "mark": shard.mark,
            "rows": rows,
            "written": written,
            "skipped": [astuple(skip) for skip in skipped],
            **stored,
        }


def _require_each_once(made: Made, rows: int) -> None:
    """An internal truth: every row of a piece was made or skipped, and none was both."""
    accounted = np.sort(np.concatenate([made.rows, [skip.row for skip in made.skipped]]).astype(np.int64))
    if not np.array_equal(accounted, np.arange(rows)) or len(made.columns) != len(made.rows):
        raise RuntimeError(
            f"of {rows} rows {len(made.rows)} were made, into {len(made.columns)}, and {len(made.skipped)} skipped"
        )


def _table(shard: Shard, piece: pa.Table, made: Made, start: int) -> pa.Table:
    """Id, payload and what was made, of the rows that were."""
    columns: dict[str, Any] = {}
    if "id" not in piece.column_names:
        columns["id"] = pa.array([f"{shard.name}:{start + row}" for row in made.rows.tolist()])
    kept = piece.take(made.rows)
    for name in piece.column_names:
        if name in made.columns.column_names:
            raise ValueError(f"has a column {name!r} already, which is to be made")
        if is_scalar(piece.schema.field(name).type):
            columns[name] = kept[name]
    return pa.table(columns | {name: made.columns[name] for name in made.columns.column_names})


def is_scalar(kind: pa.DataType) -> bool:
    """Whether values of an Arrow type are kept beside what is made: texts, numbers, dates; no images, bytes or lists."""
    return not (
        kinds.is_nested(kind)
        or kinds.is_binary(kind)
        or kinds.is_large_binary(kind)
        or kinds.is_fixed_size_binary(kind)
        or isinstance(kind, pa.ExtensionType)
    )
