"""`nolabel classify --names`: images labelled by names alone, with a run that learned from images and texts.

Radford et al., CLIP, 2021, arXiv:2103.00020; Jia et al., ALIGN, ICML 2021, arXiv:2102.05918.
"""

import csv
import io
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.cli.classified import PICTURE, PREDICTIONS, REPORT, draw, known, scores_of, tables
from nolabel.data.replacing import replacing

SHEETS = "sheets"
#: Images on a contact sheet.
SHOWN = 32
#: Images whose vectors over all words are held at a time.
BLOCK = 1024


def refuse(names: str | None, learning: Mapping[str, Any]) -> None:
    """Raise where the options of labelling by names are mixed with those of learning labels."""
    if names is None:
        raise ValueError("--template says how names are told to the run: give --names too")
    given = next((option for option, value in learning.items() if value), None)
    if given is not None:
        raise ValueError(f"{given} is for learning labels, --names for labelling by names alone: give one of them")


def names_of(given: str) -> list[str]:
    """Names from the words of ``--names``: a file with one a line, or names between commas.

    >>> names_of("cat, dog ,red car")
    ['cat', 'dog', 'red car']
    """
    path = Path(given)
    if "," not in given and path.suffix and not path.is_file():
        raise FileNotFoundError(f"--names: no file at {given}; names stand between commas, as in 'cat,dog,red car'")
    if path.is_file():
        try:
            names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except UnicodeDecodeError:
            raise ValueError(f"--names: {given} is no text in UTF-8: expected one name a line") from None
    else:
        names = [name.strip() for name in given.split(",")]
        if any(names) and not all(names):
            raise ValueError(f"--names: name {names.index('') + 1} of {len(names)} in {given!r} is empty")
    if not any(names):
        raise ValueError(
            f"--names: {given!r} holds no name; expected names such as 'cat,dog,red car', or a file of them"
        )
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"--names: {repeated!r} comes twice")
    if len(names) == 1:
        raise ValueError(f"--names: {names[0]!r} is the only name, and every image would get it: give at least 2")
    return names


def templates_of(given: list[str]) -> list[str]:
    """The texts of ``--template``, by default the bare name."""
    for template in given:
        if "{}" not in template:
            raise ValueError(
                f"--template {template!r} has no {{}} for the name: expected a text like 'a picture of {{}}'"
            )
    return given or ["{}"]


def learner_at(run: Path | None) -> Any:
    """The run, which must have learned from images and texts."""
    from nolabel.training import PairLearner, load

    if run is None:
        raise ValueError("--names needs --run RUN, a run of `nolabel learn` that learned from images and texts")
    learner = load(run)
    if not isinstance(learner, PairLearner):
        saw = " and ".join(getattr(learner, "columns", ())) or "something else"
        raise ValueError(
            f"--run: {run} holds a {type(learner).__name__}, which learned from {saw} and has no encoder of texts for names; "
            "expected a run of align, convirt or vdr-cross-modal"
        )
    return learner


