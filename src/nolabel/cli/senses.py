"""`nolabel senses`: the senses that a word has in a corpus, learned from its texts alone."""

import json
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any

import typer

from nolabel.cli.occurrences import Occurrence, occurrences, tagged, write_tagged

#: Folder of the run that this process works on, for the line that is printed after Ctrl-C.
last_run: Path | None = None
METHOD = "disambiguated-skip-gram"
#: Fewer occurrences than this say little about a word's senses.
FEW = 30


def command(
    source: str = typer.Argument(
        ..., help="Folder, file or known set of texts to learn from, or the run folder of an earlier run."
    ),
    word: str = typer.Argument(..., help="The word whose senses are asked for."),
    contexts: Path | None = typer.Option(
        None, "--contexts", help="File of texts, one a line: say which sense the word has in each."
    ),
    out: Path | None = typer.Option(None, "--out", "-o", help="Run folder; runs/NAME-senses by default."),
    column: list[str] = typer.Option([], "--column", help="Name of a column if it differs, such as text=body."),
    senses: int | None = typer.Option(None, "--senses", help="Most senses a word; 3 by default."),
    min_count: int | None = typer.Option(None, help="How often a word has to occur; 5 by default."),
    setting: list[str] = typer.Option([], "--set", help="Another parameter of the method, such as dim=100."),
    epochs: int | None = typer.Option(None, help="Passes over the texts."),
    minutes: float | None = typer.Option(None, help="Wall time to train, instead of epochs."),
    batch_size: int | None = typer.Option(None, help="Occurrences a step."),
    lr: float | None = typer.Option(None, help="Peak learning rate."),
    neighbours: int = typer.Option(8, "--neighbours", "-k", help="Nearest senses of other words to show."),
    examples: int = typer.Option(3, help="Contexts of each sense to show."),
    seed: int = typer.Option(0, help="Seed of weights, batches and the picture."),
    resume: bool = typer.Option(False, help="Go on with the unfinished run in the folder."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Learn the senses of words from raw texts, and show those of one: shares, neighbours, contexts, a picture.

    Every later question to the same run folder takes seconds: nolabel senses runs/NAME-senses WORD.
    """
    from nolabel.cli.output import answer
    from nolabel.training import Training

    for name, value in (("--neighbours", neighbours), ("--examples", examples)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    lines = None if contexts is None else _lines(contexts)  # read before minutes of learning, not after
    if (Path(source) / "config.json").exists():
        _refuse(
            out=out, column=column, senses=senses, min_count=min_count, set=setting, epochs=epochs, minutes=minutes,
            batch_size=batch_size, lr=lr, resume=resume,
        )  # fmt: skip
        folder, learner = Path(source), _loaded(Path(source))
        known = _known(learner, learner.vocabulary_, word)
    else:
        own = {"n_senses": senses, "min_count": min_count}
        settings = [*(f"{name}={value}" for name, value in own.items() if value is not None), *setting]
        training = Training(epochs, minutes=minutes, batch_size=batch_size, lr=lr, random_state=seed)
        folder, learner, known = _learned(source, word, out, column, settings, training, resume)
    rows, texts = _texts(folder)
    found, alone = tagged(learner, known, occurrences(learner, known, rows, texts))
    summary = _summary(folder, learner, known, found, alone, neighbours, examples)
    if lines is not None:
        summary["contexts"] = _asked(learner, known, lines)
    files = {kind: folder / f"senses-{known}.{kind}" for kind in ("csv", "json", "png")}
    write_tagged(files["csv"], found)
    picture = _drawn(files["png"], learner, known, found, summary["senses"], seed)
    summary |= {"table": str(files["csv"]), "picture": picture}
    summary["next"] = [f"open    {picture}"] if picture else []
    summary["next"] += [f"table   {files['csv']}", f"another nolabel senses {folder} WORD"]
    _write_json(files["json"], summary)
    answer(summary, as_json, lines=_shown(summary))


def _lines(path: Path) -> list[str]:
    """The contexts of a file, one a line."""
    from nolabel.data.text_files import read_lines

    if not path.is_file():
        raise FileNotFoundError(f"--contexts: there is no file {path}")
    lines = [str(line) for line in read_lines(path)["text"]]
    if not lines:
        raise ValueError(f"--contexts: {path} holds no line with a word")
    return lines


def _refuse(**learning: Any) -> None:
    """Options of learning mean nothing where nothing is learned."""
    for name, given in learning.items():
        if given not in (None, [], False):
            option = "--" + name.replace("_", "-")
            raise ValueError(f"{option} is for learning from texts, and a run folder is only asked: leave it out")


def _loaded(folder: Path) -> Any:
    """The model of a run folder."""
    from nolabel.learn import DisambiguatedSkipGram
    from nolabel.training import load

    learner = load(folder)
    if not isinstance(learner, DisambiguatedSkipGram):
        raise ValueError(
            f"{folder} holds a {type(learner).__name__}, which has no senses of words: learn them from the texts with "
            f"nolabel senses TEXTS WORD, or nolabel learn TEXTS --method {METHOD}"
        )
    return learner


def _known(learner: Any, vocabulary: Any, word: str) -> str:
    """The word as the vocabulary has it; refused with the nearest ones if it has not."""
    from nolabel.data.stop_words import stop_words
    from nolabel.data.words import split_words

    parts = split_words(word, lowercase=learner.lowercase)
    if len(parts) != 1:
        raise ValueError(f"WORD must be one word, got {word!r}, which is {len(parts)} words")
    if parts[0] in stop_words(learner.stop_words):
        raise ValueError(f"{parts[0]!r} is a stop word and was left out; keep stop words with --set stop_words=None")
    try:
        vocabulary.id_of(parts[0])
    except KeyError as error:
        raise ValueError(f"{error.args[0]} (words that occur fewer than {learner.min_count} times are none)") from None
    return parts[0]


def _learned(
    source: str, word: str, out: Path | None, column: list[str], settings: list[str], training: Any, resume: bool
) -> tuple[Path, Any, str]:
    """A model fitted in its run folder, as `nolabel learn` leaves it, and the word as it knows it."""
    global last_run
    from nolabel.cli.claims import claim
    from nolabel.cli.run import INDEX, REPORT, complete, learner_of, open_table, read_columns, require_columns

    last_run = folder = out or Path("runs") / f"{Path(source.rstrip('/')).stem or 'data'}-senses"
    claim(folder)
    finished = (folder / "config.json").exists()
    if finished and not resume:
        raise ValueError(
            f"{folder} holds a finished run: ask it with nolabel senses {folder} {word}, or choose another --out"
        )
    table = open_table(source, read_columns(column))
    learner = _loaded(folder) if finished else learner_of(METHOD, settings, None, None, training)
    require_columns(type(learner), METHOD, table, source)
    opened = learner.open_table(table, None)
    if finished and opened.fingerprint != learner.fingerprint_:
        raise ValueError(f"{folder} was begun with other texts: resume needs the same")
    known = _known(learner, learner.vocabulary_ if finished else opened.vocabulary, word)
    del opened
    if not finished:
        learner.fit(table, run=folder, resume=resume)
    if not (finished and (folder / INDEX).exists() and (folder / REPORT).exists()):  # the report is written last
        complete(learner, table, folder, source, shlex.join(["nolabel", *sys.argv[1:]]))
    if learner.health_["verdict"] == "collapsed":
        reasons = "; ".join(learner.health_["reasons"])
        raise ValueError(f"the representation collapsed ({reasons}); the last healthy weights are in {folder}")
    return folder, learner, known


def _texts(folder: Path) -> tuple[list[int], list[str]]:
    """The texts of a run and their rows in the source, as its index keeps them."""
    from nolabel.cli.run import INDEX, REPORT
    from nolabel.search import Index

    if not ((folder / INDEX).exists() and (folder / REPORT).exists()):  # the report is written last
        raise ValueError(
            f"{folder} has no index of its texts: it was cut off, or not made by nolabel; finish it with "
            f"nolabel senses TEXTS WORD --out {folder} --resume"
        )
    table = Index.open(folder).rows()
    return table["row"].to_pylist(), table["text"].to_pylist()


def _summary(
    folder: Path, learner: Any, word: str, found: list[Occurrence], alone: int, neighbours: int, examples: int
) -> dict[str, Any]:
    """What is said of the word: each sense with its share, neighbours and most certain contexts."""
    priors = learner.priors_[learner.vocabulary_.id_of(word)]
    if len(found) < FEW:
        warnings.warn(f"{word!r} occurs {len(found)} times: too few to tell senses apart", stacklevel=2)
    senses = []
    for sense in sorted((s for s in range(learner.n_senses) if priors[s] > 0), key=lambda s: -priors[s]):
        near = _near(learner, word, sense, neighbours)
        senses.append(
            {
                "sense": sense,
                "share": round(float(priors[sense]), 4),
                "occurrences": sum(one.sense == sense for one in found),
                "neighbours": [{"word": w, "sense": s, "cosine": round(c, 4)} for w, s, c in near],
                "examples": _examples(found, sense, examples),
            }
        )
    return {
        "run": str(folder),
        "word": word,
        "occurrences": len(found),
        "without a known neighbour": alone,
        "dropped senses": learner.n_senses - len(senses),
        "senses": senses,
    }


def _near(learner: Any, word: str, sense: int, k: int) -> list[tuple[str, int, float]]:
    """The nearest senses of k other words, of each word the nearest only."""
    nearest: dict[str, tuple[str, int, float]] = {}
    for one in learner.neighbours(word, sense, k * learner.n_senses):
        nearest.setdefault(one[0], one)
    return list(nearest.values())[:k]


def _examples(found: list[Occurrence], sense: int, count: int) -> list[dict[str, Any]]:
    """The most certain contexts of a sense, each of another text; of equally certain ones those with most to go by."""
    own = [one for one in found if one.sense == sense and one.words]
    own.sort(key=lambda one: (-round(one.probability, 3), -len(one.words), one.row))
    chosen: dict[str, Occurrence] = {}
    for one in own:
        if len(chosen) < count and one.row not in {other.row for other in chosen.values()}:
            chosen.setdefault(" ".join(one.words), one)
    return [{"row": one.row, "probability": round(one.probability, 4), "context": one.text} for one in chosen.values()]


def _asked(learner: Any, word: str, lines: list[str]) -> list[dict[str, Any]]:
    """The sense of the word in each context that was given."""
    answers = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for line, p in zip(lines, learner.probabilities(word, lines), strict=True):
            sense = int(p.argmax())
            answers.append({"sense": sense, "probability": round(float(p[sense]), 4), "context": line})
    if caught:
        warnings.warn(f"--contexts: {caught[0].message}", stacklevel=2)
    return answers


def _drawn(
    path: Path, learner: Any, word: str, found: list[Occurrence], senses: list[dict[str, Any]], seed: int
) -> str | None:
    """The picture, where matplotlib is there."""
    from nolabel.cli.senses_picture import draw_senses

    shown = [one for one in found if one.words]
    if len(shown) < 2:
        warnings.warn("no picture was drawn: it needs two occurrences with a known word around", stacklevel=2)
        return None
    means = learner.context_vectors([one.words for one in shown])
    legend = {one["sense"]: [near["word"] for near in one["neighbours"]][:4] for one in senses}
    try:
        draw_senses(path, word, means, [one.sense for one in shown], legend, seed=seed)
    except ImportError as error:
        warnings.warn(f"no picture was drawn: {error}", stacklevel=2)
        return None
    return str(path)


def _write_json(path: Path, summary: dict[str, Any]) -> None:
    from nolabel.training.estimator import write_text

    write_text(path, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")


def _shown(summary: dict[str, Any]) -> list[str]:
    """The answer for a person."""
    count = len(summary["senses"])
    lines = [f"{summary['word']}: {summary['occurrences']:,} occurrences, {count} sense{'s' * (count > 1)}"]
    for one in summary["senses"]:
        near = ", ".join(f"{near['word']} {near['cosine']:.2f}" for near in one["neighbours"])
        likeliest = f"likeliest in {one['occurrences']:,}, mean probability {one['share']:.0%}"
        lines += ["", f"sense {one['sense']}  {near}", f"  {likeliest}"]
        lines += [f"  {example['probability']:.2f}  {example['context']}" for example in one["examples"]]
    if "contexts" in summary:
        lines += ["", "contexts"]
        lines += [f"  sense {one['sense']}  {one['probability']:.2f}  {one['context']}" for one in summary["contexts"]]
    return [*lines, "", *summary["next"]]
