"""`nolabel cluster` of documents, by topics that keywords describe."""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nolabel.data.replacing import replacing

TABLE, BEST, PAGE = "topics.parquet", "best_documents.csv", "topics.html"
#: Columns that say which document a row is.
IDENTIFIERS = ("id", "doc_id", "path", "url")
TEXT_LENGTH = 500


def learner_of(
    keywords: Path | None, model: Path | None, encoder: str | None, min_docs: int, settings: dict[str, Any]
) -> Any:
    """What sorts the documents: learned before, or still to be fitted."""
    from nolabel.cli.keyword_files import read_keywords
    from nolabel.cluster import Lbl2TransformerVec, Lbl2Vec
    from nolabel.training import load

    if (keywords is None) == (model is None):
        raise ValueError(
            "give either --keywords FILE, to learn topics, or --model FOLDER, to sort by topics learned before; "
            "or --domains COLUMN, to find classes whose share differs between sources"
        )
    if model is not None:
        loaded = load(model)
        if not isinstance(loaded, Lbl2Vec | Lbl2TransformerVec):
            raise ValueError(f"--model: {model} holds a {type(loaded).__name__}, which has no topics")
        return loaded
    assert keywords is not None
    topics = read_keywords(keywords)
    if encoder is not None:
        return Lbl2TransformerVec(topics, encoder, min_docs=min_docs)
    return Lbl2Vec(topics, min_docs=min_docs, **settings)


def clustered(
    source: str,
    columns: dict[str, str] | None,
    learner: Any,
    folder: Path,
    threshold: float | None,
    top: int,
    as_json: bool,
) -> None:
    """Sort the documents of a path or known set by what `learner_of` made, write what was found, and tell it."""
    from nolabel.cli.output import answer, grid

    documents = _documents(source, columns)
    new = not learner._learned()
    with _bar("learning" if new else "sorting") as progress:
        if new:
            learner.fit(documents.texts, progress=progress)
            similarity = learner.decision_function()
        else:
            similarity = learner.decision_function(documents.texts, progress=progress)
    labels = learner.choose(similarity, threshold)
    best = [_best(similarity[:, i], labels == label, top) for i, label in enumerate(learner.labels_)]
    folder.mkdir(parents=True, exist_ok=True)
    _write_table(folder / TABLE, documents, learner.labels_, labels, similarity)
    _write_best(folder / BEST, documents, learner.labels_, best, similarity)
    summary = _summary(folder, learner, documents, labels, similarity)
    _write_page(folder / PAGE, source, learner, documents, best, labels, similarity)
    if new:
        learner.save(folder)
    rows = [
        [topic["topic"], topic["documents"], topic["similarity"], documents.texts[rows[0]][:60] if len(rows) else None]
        for topic, rows in zip(summary["topics"], best, strict=True)
    ]
    shown = grid(None, ["topic", "documents", "similarity", "best document"], rows)
    answer(summary, as_json, shown, lines=["", *summary["next"]])


@dataclass(frozen=True)
class Documents:
    """The documents of a table that hold words, and which rows they are."""

    table: Any
    rows: list[int]
    texts: list[str]
    names: list[str]
    skipped: list[tuple[str, str]]

    @property
    def identifiers(self) -> dict[str, list[Any]]:
        """The columns of the table that say which document a row is."""
        found = [name for name in IDENTIFIERS if name in self.table.column_names]
        return {name: list(self.table.select(self.rows)[name]) for name in found}


def _documents(source: str, columns: dict[str, str] | None) -> Documents:
    """The texts of a path or known set; those without a word are left out and listed."""
    from nolabel.cli.run import open_table

    table = open_table(source, columns)
    if "text" not in table.column_names:
        there = ", ".join(table.column_names)
        raise ValueError(f"{source} has no column 'text' among {there}; name the texts with --column text=NAME")
    values = list(table["text"])
    wrong = next((row for row, value in enumerate(values) if value is not None and not isinstance(value, str)), None)
    if wrong is not None:
        raise ValueError(f"{source}: the column of texts holds a {type(values[wrong]).__name__} in row {wrong}")
    identifier = next((name for name in IDENTIFIERS if name in table.column_names), None)
    names = [str(value) for value in table[identifier]] if identifier else [f"row {row}" for row in range(len(table))]
    rows = [row for row, text in enumerate(values) if text is not None and re.search(r"\w", text)]
    kept = set(rows)
    skipped = [(names[row], "no words in it") for row in range(len(values)) if row not in kept]
    return Documents(table, rows, [values[row] for row in rows], [names[row] for row in rows], skipped)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, as a function of what is done and how much there is."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _best(similarity: Any, own: Any, top: int) -> Any:
    """Positions of a topic's own documents, most similar first."""
    import numpy as np

    mine = np.flatnonzero(own)
    return mine[np.argsort(-similarity[mine], kind="stable")[:top]]


