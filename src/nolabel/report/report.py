"""The report of a run: one HTML file with a map, curves, neighbours, clusters and scores; no network, no labels."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.assess.inputs import as_embeddings
from nolabel.data.replacing import replacing
from nolabel.report import page
from nolabel.report.curves import panel, read_curves
from nolabel.report.groups import PALETTE, SHEETS, Group, checked_clusters, cluster_rows, describe_groups
from nolabel.report.layout import map_layout
from nolabel.report.scores import checked_verdict, figure, headline
from nolabel.report.sprites import COLUMNS, SHEET_TILES, Sprites, pack_sprites
from nolabel.report.vectors import near_duplicates, nearest_others, unit_rows, varied_rows
from nolabel.report.words import READ_ROWS, typical_words

log = logging.getLogger(__name__)

MAX_BYTES = 6_000_000
MAP_ROWS = 4000
QUERIES, NEIGHBOURS = 12, 8
SLACK = 60_000  # bytes by which the page may grow once the tiles of its sprites are known


@dataclass(frozen=True)
class ReportContents:
    """Everything that a report shows.

    Parameters
    ----------
    title : name of the run.
    embeddings : (n, d) finite floats, n >= 2.
    thumbnails : rows int64 (b,) -> uint8 (b, h, w, c), c of 1, 3 or 4; asked for at most about 4,000 rows.
    texts : rows int64 (b,) -> b texts, in the place of thumbnails where rows are texts.
    summary : what was run: method, encoder, data, seed, versions, duration, command, as words.
    names : one a row, a path or a caption; None calls rows by their number.
    history : rows of metrics.jsonl.
    health : label-free scores with `verdict` (healthy, collapsing or collapsed) and `reasons`.
    skipped : (name, reason) of what could not be read.
    clusters : int (n,), negative for rows in none; None lets k-means find them.
    labels : one a row, never needed: an extra colouring of the map.
    notes : sentences shown under the verdict.
    """

    title: str
    embeddings: np.ndarray
    thumbnails: Callable[[np.ndarray], np.ndarray] | None = None
    texts: Callable[[np.ndarray], Sequence[str]] | None = None
    summary: Mapping[str, str] = field(default_factory=dict)
    names: Sequence[str] | None = None
    history: Sequence[Mapping[str, Any]] = ()
    health: Mapping[str, Any] = field(default_factory=dict)
    skipped: Sequence[tuple[str, str]] = ()
    clusters: np.ndarray | None = None
    labels: Sequence[Any] | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Findings:
    """What is computed from the embeddings; `shown` are the rows on the map, all other row numbers are among them."""

    n: int
    width: int
    groups: list[Group]
    clusters: np.ndarray
    duplicates: int
    pairs: list[tuple[int, int, float]]
    queries: np.ndarray
    strips: tuple[np.ndarray, np.ndarray]
    shown: np.ndarray
    near: tuple[np.ndarray, np.ndarray]
    xy: np.ndarray
    layout_seconds: float


def check(contents: ReportContents) -> np.ndarray:
    """Check what can be checked before any work is done; return the embeddings."""
    z = as_embeddings(contents.embeddings)
    for key, values in (("names", contents.names), ("labels", contents.labels)):
        if values is not None and len(values) != len(z):
            raise ValueError(f"{key}: one a row was expected, {len(z)} in all, got {len(values)}")
    if (contents.thumbnails is None) == (contents.texts is None):
        raise ValueError("thumbnails, texts: expected one of the two")
    checked_verdict(contents.health)
    return z


def examine(contents: ReportContents, seed: int) -> Findings:
    """Find clusters, neighbours and near-duplicates, choose the rows to show and lay them out."""
    z = check(contents)
    unit = unit_rows(z)
    duplicated, pairs = near_duplicates(unit, seed)
    if contents.clusters is None:
        clusters, first = cluster_rows(unit, seed), 1
    else:
        clusters, first = checked_clusters(contents.clusters, len(z)), 0
    groups = describe_groups(unit, clusters, duplicated, first)
    if contents.texts is not None:
        groups = named_by_words(groups, clusters, contents.texts, seed)
    queries = varied_rows(unit, QUERIES)
    strips = nearest_others(unit, queries, NEIGHBOURS)
    pairs = pairs[: page.PAIRS_SHOWN]
    needed = {*queries.tolist(), *strips[0].ravel().tolist(), *(row for a, b, _ in pairs for row in (a, b))}
    for group in groups[:SHEETS]:
        needed.update(group.central.tolist(), group.edge.tolist())
    others = np.setdiff1d(np.random.default_rng(seed).permutation(len(z)), list(needed), assume_unique=True)
    shown = np.sort(np.concatenate([list(needed), others[: max(0, MAP_ROWS - len(needed))]]).astype(np.int64))
    start = time.perf_counter()
    xy = map_layout(z[shown], random_state=seed)
    return Findings(
        n=len(z),
        width=z.shape[1],
        groups=groups,
        clusters=clusters,
        duplicates=int(duplicated.sum()),
        pairs=pairs,
        queries=queries,
        strips=strips,
        shown=shown,
        near=nearest_others(unit[shown], np.arange(len(shown)), NEIGHBOURS),
        xy=xy,
        layout_seconds=time.perf_counter() - start,
    )


def named_by_words(
    groups: list[Group], clusters: np.ndarray, texts: Callable[[np.ndarray], Sequence[str]], seed: int
) -> list[Group]:
    """The groups with their typical words in their names."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(clusters))[:READ_ROWS])
    words = typical_words(texts(rows), clusters[rows])
    found = (words.get(group.label, []) for group in groups)
    return [replace(g, name=f"{g.name}: {', '.join(w)}") if w else g for g, w in zip(groups, found, strict=True)]


