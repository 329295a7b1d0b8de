"""`nolabel classify` of images: a folder a class, or a table with a column of labels."""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.cli.classified import Done, Result, Task, Wanted, known, scores_of

#: Side of the images whose pixels the baseline sees.
BASELINE_SIDE = 16


def label_column(table: Any, given: list[str], source: str) -> str:
    """The column of labels: the one named, ``label``, or the sub-folder an image lies in."""
    if len(given) > 1:
        raise ValueError(f"--label: images are classified by one column, got {', '.join(given)}")
    if given:
        return given[0]
    for name in ("label", "folder"):
        if name in table.column_names:
            return name
    there = ", ".join(table.column_names)
    raise ValueError(f"{source} has neither a column 'label' nor sub-folders among {there}; name it with --label NAME")


def learned(table: Any, name: str, wanted: Wanted) -> tuple[Result, list[int]]:
    """Learn from the labelled images but for those held out, test on these, and label all that can be read.

    Also the rows of `table` that the result is about.
    """
    from nolabel.assess.inputs import as_labels
    from nolabel.cli.run import cut_off
    from nolabel.data.labels import class_names

    given = known(table, name, wanted.source)
    rows = np.array([row for row, value in enumerate(given) if value is not None])
    labels = as_labels([given[row] for row in rows], len(rows), name)
    class_names(labels)
    train, held = split(labels, wanted.held_out, wanted.seed)
    named = table.select(rows[train])
    if name != "label":
        others = [other for other in ["label"] if other in named.column_names]
        named = named.remove_columns(others).rename_column(name, "label")
    if wanted.resume and (wanted.folder / "config.json").exists():
        classifier = cut_off(learner_of(wanted), named, wanted.folder)
    else:
        classifier = learner_of(wanted).fit(named, run=wanted.folder, resume=wanted.resume)
    result, there = labelled(table, name, given, classifier, frozenset(rows[held].tolist()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same files were counted above
        baseline = pixel_baseline(table.select(rows[train]), labels[train])
        tested = [row for row in sorted(result.held) if row in set(there)]
        found = baseline(table.select(tested))
    truth = [given[row] for row in tested]
    result.scores[name][f"logistic regression on {BASELINE_SIDE} x {BASELINE_SIDE} pixels"] = scores_of(  # type: ignore[index]
        truth, classifier.class_names_, found
    )
    return result, there


def labelled(
    table: Any, name: str, given: list[Any], classifier: Any, held: frozenset[int] | None
) -> tuple[Result, list[int]]:
    """Labels of all images that can be read; tested on the `held` rows, or where it is None on all that have a label."""
    source = classifier.open_one(table, None)
    names = classifier.class_names_
    logits = classifier.transform_source(source, layer="logits").astype(np.float64)
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    found /= found.sum(axis=1, keepdims=True)
    rows = [int(row) for row in source.rows]
    tested = [at for at, row in enumerate(rows) if given[row] is not None and (held is None or row in held)]
    scores: dict[str, dict[str, Any]] = {}
    if tested:
        strange = sorted({str(given[rows[at]]) for at in tested if given[rows[at]] not in names})
        if strange:
            raise ValueError(f"--label {name}: {strange[0]!r} is none of the labels {', '.join(map(str, names))}")
        truth = [given[rows[at]] for at in tested]
        scores[name] = {type(classifier).__name__: scores_of(truth, names, found[tested])}
    told = [names[at] for at in found.argmax(axis=1)]
    task = Task([given[row] for row in rows], told, found.max(axis=1).tolist())
    return Result(classifier, {name: task}, held or frozenset(), scores), rows


def split(labels: np.ndarray, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions to learn from and to test on, every class in both."""
    from sklearn.model_selection import train_test_split

    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        alone = ", ".join(map(str, classes[counts < 2][:5]))
        raise ValueError(f"each label needs 2 images, one to learn from and one to test on; there is one of {alone}")
    share = max(held_out, len(classes) / len(labels))
    if (1 - share) * len(labels) < len(classes):
        raise ValueError(f"--held-out {held_out}: too few of {len(labels)} images are left for {len(classes)} labels")
    train, held = train_test_split(np.arange(len(labels)), test_size=share, stratify=labels, random_state=seed)
    return np.sort(train), np.sort(held)


def pixel_baseline(table: Any, labels: np.ndarray) -> Any:
    """Probabilities, for a table of images, of what has to be beaten: logistic regression on small pixels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from nolabel.learn import RawPixels

    pixels = RawPixels(image_size=BASELINE_SIDE).fit(table)
    rows = pixels.open_one(table, None).rows
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(pixels.transform(table), labels[rows])
    return lambda images: model.predict_proba(pixels.transform(images))


def classify(table: Any, wanted: Wanted) -> Done:
    """Label the images of a table; a run that learned leaves an index and a report as well."""
    from nolabel.cli.run import complete

    if "image" not in table.column_names:
        there = ", ".join(table.column_names)
        raise ValueError(f"{wanted.source} has no column 'image' among {there}; name it with --column image=NAME")
    counts: dict[str, Any] = {}
    if wanted.model is None:
        name = label_column(table, wanted.label, wanted.source)
        result, rows = learned(table, name, wanted)
        run = complete(result.classifier, table, wanted.folder, wanted.source, " ".join(["nolabel", *sys.argv[1:]]))
        counts["seconds"] = run["seconds"]
    else:
        given = known(table, wanted.label[0], wanted.source) if wanted.label else [None] * len(table)
        name = label_column(table, wanted.label, wanted.source) if wanted.label else "label"
        result, rows = labelled(table, name, given, classifier_at(wanted.model), None)
        wanted.folder.mkdir(parents=True, exist_ok=True)
        run = {}
    counts = {"images": len(rows), "skipped": len(table) - len(rows), **counts}
    paths = table["path"] if "path" in table.column_names else None
    items = [f"row {row}" if paths is None else str(paths[row]) for row in rows]
    return Done(result, "image" if paths is None else "path", rows, items, counts, run.get("report"))


def learner_of(wanted: Wanted) -> Any:
    """An unfitted classifier from the words of the command line."""
    from nolabel.cli.run import settings_of
    from nolabel.learn import ImageClassifier
    from nolabel.training import ImageLearner, Training, load

    if wanted.label_epochs is not None:
        raise ValueError("--label-epochs is for URLs: of images, --epochs says how often the labelled ones are seen")
    training = Training(wanted.epochs, random_state=wanted.seed)
    params = settings_of(ImageClassifier, "image", wanted.setting)
    if wanted.encoder is not None:
        params["encoder"] = wanted.encoder
    if wanted.run is not None:
        if wanted.encoder is not None:
            raise ValueError("--run brings an encoder that is learned: leave --encoder out")
        params["representation"] = load(wanted.run)
        if not isinstance(params["representation"], ImageLearner):
            kind = type(params["representation"]).__name__
            raise ValueError(f"--run: {wanted.run} holds a {kind}; expected a run that learned from images")
    return ImageClassifier(**{"freeze": wanted.freeze, "training": training} | params)


def classifier_at(model: Path) -> Any:
    """The image classifier of a run folder."""
    from nolabel.learn import ImageClassifier
    from nolabel.training import load

    found = load(model)
    if not isinstance(found, ImageClassifier):
        raise ValueError(
            f"--model: {model} holds a {type(found).__name__}; expected a run of `nolabel classify` of images"
        )
    return found
