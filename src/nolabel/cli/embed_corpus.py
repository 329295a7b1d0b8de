"""`nolabel embed` of a corpus: shards in, shards out."""

from pathlib import Path
from typing import Any


def embedded(
    run: Path,
    source: str,
    out: str | None,
    format: str | None,
    layer: str | None,
    columns: dict[str, str] | None,
    engine: str,
    address: str | None,
) -> dict[str, Any]:
    """The summary of a corpus of vectors, made or gone on with at `out`."""
    import time

    from nolabel.cli.corpora import bar
    from nolabel.corpus import Embedding, map_corpus, open_corpus
    from nolabel.corpus.places import place
    from nolabel.corpus.reading import pieces
    from nolabel.corpus.writing import SKIPPED, Output

    out = out or f"{Path(source.rstrip('/')).stem.rstrip('*?[') or 'corpus'}.vectors"
    if out.endswith((".npy", ".parquet", ".tar")):
        raise ValueError(f"--out of a corpus is a folder of shards, or a name that ends in .lance; got {out}")
    target = Output(out, format or ("lance" if out.rstrip("/").endswith(".lance") else "parquet"))
    corpus = open_corpus(source)
    function = Embedding(run, columns=columns, layer=layer)
    if layer is not None and function.learner.columns[:1] != ("image",):
        raise ValueError(
            f"--layer is for encoders of images; {type(function.learner).__name__} has representation alone"
        )
    _require_columns(function, next(pieces(corpus.shards[0])), source, columns)
    start = time.perf_counter()
    with bar("embedding") as progress:
        manifest = map_corpus(corpus, function, target, engine=engine, address=address, progress=progress)
    summary = {
        "corpus": out,
        "format": manifest["format"],
        "shards": len(manifest["shards"]),
        "rows": manifest["rows"],
        "vectors": manifest["written"],
        "skipped": manifest["skipped"],
        "seconds": round(time.perf_counter() - start, 1),
    }
    if manifest["skipped"]:
        summary["listed in"] = f"{place(out)[1]}/{SKIPPED}" if "://" not in out else f"{out.rstrip('/')}/{SKIPPED}"
    return summary


def _require_columns(function: Any, piece: Any, source: str, columns: dict[str, str] | None) -> None:
    """Refuse a corpus without a column of the encoder before anything is read, by its first shard."""
    learner = function.learner
    there = set(piece.column_names) | set(columns or {}) | ({"text"} if "html" in piece.column_names else set())
    for old in (columns or {}).values():
        if old not in piece.column_names:
            raise ValueError(f"{source} has no column {old!r}; there are {', '.join(piece.column_names)}")
    for name in learner.transform_columns or learner.columns:
        if name not in there:
            raise ValueError(
                f"{type(learner).__name__} needs a column {name!r}, and {source} has {', '.join(piece.column_names)}; "
                f"name it with --column {name}=NAME"
            )
