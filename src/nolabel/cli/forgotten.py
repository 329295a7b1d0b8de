"""What `nolabel protect forget` does: find the images, forget them, write the run without them and the record of it."""

import hashlib
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.cli.run_images import Images, Wanted, held_out, images_of, source_of

RECORD, PAGE, UNFINISHED = "forgetting.json", "forgetting.html", "unfinished"
KEPT_ALIKE = 0.9  # below, a note says that what stays is called otherwise than before


def forget(wanted: Wanted) -> dict[str, Any]:
    """Do all of it; returns the record."""
    from nolabel.cli.claims import claim
    from nolabel.cli.run import write_page
    from nolabel.protect.splitting import split_model
    from nolabel.training import ImageLearner, load
    from nolabel.training.estimator import write_text

    check_source(wanted)
    claim(wanted.folder)
    check_folder(wanted)
    model = load(wanted.run)
    if not isinstance(model, ImageLearner):
        raise ValueError(f"{wanted.run} holds a {type(model).__name__}; expected a run that learned from images")
    split_model(model, "auto")  # says at once if this kind of model cannot forget
    images = images_of(wanted, model)
    held, given = held_out(wanted.run, images)
    laf, sources, unseen_from = learned(wanted, model, images, held)
    made = laf.forgotten_model()
    folder = wanted.folder
    made.save(folder)
    write_text(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in made.history_))
    kept = images.positions[~images.forget]
    vectors = made.transform_source(images.opened)
    write_index(wanted.run, folder, images, vectors)
    contents = kept_contents(images, kept)
    write_page(folder, made, vectors[kept], images.table, contents, wanted.data or str(wanted.run), wanted.command)
    told = record(wanted, model, laf, images, sources, unseen_from, given, held)
    write_record(folder, told)
    shutil.rmtree(folder / UNFINISHED)  # it holds the old weights; last, so that a resume finds it
    return told


def check_source(wanted: Wanted) -> None:
    """Refuse a run that is not there, or that would be written over."""
    folder = wanted.folder
    if not wanted.run.exists():
        raise FileNotFoundError(f"no run folder at {wanted.run}")
    if folder.exists() and folder.resolve() == wanted.run.resolve():
        raise ValueError(f"--out {folder} is the run itself, which stays as it is: choose another folder")


def check_folder(wanted: Wanted) -> None:
    """Refuse folders that would be written over."""
    folder = wanted.folder
    begun = (folder / UNFINISHED).exists()
    if (folder / RECORD).exists() and not begun:
        raise ValueError(f"{folder} holds a finished forgetting: choose another folder or delete it")
    if begun and not wanted.resume:
        raise ValueError(f"{folder} holds an unfinished forgetting: go on with --resume, or delete it")
    if not begun and (folder / "config.json").exists():
        raise ValueError(f"{folder} holds a finished run: choose another folder or delete it")


def learned(wanted: Wanted, model: Any, images: Images, held: np.ndarray) -> tuple[Any, dict[str, Any], str | None]:
    """The forgetting, the sources it is judged by, and what those never learned from are."""
    from nolabel.cli.run import open_table, settings_of
    from nolabel.data.parts import Parts
    from nolabel.protect import LabelAgnosticForgetting
    from nolabel.training import Training, load
    from nolabel.training.batches import Some
    from nolabel.training.checkpoint import CHECKPOINT

    learned_from = {"retain": ~images.forget & ~held, "forget": images.forget}
    sources = {name: Some(images.opened, images.positions[rows]) for name, rows in learned_from.items()}
    if not len(sources["retain"]):
        raise ValueError(
            f"--ids names all images that {wanted.run} learned from: nothing would stay, delete the run instead"
        )
    unfinished = wanted.folder / UNFINISHED
    if (unfinished / "config.json").exists():
        laf = load(unfinished)
    else:
        params = settings_of(LabelAgnosticForgetting, "forget", wanted.setting)
        training = Training(wanted.epochs, random_state=wanted.seed)
        laf = LabelAgnosticForgetting(model, **{"training": training} | params)
        resume = wanted.resume and (unfinished / CHECKPOINT).exists()
        laf.fit_source(Parts(sources), run=unfinished, resume=resume)
    if wanted.unseen is not None:
        sources["test"] = model.open_one(open_table(wanted.unseen, wanted.columns), None)
        return laf, sources, f"{len(sources['test']):,} images of {wanted.unseen}"
    rows = held & ~images.forget
    if rows.any():
        sources["test"] = Some(images.opened, images.positions[rows])
        return laf, sources, f"the {int(rows.sum()):,} images that the run held out"
    return laf, sources, None


def write_index(run: Path, folder: Path, images: Images, vectors: np.ndarray) -> None:
    """A fresh index of what stays, under the same ids: no version of it ever held the rest."""
    from nolabel.cli.run import INDEX
    from nolabel.search import Index
    from nolabel.training import identity

    old = Index(run)
    for left in (INDEX, "index.faiss"):  # of a forgetting that was cut off while it wrote its index
        shutil.rmtree(folder / left, ignore_errors=True)
    new = Index.create(folder, dim=vectors.shape[1], metric=old.metric, encoder=identity(folder))
    ids = images.indexed["id"].to_numpy()[~images.forget]
    own = vectors[images.positions[~images.forget]]
    columns = [name for name in old.info()["columns"] if name != "vector"]

    def pieces() -> Any:
        for start in range(0, len(ids), 4096):
            part = slice(start, start + 4096)
            yield {"vectors": own[part], "payload": old.rows(ids[part], columns), "ids": ids[part]}

    new.add(pieces())


