"""`nolabel recommend`: items for users, from a log of who took what."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from nolabel.cli.recommended import (
    DEPTH,
    ITEMS,
    SHEET,
    TABLE,
    drawn,
    finished,
    plain,
    recommendations,
    write_items,
    write_recommendations,
)

PICTURE, REPORT = "recommend.png", "report.json"
METHODS = ("two-tower", "popularity")
TITLES = ("title", "name")
#: Items are grouped by their training interactions, up to and including each of these.
EDGES = (5, 20, 100)

#: Folder of the run that this process works on, for the line that is printed after Ctrl-C.
last_run: Path | None = None


def command(
    source: str | None = typer.Argument(
        None, help="Log: a parquet, csv or jsonl file with the columns user and item, or the name of a known set."
    ),
    users: str | None = typer.Option(None, "--users", help="Table that describes the users, with the column user."),
    items: str | None = typer.Option(None, "--items", help="Table that describes the items, with the column item."),
    method: str = typer.Option("two-tower", "--method", "-m", help="two-tower or popularity."),
    model: Path | None = typer.Option(
        None, "--model", help="Run folder of an earlier `nolabel recommend`: answer for --user from it."
    ),
    user: list[str] = typer.Option([], "--user", "-u", help="A user to print recommendations for; may be repeated."),
    k: int = typer.Option(10, "-k", help="Items to recommend to each user."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Run folder; runs/NAME-recommend by default."),
    column: list[str] = typer.Option(
        [], "--column", help="Name of a column if it differs, such as user=user_id; in all three tables."
    ),
    multi: list[str] = typer.Option(
        [], "--multi", help="A column of texts that hold several values: genres (parted by spaces) or genres='|'."
    ),
    min_rating: float | None = typer.Option(None, help="Only interactions rated at least so high; all by default."),
    holdout: str | None = typer.Option(
        None,
        help="What is kept for the scores: last (of each user, by timestamp) or random; last where there are times.",
    ),
    test: float = typer.Option(0.2, help="Share of the interactions to keep for the scores; 0 learns from all."),
    tail: int = typer.Option(20, help="Items with at most so many training interactions are the tail."),
    ssl: str | None = typer.Option(
        None, help="Self-supervised items: cfm, rfm, spread or none; cfm where items have 3 features or more."
    ),
    ssl_weight: float = typer.Option(0.1, help="Its weight."),
    epochs: int | None = typer.Option(None, help="Passes over the log."),
    minutes: float | None = typer.Option(None, help="Wall time to train, instead of epochs."),
    batch_size: int | None = typer.Option(None, help="Interactions a step."),
    lr: float | None = typer.Option(None, help="Peak learning rate."),
    seed: int = typer.Option(0, help="Seed of what is held out, of weights and batches."),
    resume: bool = typer.Option(False, help="Go on with the unfinished run in the folder."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Recommend items to users, from who took what before. Leaves recommendations, scores beside popularity, the model."""
    global last_run
    from nolabel.cli.claims import claim
    from nolabel.cli.output import answer, grid

    if k < 1:
        raise ValueError(f"-k must be at least 1, got {k}")
    if (source is None) == (model is None):
        raise ValueError("give either a log, to learn from, or --model FOLDER, to answer from a finished run")
    if model is not None:
        if not user:
            raise ValueError("--model answers for users: name them with --user ID")
        learner, titles = finished(model)
        found = recommendations(learner, _numbers(learner, user), k, titles)
        answer({"run": str(model), "recommendations": found}, as_json, *_shown(found))
        return
    assert source is not None
    _check(method, test, holdout, tail, ssl)
    last_run = folder = out or Path("runs") / f"{Path(source.rstrip('/')).stem or 'data'}-recommend"
    claim(folder)
    if (folder / REPORT).exists():
        raise ValueError(f"{folder} holds a finished run: choose another folder or delete it")
    data = _read(source, users, items, column, multi, min_rating)
    _known(data, user)  # before minutes of learning, not after
    train, held = _split(data.log, test, holdout, seed)
    training = {"epochs": epochs, "minutes": minutes, "batch_size": batch_size, "lr": lr, "random_state": seed}
    learner = _learned(method, data, train, folder, resume, {"ssl": ssl, "ssl_weight": ssl_weight}, training)
    asked = _numbers(learner, user) if user else None
    baseline = _popularity(data, train)
    measured = _measured({method: learner, "popularity": baseline}, held, k, tail) if held is not None else {}
    if held is not None:
        learner.add_seen(held)  # what a user has is not recommended, whether it was learned from or not
    folder.mkdir(parents=True, exist_ok=True)
    write_items(folder / ITEMS, learner, data.titles)
    write_recommendations(folder, learner, k, data.titles)
    picture = drawn(folder / PICTURE, measured, method, source)
    found = recommendations(learner, asked, k, data.titles) if asked is not None else []
    summary = _summary(folder, source, method, learner, data, train, held, measured, picture, found)
    learner.save(folder)
    _write_json(folder / REPORT, summary)
    scores = [
        [name, *(measured["scores"][name][key] for key in measured["keys"])] for name in measured.get("scores", {})
    ]
    table = [grid("Held-out interactions", ["", *measured["keys"]], scores)] if measured else []
    answer(summary, as_json, *table, *_shown(found), lines=["", *summary["next"]])