def map_data(contents: ReportContents, found: Findings, sprites: Sprites, name: Callable[[int], str]) -> dict[str, Any]:
    """What the script reads: numbers as packed bytes, texts as lists."""
    group_of = {group.label: i for i, group in enumerate(found.groups)}
    rows, cosines = found.near
    density = cosines.mean(axis=1).argsort().argsort() / max(1, len(found.shown) - 1)
    data: dict[str, Any] = {
        "names": [name(row) for row in found.shown.tolist()],
        "xy": page.packed(np.rint(found.xy * 65535), "<u2"),
        "group": page.packed(np.array([group_of[c] for c in found.clusters[found.shown].tolist()]), "<u4"),
        "density": page.packed(np.rint(255 * density), "u1"),
        "near": page.packed(rows, "<u2"),
        "cosine": page.packed(np.rint(cosines * 1e4), "<i2"),
        "k": rows.shape[1],
        "tile": page.packed(np.array([sprites.tile_of[row] for row in found.shown.tolist()]), "<u2"),
        "tiles": sprites.tiles,
        "sprite": [sprites.width, sprites.height, COLUMNS, SHEET_TILES, int(sprites.pixels)],
        "groups": [[g.name, g.size, g.colour] for g in found.groups],
    }
    if contents.labels is not None:
        words, index, counts = np.unique(
            np.array([str(label) for label in contents.labels]), return_inverse=True, return_counts=True
        )
        colours = [PALETTE[i % len(PALETTE)] for i in range(len(words))]
        data["labels"] = [
            [page.shortened(w), c, k] for w, c, k in zip(words.tolist(), counts.tolist(), colours, strict=True)
        ]
        data["label"] = page.packed(index[found.shown], "<u4")
    return data


def tiles(contents: ReportContents, found: Findings) -> str:
    """The key figures under the headline."""
    health, summary = contents.health, contents.summary
    parts = []
    if "rankme" in health and health["rankme"] is not None:
        width = int(health.get("width", found.width))
        used = float(health["rankme"])
        parts.append(page.tile("Dimensions in use", figure(used), f"of {width}, by RankMe", used / width))
    parts.append(page.tile("Rows", f"{found.n:,}", f"{len(found.shown):,} on the map"))
    real = [group for group in found.groups if group.label >= 0]
    if real:
        parts.append(page.tile("Clusters", f"{len(real)}", f"the largest has {real[0].size:,}"))
    parts.append(
        page.tile("Near-duplicates", f"{found.duplicates:,}", f"{page.percent(found.duplicates, found.n)} of rows")
    )
    parts.append(page.tile("Skipped", f"{len(contents.skipped):,}", "could not be read"))
    if "method" in summary:
        parts.append(page.tile("Method", summary["method"], summary.get("encoder", "")))
    if "duration" in summary:
        parts.append(page.tile("Took", summary["duration"]))
    return "".join(parts)


def map_lead(found: Findings, copies: int, pictures: bool) -> str:
    count = len(found.shown)
    which = (
        f"All {count:,} rows"
        if count == found.n
        else f"{count:,} of {found.n:,} rows (those further down, others at random)"
    )
    return (
        f"{which}, laid out by t-SNE in {found.layout_seconds:.1f} s. Close points are alike to the encoder; "
        f"distances between groups and their sizes mean little. {'Zoom in and dots turn into images.' * pictures}"
        + (f" {copies:,} {'looks' if copies == 1 else 'look'} exactly like another." if copies else "")
    )


