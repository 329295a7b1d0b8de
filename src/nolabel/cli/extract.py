"""`nolabel extract`: fields of web pages, learned from all pages and from a few whose values are known."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

REPORT = "report.json"


def command(
    source: str = typer.Argument(..., help="Folder of pages, a table with a column html, or the name of a known set."),
    fields: str | None = typer.Option(None, "--fields", "-f", help="Names of the fields, such as title,price."),
    values: Path | None = typer.Option(
        None,
        "--values",
        help="Table of known values: a column path, page or url, and one for each field; several values as a JSON list. "
        "Default: the columns of SOURCE of these names, empty where nothing is known.",
    ),
    run: Path | None = typer.Option(
        None, "--run", help="Run folder of `nolabel learn --method dom-lm`: begin with it."
    ),
    model: Path | None = typer.Option(
        None, "--model", help="Run folder of an earlier `nolabel extract`: only extract."
    ),
    out: Path | None = typer.Option(None, "--out", "-o", help="Run folder; runs/NAME-fields by default."),
    column: list[str] = typer.Option([], "--column", help="Name of a column if it differs, such as html=body."),
    encoder: str | None = typer.Option(None, help="bert-2x128, hf:NAME, ..."),
    epochs: int | None = typer.Option(None, help="Passes over all pages, without values."),
    minutes: float | None = typer.Option(None, help="Wall time over all pages, instead of epochs."),
    label_epochs: int | None = typer.Option(None, help="Passes over the pages with known values."),
    held_out: float = typer.Option(
        0.2, help="Share of the sites with known values (of the pages, if sites are few) to test on."
    ),
    threshold: float = typer.Option(0.1, help="Least probability of a value that is extracted."),
    setting: list[str] = typer.Option([], "--set", help="A parameter of dom-lm, such as max_tokens=256."),
    seed: int = typer.Option(0, "--seed", help="Seed of weights, batches and what is held out."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Extract fields of pages: learn from all, then from those with known values; tested on sites that were kept out.

    A value labels the node whose whole text it is. A page with some known values is taken to lack the other fields.
    """
    from nolabel.cli.claims import claim
    from nolabel.cli.extracted import CSV, PAGE, TABLE, write_files, write_page
    from nolabel.cli.known_values import known_values, labels_of, match, score, split
    from nolabel.cli.output import answer
    from nolabel.cli.run import open_table, read_columns
    from nolabel.data.dom_pages import usable_pages
    from nolabel.training.estimator import write_text

    folder = out or Path("runs") / f"{Path(source.rstrip('/')).stem or 'data'}-fields"
    claim(folder)
    if (folder / "config.json").exists() or (folder / REPORT).exists():
        raise ValueError(f"{folder} holds a finished run: choose another folder or delete it")
    if not 0.0 < held_out < 1.0:
        raise ValueError(f"--held-out must be a share in (0, 1), got {held_out}")
    if not 0.0 <= threshold < 1.0:
        raise ValueError(f"--threshold must be a probability in [0, 1), got {threshold}")
    table = open_table(source, read_columns(column))
    if "html" not in table.column_names:
        there = ", ".join(table.column_names)
        raise ValueError(f"{source} has no column 'html' among {there}; name it with --column html=NAME")
    wanted = _names(fields)
    if model is not None:
        _refuse(fields=fields, values=values, run=run, encoder=encoder, epochs=epochs, minutes=minutes, setting=setting)
        known = None
        extractor = _loaded(model, "AttributeExtractor", "nolabel extract")
    elif not wanted:
        raise ValueError(
            "--fields: name what to extract, such as title,price, or give --model RUN of an earlier extract"
        )
    else:
        known = known_values(table, wanted, values, source)
    pages = usable_pages(table)
    tested: dict[str, Any] = {}
    if known is not None:
        language = _language_model(run, setting, encoder, epochs, minutes, seed)
        labels = match(pages, [known[row] for row in pages.rows.tolist()], wanted)
        train, test, kind = split(table.select(pages.rows), labels, wanted, held_out, seed)
        extractor = learn(language, pages, labels, train, label_epochs, seed)
    found = extracted(pages, extractor.predict_proba(list(pages)), extractor, threshold)
    if known is not None:
        scores = {name: score(name, [found[i] for i in test], [labels[i] for i in test]) for name in wanted}
        tested = {"tested on": kind, "held out pages": len(test), "scores": scores}
        tested["values"] = {name: labels_of(labels, name) for name in wanted}
    folder.mkdir(parents=True, exist_ok=True)
    names = page_names(table, pages.rows)
    held = {int(i) for i in test} if known is not None else set()
    write_files(folder, pages, names, found, held)
    write_page(folder / PAGE, source, pages, names, found, labels if known is not None else None, held, tested)
    if known is not None:
        extractor.save(folder)
    summary = {
        "run": str(folder),
        "fields": extractor.class_names_,
        "pages": len(pages),
        "skipped": len(pages.skipped),
        "skipped pages": [str(skip) for skip in pages.skipped[:20]],
        "cut nodes": extractor.language_model.cut_,
        "extracted": {
            name: sum(one.field == name for page in found for one in page) for name in extractor.class_names_
        },
        **tested,
        "table": str(folder / TABLE),
        "next": [
            f"open     {folder / PAGE}",
            f"table    {folder / CSV}",
            *([f"extract  nolabel extract NEW --model {folder}"] if model is None else []),
        ],
    }
    write_text(folder / REPORT, json.dumps(summary, indent=1) + "\n")
    answer(summary, as_json, *_tables(summary), lines=summary["next"])