@dataclass(frozen=True)
class Tables:
    """What was read: the log, the tables of users and items where there are any, and the items' titles."""

    log: Any
    users: Any
    items: Any
    titles: dict[str, str]


def _check(method: str, test: float, holdout: str | None, tail: int, ssl: str | None) -> None:
    if method not in METHODS:
        raise ValueError(f"--method must be one of {', '.join(METHODS)}, got {method!r}")
    if not 0 <= test < 1:
        raise ValueError(f"--test is a share of the interactions and must lie in [0, 1), got {test}")
    if holdout not in (None, "last", "random"):
        raise ValueError(f"--holdout must be last or random, got {holdout!r}")
    if tail < 0:
        raise ValueError(f"--tail must be at least 0, got {tail}")
    if ssl not in (None, "cfm", "rfm", "spread", "none"):
        raise ValueError(f"--ssl must be one of cfm, rfm, spread and none, got {ssl!r}")


def _read(
    source: str, users: str | None, items: str | None, column: list[str], multi: list[str], min_rating: float | None
) -> Tables:
    from nolabel.cli.run import open_table, read_columns
    from nolabel.data.categories import split_cells
    from nolabel.data.interactions import ITEM, USER, read_interactions
    from nolabel.recommend.features import side_table

    columns = read_columns(column) or {}
    used: set[str] = set()
    between = {name: sign or " " for name, _, sign in (word.partition("=") for word in multi)}

    def table(place: str | None, needed: tuple[str, ...], name: str) -> Any:
        """A table in which columns have the names they should."""
        if place is None:
            return None
        opened = open_table(place, None)
        own = {new: old for new, old in columns.items() if old in opened.column_names}
        used.update(own)
        missing = [one for one in needed if one not in own and one not in opened.column_names]
        if missing:
            there = ", ".join(opened.column_names)
            raise ValueError(f"{place} has no column {missing[0]!r} among {there}; name it: --column {missing[0]}=NAME")
        return side_table(opened, needed[0], own) if name != "log" else open_table(place, own or None)

    log = read_interactions(table(source, (USER, ITEM), "log"), min_rating=min_rating)
    sides = {name: table(place, (name,), name) for name, place in ((USER, users), (ITEM, items))}
    for new, old in columns.items():
        if new not in used:
            raise ValueError(f"--column {new}={old}: none of the tables has a column {old!r}")
    for name in between:
        if not any(_has(one, name) for one in sides.values()):
            raise ValueError(f"--multi {name}: no table of users or items has such a column")
    for name, side in sides.items():
        own = {one: sign for one, sign in between.items() if _has(side, one)}
        sides[name] = split_cells(side, own) if own else side
    titles: dict[str, str] = {}
    if sides[ITEM] is not None:
        named = next((name for name in TITLES if name in sides[ITEM].column_names), None)
        if named is not None:
            texts = (" ".join(cell) if isinstance(cell, list) else str(cell) for cell in sides[ITEM][named])
            titles = dict(zip(map(str, sides[ITEM][ITEM]), texts))
    return Tables(log, sides[USER], sides[ITEM], titles)


def _has(table: Any, name: str) -> bool:
    return table is not None and name in getattr(table, "column_names", ())


def _split(log: Any, test: float, holdout: str | None, seed: int) -> tuple[Any, Any]:
    """What is learned from, and what is kept for the scores."""
    import numpy as np

    from nolabel.data.interactions import split_interactions

    if test == 0:
        return log, None
    by = holdout or ("random" if log.times is None else "last")
    return split_interactions(log, test, np.random.default_rng([seed, 3]), by=by)


def _learned(
    method: str, data: Tables, train: Any, folder: Path, resume: bool, ssl: dict[str, Any], training: dict[str, Any]
) -> Any:
    """The recommender, fitted in its run folder; one that was trained but cut off before its tables is read again."""
    from nolabel.data.categories import kinds_of
    from nolabel.recommend import TwoTowerRecommender
    from nolabel.training import Training, load

    if method == "popularity":
        return _popularity(data, train)
    if resume and (folder / "config.json").exists():
        learner = load(folder)
        if learner.opened(train, data.users, data.items).fingerprint != learner.fingerprint_:
            raise ValueError(f"{folder} was begun with other data: resume needs the same")
        learner.keep(learner.numbered(train))  # without what was held out
        return learner
    features = 1 if data.items is None else len(kinds_of(data.items, None))
    chosen = ssl["ssl"] or ("cfm" if features >= 3 else "none")
    learner = TwoTowerRecommender(
        ssl=None if chosen == "none" else chosen, ssl_weight=ssl["ssl_weight"], training=Training(**training)
    )
    learner.fit(train, queries=data.users, items=data.items, run=folder, resume=resume)
    if learner.health_["verdict"] == "collapsed":
        reasons = "; ".join(learner.health_["reasons"])
        raise ValueError(f"the vectors of the items collapsed ({reasons}); the last healthy weights are in {folder}")
    return learner