def kept_contents(images: Images, kept: np.ndarray) -> Any:
    """What stays, as the run's report shows it."""
    from nolabel.cli.contents import contents_of

    opened = images.opened
    whole = contents_of(opened, images.table)
    return replace(
        whole,
        described=f"{len(kept):,} images of {opened.channels} x {opened.size} x {opened.size}",
        rows=opened.rows[kept],
        shown={"thumbnails": lambda rows: opened.images(kept[np.asarray(rows)])},
    )


def record(
    wanted: Wanted,
    model: Any,
    laf: Any,
    images: Images,
    sources: dict[str, Any],
    unseen_from: str | None,
    given: list[str] | None,
    held: np.ndarray,
) -> dict[str, Any]:
    """What ``forgetting.json`` says. It names no image: that would be a trace as well."""
    from nolabel.learn import ImageClassifier
    from nolabel.training.estimator import versions

    evidence = laf.report_sources(sources)
    classes = isinstance(model, ImageClassifier)
    notes = [
        "This is approximate forgetting, measured but not proven: where a guarantee is due, learn again without the images"
    ]
    if not classes:
        notes.append(f"A {type(model).__name__} tells no classes: agreement, accuracy and attacks are left out")
    elif unseen_from is None:
        notes.append(
            "No images are known that the run never learned from, so it was not attacked: name some with --unseen"
        )
    elif evidence["membership"]["after"]["forgotten or unseen"] is None:
        notes.append("Too few images were forgotten, or never learned from, for an attack that means something")
    same = evidence["retain"].get("agreement", 1.0)
    if same < KEPT_ALIKE:
        notes.append(
            f"Only {same:.0%} of what stays is called as before: the model has lost more than what was forgotten; try "
            "fewer --epochs, or learn again without the images"
        )
    folder, run = wanted.folder, wanted.run
    called = "path" if "path" in images.indexed.column_names else "row"
    names = sorted(str(name) for name in images.indexed[called].take(np.flatnonzero(images.forget)).to_pylist())
    told: dict[str, Any] = {
        "title": folder.name,
        "headline": f"{len(names):,} of {len(images.forget):,} images were taken out of {run}",
        "run": str(folder),
        "from": str(run),
        "method": "LabelAgnosticForgetting",
        "model": type(model).__name__,
        "forgotten": len(names),
        "kept": int((~images.forget).sum()),
        "never learned from": unseen_from,
        "evidence": evidence,
    }
    if classes and given is not None:
        told["accuracy"] = accuracies(model, laf, images, given, held)
    parameters = {k: v for k, v in laf.get_params(deep=False).items() if k not in ("model", "training")}
    return told | {
        "parameters": parameters | {"rates": laf.rates_, "epochs": laf.training_.epochs, "seed": wanted.seed},
        "ids sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        "old weights sha256": sha256(run / "model.safetensors"),
        "new weights sha256": sha256(folder / "model.safetensors"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "command": wanted.command,
        "notes": notes,
        "still there": [
            f"the run {run}, whose model, index and report are as they were",
            f"the images themselves, in {wanted.data or source_of(run)}",
            "their decoded copies in the cache, $NOLABEL_CACHE or ~/.cache/nolabel",
            f"the list of what was forgotten, {wanted.ids}",
        ],
        "page": str(folder / PAGE),
        "next": [
            f"open    {folder / PAGE}",
            f"search  nolabel search {folder} IMAGE",
            f"delete  {run}, once you are content",
        ],
    }


def accuracies(model: Any, laf: Any, images: Images, given: list[str], held: np.ndarray) -> dict[str, dict[str, float]]:
    """Of the kept and the held-out images with a label, how many the model calls by it, before and after."""
    found: dict[str, dict[str, float]] = {}
    labels = np.asarray(given)
    new = laf.forgotten_model()
    told = [
        np.asarray([str(one.class_names_[at]) for at in one.transform_source(images.opened, layer="logits").argmax(1)])
        for one in (model, new)
    ]
    for name, rows in (("retain", ~images.forget & ~held), ("test", ~images.forget & held), ("forget", images.forget)):
        rows = rows & (labels != "")
        if rows.any():
            right = [float(np.mean(one[images.positions[rows]] == labels[rows])) for one in told]
            found[name] = dict(zip(("before", "after"), right, strict=True))
    return found


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_record(folder: Path, told: dict[str, Any]) -> None:
    """The page, then ``forgetting.json``, whose seal is the hash of everything else in it."""
    from nolabel.report.forgetting import write_forgetting
    from nolabel.training.estimator import write_text

    told["seal sha256"] = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    facts = {name: str(told[name]) for name in ("from", "model", "method", "never learned from", "date")}
    facts |= {name: told[name] for name in told if name.endswith("sha256")}
    facts |= {f"parameter {name}": str(value) for name, value in told["parameters"].items()}
    facts |= {f"version of {name}": value for name, value in told["versions"].items()} | {"command": told["command"]}
    write_forgetting(folder / PAGE, told, facts)
    write_text(folder / RECORD, json.dumps(told, indent=1) + "\n")