def read_words(learner: Any, names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Words that the run's tokeniser does not know whole; names that it cannot tell apart are refused."""
    from nolabel.data.tokenisers import read_tokeniser, special_ids

    tokeniser = read_tokeniser(learner.tokeniser_)
    unknown = special_ids(tokeniser).unknown
    own = not learner.text_encoder.startswith(("hf:", "st:"))  # word pieces of a large model are meant to be parts
    seen: dict[tuple[int, ...], str] = {}
    strange = []
    for name in names:
        ids = tuple(tokeniser.encode(name, add_special_tokens=False).ids)
        if ids in seen:
            raise ValueError(f"--names: {seen[ids]!r} and {name!r} are the same to the tokeniser of this run")
        seen[ids] = name
    for word in re.findall(r"\w+", " ".join([*names, *templates])):
        pieces = tokeniser.encode(word, add_special_tokens=False).ids
        if unknown in pieces or (own and len(pieces) > 1):
            strange.append(word)
    return list(dict.fromkeys(strange))


def cosines_of(learner: Any, opened: Any, names: list[str], templates: list[str]) -> np.ndarray:
    """Cosine of each image to each name, (n, names)."""
    from nolabel.training.batches import Some

    if hasattr(learner, "class_vectors"):
        found: np.ndarray = (
            learner.transform_source(opened, layer="embedding") @ learner.class_vectors(names, templates).T
        )
        return found
    texts = [template.replace("{}", name) for template in templates for name in names]
    words = learner.transform_sparse({"text": texts}, side="text").toarray()
    classes = words.reshape(len(templates), len(names), -1).mean(axis=0)
    classes /= np.maximum(np.linalg.norm(classes, axis=1, keepdims=True), 1e-12)
    starts = range(0, len(opened), BLOCK)
    blocks = (Some(opened, np.arange(start, min(start + BLOCK, len(opened)))) for start in starts)
    return np.concatenate([learner.transform_source(block) @ classes.T for block in blocks])


def classify(
    source: str,
    run: Path | None,
    names: str,
    template: list[str],
    label: list[str],
    out: Path | None,
    columns: dict[str, str] | None,
    as_json: bool,
) -> None:
    """Label the images of a table by names; leaves predictions, a contact sheet a name, and with true labels a confusion."""
    from scipy.special import softmax

    from nolabel.cli.claims import claim
    from nolabel.cli.output import answer, grid
    from nolabel.cli.run import open_table
    from nolabel.data import modality
    from nolabel.training.estimator import write_text

    folder = out or Path("runs") / f"{Path(source.rstrip('/')).stem or 'data'}-names"
    claim(folder)
    if (folder / REPORT).exists() or (folder / "config.json").exists():
        raise ValueError(f"{folder} holds a finished run: choose another folder or delete it")
    if len(label) > 1:
        raise ValueError(f"--label: names are compared with one column, got {', '.join(label)}")
    classes, templates = names_of(names), templates_of(template)
    learner = learner_at(run)
    strange = read_words(learner, classes, templates)
    table = open_table(source, columns)
    if "image" not in table.column_names:
        raise ValueError(
            f"{source} holds {modality(table)}: --names is for images, and there are {', '.join(table.column_names)}; name them "
            "with --column image=NAME"
        )
    given = known(table, label[0], source) if label else None
    if strange:
        warnings.warn(
            f"words that no text of this run held often enough, read in pieces and hardly understood: {', '.join(strange[:8])}"
            + (f" and {len(strange) - 8} more" if len(strange) > 8 else ""),
            stacklevel=1,
        )
    opened = learner.open_one(table, None)
    temperature = float(getattr(learner, "temperature_", None) or learner.temperature)
    probabilities = softmax(cosines_of(learner, opened, classes, templates).astype(np.float64) / temperature, axis=1)
    truth = None if given is None else true_names([given[row] for row in opened.rows], classes, label[0])
    scores = {} if truth is None else {label[0]: {"names alone": scores_against(truth, classes, probabilities)}}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / PREDICTIONS, predictions(table, opened.rows, classes, probabilities, label, given))
    picture = draw(folder / PICTURE, scores)
    sheets = write_sheets(folder / SHEETS, opened, classes, probabilities, truth)
    told = probabilities.argmax(axis=1)
    counts = [
        {
            "name": name,
            "images": int((told == at).sum()),
            "mean probability": float(probabilities[told == at, at].mean()) if (told == at).any() else None,
            "sheet": sheets[at],
        }
        for at, name in enumerate(classes)
    ]
    summary: dict[str, Any] = {
        "folder": str(folder),
        "method": f"names alone, by {type(learner).__name__}",
        "images": len(told),
        "skipped": len(opened.skipped),
        "names": counts,
        "templates": templates,
        "unknown words": strange,
        "scores": scores,
        "predictions": str(folder / PREDICTIONS),
        "picture": picture,
    }
    lines = [f"{len(told):,} images labelled" + (f", {len(opened.skipped):,} skipped" if opened.skipped else "")]
    if truth is not None:
        there = [name for name in truth if name is not None]
        most = max(set(there), key=there.count)
        summary |= {
            "labelled otherwise or not at all": len(truth) - len(there),
            "most common label": there.count(most) / len(there),
        }
        lines.append(f"{len(there):,} have one of the names as label; calling all {most!r} would be right for "
                     f"{there.count(most) / len(there):.1%}")  # fmt: skip
    lines += [f"predictions  {folder / PREDICTIONS}", f"sheets       {folder / SHEETS}"]
    lines += [f"confusion    {picture}"] if picture else []
    lines += ["confusion    left out: it needs matplotlib"] if scores and not picture else []
    write_text(folder / REPORT, json.dumps(summary, indent=1) + "\n")
    head = ["name", "images", "mean probability"]
    shown = grid(None, head, [[one[key] for key in head] for one in counts])
    answer(summary, as_json, *tables(scores), shown, lines=lines)