def _popularity(data: Tables, train: Any) -> Any:
    from nolabel.recommend import Popularity

    return Popularity().fit(train, queries=data.users, items=data.items)


def _known(data: Tables, names: list[str]) -> None:
    """Refuse users that neither their table nor the log has."""
    from nolabel.data.interactions import USER, Identifiers, as_ids

    ids = data.log.user_ids if data.users is None else Identifiers(data.users[USER][:], USER)
    unknown = [name for name, code in zip(names, ids.codes(as_ids(names))) if code < 0] if names else []
    if unknown:
        raise ValueError(
            f"--user: {len(unknown)} of {len(names)} users are not there, such as {', '.join(unknown[:5])}"
        )


def _numbers(learner: Any, names: list[str]) -> Any:
    """Numbers of the users that were named."""
    try:
        return learner.numbers_of(names)
    except KeyError as error:
        raise ValueError(f"--user: {error.args[0].partition(': ')[2]}") from None


def _measured(methods: Mapping[str, Any], held: Any, k: int, tail: int) -> dict[str, Any]:
    """Scores of all methods on what was held out: overall, on the tail, and by how popular the items are."""
    counts = next(iter(methods.values())).item_counts_
    depths = sorted({k, DEPTH})
    bounds = [-1, *EDGES, int(counts.max()) + EDGES[-1]]
    names = [f"{low + 1} to {high}" for low, high in zip(bounds, bounds[1:-1])] + [f"over {EDGES[-1]}"]
    groups = [(counts > low) & (counts <= high) for low, high in zip(bounds, bounds[1:])]
    scores: dict[str, dict[str, Any]] = {}
    by_group: list[dict[str, Any]] = [{"training interactions": name} for name in names]
    for name, learner in methods.items():
        overall = learner.evaluate(held, depths)
        rare = _evaluated(learner, held, depths, counts <= tail)
        scores[name] = {
            f"{measure}@{depth}": overall[f"{measure}@{depth}"] for measure in ("recall", "ndcg") for depth in depths
        }
        scores[name] |= {f"tail recall@{depth}": rare.get(f"recall@{depth}") for depth in depths}
        for group, row in zip(groups, by_group):
            found = _evaluated(learner, held, [DEPTH], group)
            row |= {"held out": found.get("interactions", 0), name: found.get(f"recall@{DEPTH}")}
    keys = list(next(iter(scores.values())))
    return {
        "scores": scores,
        "by popularity": by_group,
        "keys": keys,
        "tail": {"at most": tail, "items": int((counts <= tail).sum())},
    }


def _evaluated(learner: Any, held: Any, depths: list[int], items: Any) -> dict[str, float]:
    """Scores among some items; none where nothing of them was held out."""
    if not items[learner.numbered(held).items].any():
        return {}
    scores: dict[str, float] = learner.evaluate(held, depths, items=items)
    return scores


def _summary(
    folder: Path, source: str, method: str, learner: Any, data: Tables, train: Any, held: Any,
    measured: dict[str, Any], picture: str | None, found: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    from nolabel.training.estimator import versions

    log = data.log
    summary: dict[str, Any] = {
        "run": str(folder),
        "method": method,
        "data": source,
        "users": len(learner.user_ids_),
        "items": len(learner.item_ids_),
        "interactions": {
            "learned from": len(train),
            "held out": 0 if held is None else len(held),
            "rated too low": log.below,
            "repeated": log.repeated,
            "skipped": len(log.skipped),
        },
    }
    if method == "two-tower":
        summary["self-supervised items"] = learner.ssl
        summary["seconds"] = round(learner.seconds_, 1)
        summary["verdict"] = learner.health_["verdict"]
    summary |= {name: measured[name] for name in ("scores", "by popularity", "tail") if measured}
    summary |= {"recommendations": found} if found else {}
    files = {"table": TABLE, "spreadsheet": SHEET, "vectors": ITEMS, "report": REPORT}
    summary |= {name: str(folder / file) for name, file in files.items()} | {"picture": picture}
    summary["versions"] = versions()
    user = plain(learner.user_ids_[0])
    summary["next"] = [f"open    {picture}"] if picture else []
    summary["next"] += [f"table   {folder / TABLE}", f"ask     nolabel recommend --model {folder} --user {user}"]
    return summary


def _shown(found: list[dict[str, Any]]) -> list[Any]:
    """A table a user."""
    from nolabel.cli.output import grid

    tables = []
    for one in found:
        names = ["rank", "item", "score", *(["title"] if any("title" in item for item in one["items"]) else [])]
        rows = [[item[name] for name in names] for item in one["items"]]
        tables.append(grid(f"For {one['user']}", names, rows))
    return tables


def _write_json(path: Path, data: dict[str, Any]) -> None:
    from nolabel.training.estimator import write_text

    write_text(path, json.dumps(data, indent=1) + "\n")