def sections(
    contents: ReportContents, found: Findings, sprites: Sprites, name: Callable[[int], str]
) -> list[tuple[str, ...]]:
    """The sections in order: identifier, word in the navigation, HTML."""
    pictures = contents.texts is None
    thumb = (page.thumbnail_writer if pictures else page.text_writer)(sprites, found.shown, name)
    parts: list[tuple[str, ...]] = []

    def add(identifier: str, word: str, title: str, lead: str, body: str) -> None:
        parts.append((identifier, word, page.section(identifier, title, lead, body)))

    add(
        "map",
        "Map",
        "Map of the embedding",
        map_lead(found, sprites.copies if pictures else 0, pictures),
        page.map_body(),
    )
    curves = read_curves(contents.history)
    if curves:
        lead = "The loss tells whether the optimiser works; the label-free scores tell whether anything is learned."
        add("curves", "Curves", "How it went", lead, f'<div class="panels">{"".join(map(panel, curves))}</div>')
    body = page.strips_body(found.queries, *found.strips, thumb, name)
    body += page.pairs_body(found.pairs, found.duplicates, found.n, thumb)
    count = len(found.queries)
    lead = f"{count} rows chosen to differ, each with the rows most alike to it among all {found.n:,} (cosine)."
    add("neighbours", "Neighbours", "Nearest neighbours", lead, body)
    shown = found.groups[:SHEETS]
    source = "found by k-means on the embedding" if contents.clusters is None else "as given"
    rest = f" The {len(shown)} largest of {len(found.groups):,} are shown." if len(shown) < len(found.groups) else ""
    lead = f"Clusters {source}, largest first: the most central members, then those farthest from the centre.{rest}"
    add("clusters", "Clusters", "Clusters", lead, page.cluster_body(shown, found.n, thumb))
    if contents.health:
        lead = "Computed without any label. Compare runs of one method only; a good score is necessary, not sufficient."
        add("scores", "Scores", "Label-free scores", lead, page.scores_body(contents.health))
    count = len(contents.skipped)
    if count:
        lead = f"{count:,} could not be read and took no part." + (
            f" The first {page.SKIPPED_SHOWN} are listed." if count > page.SKIPPED_SHOWN else ""
        )
        add("skipped", "Skipped", "Skipped files", lead, page.skipped_body(contents.skipped))
    if contents.summary:
        lead = "" if count else "Every file could be read."
        add("run", "Run", "What was run", lead, page.facts_body(contents.summary))
    return parts


def render(contents: ReportContents, found: Findings, sprites: Sprites) -> str:
    """Write the page."""

    snippets: dict[int, str] = {}
    if contents.texts is not None:
        texts = contents.texts(found.shown)
        snippets = {int(row): " ".join(t[:2000].split()) for row, t in zip(found.shown, texts, strict=True)}

    def name(row: int) -> str:
        if snippets:
            return page.beginning(snippets[int(row)])
        return page.shortened(str(contents.names[row])) if contents.names is not None else f"row {row}"

    parts = sections(contents, found, sprites, name)
    verdict = checked_verdict(contents.health)
    reasons = [] if verdict in (None, "healthy") else list(contents.health.get("reasons", ()))[1:]
    return page.assemble(
        {
            "title": escape(page.shortened(contents.title)),
            "headline": page.marked_headline(headline(contents.health, found.n, found.width)),
            "verdict": verdict or "unjudged",
            "kind": "words" if contents.texts is not None else "pictures",
            "remarks": page.list_of([*reasons, *contents.notes]),
            "tiles": tiles(contents, found),
            "links": "".join(f'<a href="#{identifier}">{word}</a>' for identifier, word, _ in parts),
            "sections": "\n".join(html for *_, html in parts),
            "sheets": page.sheet_rules(sprites),
            "data": page.safe_json(map_data(contents, found, sprites, name)),
        }
    )


def write_report(path: str | os.PathLike[str], contents: ReportContents, *, random_state: int = 0) -> Path:
    """Write `contents` as one HTML file of at most 6 MB that opens anywhere and loads nothing.

    Parameters
    ----------
    path : file to write; a file that is there is replaced once the new one is complete.
    contents : what to show.
    random_state : seed of the map, the clusters and the choice of rows.

    Returns
    -------
    The path.

    Raises
    ------
    ValueError
        Embeddings that are not a finite matrix of two rows or more, thumbnails that are not uint8 (b, h, w, c), names,
        labels or clusters of another length, an unknown verdict.
    FileNotFoundError
        The folder of `path` is not there.

    Examples
    --------
    >>> import tempfile
    >>> rng = np.random.default_rng(0)
    >>> grey = lambda rows: np.full((len(rows), 8, 8, 1), 128, np.uint8)
    >>> contents = ReportContents("demo", rng.normal(size=(4, 3)).astype(np.float32), grey)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(f"{folder}/report.html", contents).name
    'report.html'
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: the folder {str(path.parent)!r} does not exist")
    start = time.perf_counter()
    found = examine(contents, random_state)
    empty = Sprites((), 1, 1, dict.fromkeys(found.shown.tolist(), 0), 1 if contents.texts is None else 0, 0, False)
    around = len(render(contents, found, empty).encode())
    sprites = empty
    if contents.thumbnails is not None:
        sprites = pack_sprites(found.shown, contents.thumbnails, MAX_BYTES - SLACK - around)
    html = render(contents, found, sprites).encode()
    with replacing(path) as partial:
        partial.write_bytes(html)
    seconds = time.perf_counter() - start
    log.info("%s: %.1f MB in %.1f s, %.1f s of it for the map", path, len(html) / 1e6, seconds, found.layout_seconds)
    return path