def true_names(given: Sequence[Any], names: Sequence[str], label: str) -> list[str | None]:
    """Each row's label as one of the names, capitals aside; None where it is none of them."""
    called = {name.casefold(): name for name in names}
    found = [None if value is None else called.get(str(value).strip().casefold()) for value in given]
    if not any(found):
        there = ", ".join(sorted({str(value) for value in given if value is not None})[:6])
        raise ValueError(
            f"--label {label}: none of its values ({there}, ...) is one of the names {', '.join(names[:6])}"
        )
    return found


def scores_against(truth: Sequence[str | None], names: Sequence[str], probabilities: np.ndarray) -> dict[str, Any]:
    """The scores of `scores_of` on the rows whose label is one of the names."""
    rows = [at for at, name in enumerate(truth) if name is not None]
    return scores_of([truth[at] for at in rows], names, probabilities[rows])


def paths_of(table: Any) -> list[str | None] | None:
    """Where each image lies: a column of paths, or what the cells of images say; None where nothing does."""
    from nolabel.data.columns import column_blocks, holds_encoded_images

    if "path" in table.column_names:
        return list(table["path"])
    found: list[str | None] = []
    for block in column_blocks(table, "image"):
        if not holds_encoded_images(block.type):
            return None
        found += block.field("path").to_pylist()
    return found if any(found) else None


def predictions(
    table: Any, rows: np.ndarray, names: Sequence[str], probabilities: np.ndarray, label: list[str], given: Any
) -> str:
    """The lines of ``predictions.csv``: told name, its probability and the name that comes next, for each image."""
    paths = paths_of(table)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["row", "image" if paths is None else "path", *label, "told", "probability", "runner-up"])
    for at, row in enumerate(rows.tolist()):
        first, second = order[at, :2]
        labelled = [] if given is None else ["" if given[row] is None else given[row]]
        called = f"row {row}" if paths is None or not paths[row] else paths[row]
        writer.writerow([row, called, *labelled, names[first], f"{probabilities[at, first]:.4f}", names[second]])
    return file.getvalue()


def write_sheets(
    folder: Path, opened: Any, names: Sequence[str], probabilities: np.ndarray, truth: Sequence[str | None] | None
) -> list[str | None]:
    """A contact sheet of the surest images of each name, wrong ones in red where labels are known; None without any."""
    from nolabel.report.sheets import contact_sheet

    folder.mkdir(exist_ok=True)
    told = probabilities.argmax(axis=1)
    written: list[str | None] = []
    for number, name in enumerate(names):
        rows = np.flatnonzero(told == number)
        best = rows[np.argsort(-probabilities[rows, number], kind="stable")[:SHOWN]]
        if not len(best):
            written.append(None)
            continue
        captions = [f"{probabilities[at, number]:.2f}" for at in best]
        wrong = [truth is not None and truth[at] not in (name, None) for at in best]
        title = f"{name}: {len(rows):,} images" + (f", the {len(best)} surest" if len(best) < len(rows) else "")
        called = re.sub(r"\W+", "-", name).strip("-")[:40]
        path = folder / f"{number + 1:0{len(str(len(names)))}d}-{called}.png"
        with replacing(path) as partial:
            contact_sheet(title, opened.images(best), captions, wrong).save(partial, "PNG")
        written.append(str(path))
    return written
