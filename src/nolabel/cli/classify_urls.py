"""`nolabel classify` of URLs: labels learned from many without one and a few with one."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nolabel.cli.classified import Done, Result, Task, Wanted, known, scores_of


def classify(table: Any, wanted: Wanted) -> Done:
    """Label the URLs of a table."""
    from nolabel.cli.catalogue import classifiers
    from nolabel.data.urls import require_urls

    classes = classifiers("urlbert")
    if wanted.resume:
        raise ValueError("--resume is for runs of images")
    if "url" not in table.column_names:
        there = ", ".join(table.column_names)
        raise ValueError(f"{wanted.source} has no column 'url' among {there}; name it with --column url=NAME")
    named = [row for row, url in enumerate(table["url"]) if url is not None and str(url).strip()]
    if named and len(named) < len(table):
        warnings.warn(f"{len(table) - len(named)} of {len(table)} rows have no URL and were left out", stacklevel=1)
        table = table.select(named)
    urls = require_urls(table["url"])
    if wanted.model is not None:
        given = {name: known(table, name, wanted.source) for name in wanted.label}
        result = _labelled(wanted.model, classes, urls, given)
    else:
        tasks = {name: known(table, name, wanted.source) for name in wanted.label or ["label"]}
        learner = _encoder(classes[0], wanted)
        result = _learned(learner, classes, urls, tasks, wanted)
    wanted.folder.mkdir(parents=True, exist_ok=True)
    if wanted.model is None:
        result.classifier.save(wanted.folder)
    cut = result.classifier.language_model.truncated_
    counts = {"urls": len(urls), "cut URLs of the encoder's fit": cut}
    return Done(result, "url", range(len(urls)), urls, counts)


def _encoder(cls: Any, wanted: Wanted) -> Any:
    """The encoder of a run, or one that is still to be fitted."""
    from nolabel.cli.run import learner_of
    from nolabel.training import Training, load

    if wanted.run is None:
        training = Training(wanted.epochs, random_state=wanted.seed)
        return learner_of("urlbert", wanted.setting, wanted.encoder, None, training)
    if wanted.setting or wanted.encoder or wanted.epochs:
        raise ValueError("--run brings an encoder that is learned: leave --set, --encoder and --epochs out")
    loaded = load(wanted.run)
    if not isinstance(loaded, cls):
        raise ValueError(f"--run: {wanted.run} holds a {type(loaded).__name__}; expected a run of --method urlbert")
    return loaded


def _learned(
    learner: Any, classes: Sequence[Any], urls: list[str], tasks: dict[str, list[Any]], wanted: Wanted
) -> Result:
    """Learn from all URLs, then from the labelled ones outside of the domains held out; test on these."""
    import numpy as np

    from nolabel.data.urls import split_by_domain
    from nolabel.learn.url_labels import character_baseline, classes_of
    from nolabel.training import Training

    for name, values in tasks.items():
        classes_of([value for value in values if value is not None], name)
    flat = [
        (row, (name, value)) for name, values in tasks.items() for row, value in enumerate(values) if value is not None
    ]
    rows = np.array([row for row, _ in flat])
    learned, held = split_by_domain(
        [urls[row] for row in rows], wanted.held_out, [about for _, about in flat], random_state=wanted.seed
    )
    inside, test = frozenset(rows[learned].tolist()), frozenset(rows[held].tolist())
    learn = {name: [row for row in sorted(inside) if values[row] is not None] for name, values in tasks.items()}
    if not learner._learned():
        learner.fit(urls)
    _, single, several = classes
    made = (single if len(tasks) == 1 else several)(
        learner, freeze=wanted.freeze, training=Training(wanted.label_epochs, random_state=wanted.seed)
    )
    parts = {name: ([urls[row] for row in mine], [tasks[name][row] for row in mine]) for name, mine in learn.items()}
    classifier = made.fit(*parts[next(iter(tasks))]) if len(tasks) == 1 else made.fit(parts)
    told, scores = {}, {}
    for name, values in tasks.items():
        names, found = _probabilities(classifier, urls, name)
        told[name] = _task(values, names, found)
        rows = np.array([row for row in sorted(test) if values[row] is not None], np.int64)
        if not len(rows):
            raise ValueError(f"{name}: no labelled URL is on a domain held out; raise --held-out")
        truth = [values[row] for row in rows]
        baseline = character_baseline().fit(*parts[name]).predict_proba([urls[row] for row in rows])
        scores[name] = {
            type(classifier).__name__: scores_of(truth, names, found[rows]),
            "character n-grams": scores_of(truth, names, baseline),
        }
    return Result(classifier, told, test, scores)


def _labelled(model: Path, classes: Sequence[Any], urls: list[str], given: dict[str, list[Any]]) -> Result:
    """Label with a model from before; where there are labels, it is tested on them."""
    import numpy as np

    from nolabel.training import load

    classifier: Any = load(model)
    expected: Any = tuple(classes[1:])
    if not isinstance(classifier, expected):
        raise ValueError(f"--model: {model} holds a {type(classifier).__name__}; expected a run of `nolabel classify`")
    single = isinstance(classifier, classes[1])
    there = [*given] if single and given else ["label"] if single else list(classifier.class_names_)
    unknown = [name for name in given if name not in there[: 1 if single else None]]
    if unknown:
        raise ValueError(f"--label {unknown[0]}: {model} was learned for {', '.join(there)}")
    told, scores = {}, {}
    for name in there:
        values = given.get(name, [None] * len(urls))
        names, found = _probabilities(classifier, urls, name)
        told[name] = _task(values, names, found)
        rows = np.array([row for row, value in enumerate(values) if value is not None], np.int64)
        if len(rows):
            strange = sorted({str(values[row]) for row in rows if values[row] not in names})
            if strange:
                raise ValueError(f"--label {name}: {strange[0]!r} is none of the labels {', '.join(map(str, names))}")
            scores[name] = {type(classifier).__name__: scores_of([values[row] for row in rows], names, found[rows])}
    return Result(classifier, told, frozenset(), scores)


def _probabilities(classifier: Any, urls: list[str], name: str) -> tuple[list[Any], Any]:
    """The labels of a task, and the probability of each for all URLs."""
    task = name if name in classifier.class_names_ else next(iter(classifier.class_names_))
    return classifier.class_names_[task], classifier.probabilities(urls, task)


def _task(given: Sequence[Any], names: list[Any], probabilities: Any) -> Task:
    best = probabilities.argmax(axis=1)
    return Task(given, [names[i] for i in best], probabilities.max(axis=1).tolist())
