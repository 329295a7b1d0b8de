"""A corpus on its way to disk: shards that are whole or not there, a report of each, and one commit at the end.

A shard's rows are put in place first, then its report. A shard without a report is made again: files replace what stood
there under the same name, and fragments of Lance that no report names belong to no data set. So every row is there once,
however often a shard was begun.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from nolabel.corpus import webdataset
from nolabel.corpus.places import inside, is_local, place, placed, remove_leftovers
from nolabel.corpus.shards import JOB, MANIFEST, NOTES, lance, lance_url

FORMATS = ("parquet", "lance", "webdataset")
SKIPPED = f"{NOTES}/skipped.csv"
REPORTS = f"{NOTES}/shards"


@dataclass(frozen=True)
class Output:
    """A folder of shards of one format, or a Lance data set; on a local path or a URL.

    >>> Output("vectors", "lance")
    Traceback (most recent call last):
    ValueError: a Lance data set, and nothing else, has a name that ends in .lance: got vectors for lance
    """

    url: str
    format: str = "parquet"

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {self.format!r}")
        if (self.format == "lance") != self.url.rstrip("/").endswith(".lance"):
            raise ValueError(
                f"a Lance data set, and nothing else, has a name that ends in .lance: got {self.url} for {self.format}"
            )
        if self.format == "lance":
            lance()  # better missing now than in a worker
            lance_url(*place(self.url), self.url)

    def begin(self, job: dict[str, Any]) -> None:
        """Note what is made here; refuse a place that holds something else."""
        files, path = place(self.url)
        if files.exists(f"{path}/{JOB}"):
            before = json.loads(files.cat_file(f"{path}/{JOB}"))
            if before != job:
                key = next(key for key in {**before, **job} if before.get(key) != job.get(key))
                raise ValueError(
                    f"{self.url} was made with {key} {before.get(key)!r}, not {job.get(key)!r}: choose another place"
                )
            return
        if files.exists(path) and (files.isfile(path) or files.ls(path)):
            raise ValueError(f"{self.url} holds something else: choose another place")
        self._put(JOB, json.dumps(job, indent=1))

    def _put(self, name: str, text: str) -> None:
        files, path = place(self.url)
        with placed(files, f"{path}/{name}") as local:
            local.write_text(text + "\n", encoding="utf-8")

    def report(self, shard: str) -> dict[str, Any] | None:
        """What is known of a finished shard; None of another."""
        files, path = place(self.url)
        try:
            content: dict[str, Any] = json.loads(files.cat_file(f"{path}/{REPORTS}/{inside(shard)}.json"))
        except FileNotFoundError:
            return None
        return content

    def reports(self) -> dict[str, dict[str, Any]]:
        """The same of all finished shards."""
        files, path = place(self.url)
        folder = f"{path}/{REPORTS}"
        if not files.exists(folder):
            return {}
        names = [name for name in files.find(folder) if name.endswith(".json")]
        found = [json.loads(content) for content in files.cat(names).values()] if names else []
        return {report["shard"]: report for report in sorted(found, key=lambda report: report["shard"])}

    def finish(self, report: dict[str, Any]) -> None:
        """Declare a shard finished, once its rows are in place."""
        self._put(f"{REPORTS}/{inside(report['shard'])}.json", json.dumps(report))

    def write(self, shard: str, tables: Iterator[pa.Table]) -> dict[str, Any]:
        """Put the rows of one shard in place; where they are, for its report."""
        first = next(tables, None)
        if first is None:
            return {"file": None, "schema": None, "fragments": []}
        tables = chain([first], tables)
        schema = first.schema.serialize().to_pybytes().hex()
        stored: dict[str, Any] = {"file": None, "schema": schema, "fragments": []}
        if self.format == "lance":
            return stored | {"fragments": self._lance(first.schema, tables)}
        files, path = place(self.url)
        stored["file"] = inside(shard) + (".parquet" if self.format == "parquet" else ".tar")
        write: Callable[..., None] = _parquet if self.format == "parquet" else webdataset.write
        with placed(files, f"{path}/{stored['file']}") as local:
            write(local, tables)
        return stored

    def _lance(self, schema: pa.Schema, tables: Iterable[pa.Table]) -> list[Any]:
        from lance.fragment import write_fragments

        raised: list[BaseException] = []

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                for table in tables:
                    yield from table.to_batches()
            except BaseException as error:
                raised.append(error)
                raise

        reader = pa.RecordBatchReader.from_batches(schema, batches())
        files, path = place(self.url)
        mode = "overwrite" if files.exists(f"{path}/_versions") else "create"  # neither commits anything
        try:
            written = write_fragments(reader, lance_url(files, path, self.url), schema=schema, mode=mode)
        except Exception:
            if raised:  # as it was before Lance wrapped it
                raise raised[0] from None
            raise
        return [fragment.to_json() for fragment in written]

    def commit(self, reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make the finished shards one corpus: the rows that were skipped, the data set, and at last the manifest."""
        files, path = place(self.url)
        with placed(files, f"{path}/{SKIPPED}") as local, local.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["shard", "row", "path", "reason"])
            for report in reports:
                writer.writerows([report["shard"], *skip] for skip in report["skipped"])
        if self.format == "lance":
            self._commit_lance(reports)
        kept = ("shard", "mark", "rows", "written", "file")
        manifest = {
            "format": self.format,
            **{name: sum(report[name] for report in reports) for name in ("rows", "written")},
            "skipped": sum(len(report["skipped"]) for report in reports),
            "shards": [{key: report[key] for key in kept} for report in reports],
        }
        self._put(MANIFEST, json.dumps(manifest, indent=1))
        if is_local(files):
            remove_leftovers(path)
        return manifest

    def _commit_lance(self, reports: Sequence[dict[str, Any]]) -> None:
        from lance.fragment import FragmentMetadata

        found = [fragment for report in reports for fragment in report["fragments"]]
        if not found:
            raise ValueError(f"{self.url}: no row could be used; nothing to commit")
        schema = schema_of(next(report for report in reports if report["schema"]))
        module, url = lance(), lance_url(*place(self.url), self.url)
        whole = module.LanceOperation.Overwrite(
            schema, [FragmentMetadata.from_json(json.dumps(each)) for each in found]
        )
        dataset = module.LanceDataset.commit(url, whole)
        # Fragments of writers that were killed are in no version: Lance deletes such files once they are a week old
        dataset.cleanup_old_versions(older_than=timedelta(0))


def schema_of(report: dict[str, Any]) -> pa.Schema:
    """The columns of a finished shard."""
    return pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(report["schema"])))


def _parquet(path: Path, tables: Iterator[pa.Table]) -> None:
    import pyarrow.parquet as pq

    first = next(tables)
    with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        for table in chain([first], tables):
            writer.write_table(table)
