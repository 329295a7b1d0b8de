"""`nolabel clean` of a corpus: vectors shard by shard, then the suspects among all labels."""

import csv
import json
from pathlib import Path
from typing import Any

VECTORS = "vectors"


def cleaned(
    source: str,
    label: str,
    run: Path | None,
    folder: Path,
    columns: dict[str, str] | None,
    seed: int,
    engine: str,
    address: str | None,
) -> tuple[dict[str, Any], Any]:
    """Summary and table of the suspects of a corpus, written to `folder`.

    A corpus that has no column ``vector`` is embedded first, into ``folder/vectors``; this goes on after an interruption.
    """
    import pyarrow.parquet as parquet

    from nolabel.clean import suspects_by_shards
    from nolabel.cli.clean import REPORT, SUSPECTS, TABLE
    from nolabel.cli.embed_corpus import embedded
    from nolabel.corpus import open_corpus
    from nolabel.corpus.reading import pieces
    from nolabel.data.replacing import replacing
    from nolabel.training.estimator import write_text

    corpus = open_corpus(source)
    there = next(pieces(corpus.shards[0])).column_names
    if label not in there:
        raise ValueError(f"--label: no column {label!r} in {source}; there are {', '.join(there)}")
    skipped = 0
    if "vector" in there:
        if run is not None:
            raise ValueError(f"{source} has vectors already: leave --run out")
        if "id" not in there:
            raise ValueError(f"{source} has no column 'id', by which suspects could be named")
    else:
        if run is None:
            raise ValueError(f"{source} has no column 'vector': name a run that makes one by --run")
        made = embedded(run, source, str(folder / VECTORS), None, None, columns, engine, address)
        corpus, skipped = open_corpus(str(folder / VECTORS)), made["skipped"]
    found = suspects_by_shards(corpus, label, random_state=seed, engine=engine, address=address)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / TABLE) as partial:
        parquet.write_table(found.suspects, partial)
    with replacing(folder / SUSPECTS) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(found.suspects.column_names)
        for batch in found.suspects.to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                writer.writerow([f"{cell:.4f}" if isinstance(cell, float) else cell for cell in row.values()])
    kinds = found.suspects["kind"].to_pylist()
    summary = {
        "rows": found.rows + skipped,
        "skipped": skipped,
        "judged": found.judged,
        "learned from": found.sample,
        "suspects": len(kinds),
        **{f"{kind}s": kinds.count(kind) for kind in ("wrong label", "stranger")},
        "table": str(folder / SUSPECTS),
    }
    write_text(folder / REPORT, json.dumps(summary, indent=1) + "\n")
    return summary, found.suspects