def _names(fields: str | None) -> list[str]:
    names = [name.strip() for name in (fields or "").split(",") if name.strip()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"--fields: {twice[0]} is named twice")
    return names


def _refuse(**given: Any) -> None:
    """Nothing is learned where a model of before extracts."""
    for name, value in given.items():
        if value:
            option = {"setting": "set"}.get(name, name)
            raise ValueError(
                f"--{option} is for learning, --model for extracting with what was learned: give one of them"
            )


def _loaded(folder: Path, kind: str, command: str) -> Any:
    from nolabel.training import load

    loaded = load(folder)
    if type(loaded).__name__ != kind:
        raise ValueError(f"{folder} holds a {type(loaded).__name__}; expected a run of `{command}`")
    return loaded


def _language_model(
    run: Path | None, setting: list[str], encoder: str | None, epochs: int | None, minutes: float | None, seed: int
) -> Any:
    """The language model of a run, or one that is still to be fitted."""
    from nolabel.cli.run import learner_of
    from nolabel.training import Training

    if run is None:
        return learner_of("dom-lm", setting, encoder, None, Training(epochs, minutes=minutes, random_state=seed))
    if setting or encoder or epochs or minutes:
        raise ValueError("--run brings a model that is learned: leave --set, --encoder, --epochs and --minutes out")
    return _loaded(run, "DomLM", "nolabel learn --method dom-lm")


def learn(
    language: Any, pages: Sequence[Any], labels: Sequence[Any], train: Sequence[int], epochs: int | None, seed: int
) -> Any:
    """Learn from all pages unless that is done, then from the labelled ones."""
    import warnings

    from nolabel.learn import AttributeExtractor
    from nolabel.training import Training

    if not language._learned():
        language.fit(list(pages))
    given = [labels[i].nodes.xpaths(pages[i]) for i in train]
    fields = {name for one in labels for name in one.expected}
    for name in sorted(fields):
        lacking = sum(name not in labels[i].expected for i in train)
        if lacking:
            text = f"{lacking} of {len(train)} pages to learn from have other values but no {name}: taken to lack it"
            warnings.warn(text, stacklevel=2)
    head = AttributeExtractor(language, training=Training(epochs, random_state=seed))
    return head.fit([pages[i] for i in train], given)


def extracted(pages: Sequence[Any], probabilities: Sequence[Any], extractor: Any, threshold: float) -> list[list[Any]]:
    """The values of each page: the most probable of a field that no page had twice, of other fields all nodes called so."""
    import numpy as np

    from nolabel.cli.known_values import Value

    found = []
    for page, p in zip(pages, probabilities, strict=True):
        best, texted = p.argmax(axis=1), page.spans[:, 1] > page.spans[:, 0]
        own: list[Any] = []
        for code, name in enumerate(extractor.class_names_, 1):
            usable = texted & (p[:, code] >= threshold)
            if name in extractor.single_:
                nodes = [int(np.where(usable, p[:, code], -1.0).argmax())] if usable.any() else []
            else:
                nodes = np.flatnonzero(usable & (best == code)).tolist()
            # of nodes one in the other with the same text, the innermost
            inner = {tuple(page.spans[node].tolist()): node for node in nodes}
            own += [Value(name, node, page.full_text(node), float(p[node, code])) for node in inner.values()]
        found.append(own)
    return found


def page_names(table: Any, rows: Any) -> list[str]:
    """What each page is called: its path, page or URL, else its row."""
    own = next((name for name in ("path", "url", "page", "page_id") if name in table.column_names), None)
    return [
        f"row {row}" if own is None else str(name) for row, name in zip(rows, table.select(rows)[own] if own else rows)
    ]


def _tables(summary: Mapping[str, Any]) -> list[Any]:
    from nolabel.cli.output import grid, pairs

    tables = [pairs(None, {name: summary[name] for name in ("run", "pages", "skipped", "cut nodes")})]
    if "scores" not in summary:
        return [*tables, pairs("extracted", summary["extracted"])]
    keys = ["known", "label a node", "ambiguous", "not on the page"]
    counts = [[name, *(given[key] for key in keys)] for name, given in summary["values"].items()]
    measures = ["pages", "precision", "recall", "F1"]
    scores = [
        [name, summary["extracted"][name], *(own[key] for key in measures)] for name, own in summary["scores"].items()
    ]
    return [
        *tables,
        grid("known values", ["field", *keys], counts),
        grid(f"tested on {summary['tested on']}", ["field", "extracted", *measures], scores),
    ]