def _write_table(path: Path, documents: Documents, topics: list[str], labels: Any, similarity: Any) -> None:
    """A row a document: where it stands in the source, its topic, and its similarity to every topic."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"row": documents.rows, **documents.identifiers, "topic": list(labels)}
    columns["similarity"] = [
        None if label is None else float(s[topics.index(label)]) for label, s in zip(labels, similarity)
    ]
    columns |= {f"similarity to {topic}": similarity[:, i] for i, topic in enumerate(topics)}
    with replacing(path) as partial:
        pq.write_table(pa.table(columns), partial, compression="zstd")


def _write_best(path: Path, documents: Documents, topics: list[str], best: Sequence[Any], similarity: Any) -> None:
    """The best documents of each topic, for a spreadsheet."""
    identifiers = documents.identifiers
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["topic", "rank", "similarity", "row", *identifiers, "text"])
        for i, topic in enumerate(topics):
            for rank, at in enumerate(best[i], start=1):
                text = " ".join(documents.texts[at].split())[:TEXT_LENGTH]
                which = [values[at] for values in identifiers.values()]
                writer.writerow([topic, rank, f"{similarity[at, i]:.4f}", documents.rows[at], *which, text])


def _summary(folder: Path, learner: Any, documents: Documents, labels: Any, similarity: Any) -> dict[str, Any]:
    unknown = getattr(learner, "unknown_keywords_", {})
    topics = []
    for i, label in enumerate(learner.labels_):
        own = labels == label
        topic = {"topic": label, "documents": int(own.sum())}
        topic["similarity"] = round(float(similarity[own, i].mean()), 4) if own.any() else None
        topics.append(topic | {"unknown keywords": unknown.get(label, [])})
    return {
        "run": str(folder),
        "method": type(learner).__name__,
        "documents": len(documents.rows),
        "without a topic": int(sum(label is None for label in labels)),
        "skipped": len(documents.skipped),
        "topics": topics,
        "table": str(folder / TABLE),
        "best documents": str(folder / BEST),
        "page": str(folder / PAGE),
        "next": [f"open    {folder / PAGE}", f"table   {folder / TABLE}", f"best    {folder / BEST}"],
    }


def _write_page(
    path: Path, source: str, learner: Any, documents: Documents, best: Sequence[Any], labels: Any, similarity: Any
) -> None:
    """The page to look at."""
    from nolabel.cluster.candidates import cosine
    from nolabel.report.topics import Topic, TopicDocument, TopicsContents, write_topics
    from nolabel.training.estimator import versions

    unknown = getattr(learner, "unknown_keywords_", {})
    topics = []
    for i, label in enumerate(learner.labels_):
        listed = [TopicDocument(documents.names[at], float(similarity[at, i]), documents.texts[at]) for at in best[i]]
        near = [word for word, _ in learner.words_near(label, 12)] if hasattr(learner, "words_near") else []
        size = int((labels == label).sum())
        topics.append(Topic(label, learner.keywords[label], unknown.get(label, []), size, listed, near))
    parameters = {k: str(v) for k, v in learner.get_params(deep=False).items() if k != "keywords"}
    summary = {"method": type(learner).__name__, "data": f"{source}: {len(documents.rows):,} documents", **parameters}
    summary |= {f"version of {k}": v for k, v in versions().items()}
    write_topics(
        path,
        TopicsContents(
            title=path.parent.name,
            topics=topics,
            likeness=cosine(learner.label_vectors_, learner.label_vectors_),
            without=int(sum(label is None for label in labels)),
            skipped=documents.skipped,
            summary=summary,
        ),
    )
