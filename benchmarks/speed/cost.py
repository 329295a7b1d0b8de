"""``docs/cost.md``: what a large corpus would cost, by arithmetic from the committed results of `corpus` and `growth`."""

from typing import Any

from benchmarks.speed.growth import exponents

SIZES = (1_000_000, 100_000_000, 1_000_000_000)
FLEETS = {"1 machine of 64 cores": 64, "8 machines of 64 cores": 512}  # cores
FLOAT = 4  # bytes

HEAD = """# What a billion rows would cost

Nothing on this page was run at that size. It is arithmetic from rates that were measured on one machine of {cores} cores
({processor}), by `python -m benchmarks.speed corpus growth`; this page is made from their results. Put your own rates into
the formulas: `nolabel embed` of ten thousand of your rows gives them in a minute. No GPU was measured.

With N rows, s seconds a row on c cores, C cores in all, and w seconds paid once:

    core-seconds = N s c        hours = (N s c / C + w) / 3600        price = N s c / 3600 x price of a core-hour

The first is measured to be linear: see the exponents in [Speed](speed.md). The second takes for granted that shards keep all
cores busy, which needs many more shards than workers, and storage that delivers as fast as they read; that was measured for
{cores} workers.

## Each row once

"""
AFTER_ROWS = """

One does not learn from a billion rows because there are a billion: a representation learned from a million drawn rows embeds
the rest. Vectors of width d in float32 take 4 N d bytes before any index: {room:,.0f} GiB for a billion of width 128.

## Searching them

"""
AFTER_SEARCH = """

An index is one folder, written by one process. A billion vectors are best cut into shards of about {n:,} rows, an index each,
asked side by side and merged by score; a query then costs a machine its share of the last column. Shards are read through the
page cache, so what is asked often should fit into the memory of all machines together. The column before it shows what one
large index would take. Cheaper a query: binary codes (32 times less room, see [Speed](speed.md)), or a short prefix first.

What to type on one machine and on many is in [Corpora of many shards](corpus.md) and [Beyond one device](scale.md).
"""


def _said(value: float) -> str:
    """Two digits that count, or all before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _hours(core_seconds: float, cores: int, once: float) -> str:
    hours = (core_seconds / cores + once) / 3600
    if hours < 1:
        return f"{_said(60 * hours)} min"
    return f"{_said(hours)} h" if hours < 72 else f"{_said(hours / 24)} days"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def _each_row_once(corpus: dict[str, Any], growth: dict[str, Any]) -> str:
    """Work that is done for every row by itself."""
    cores = growth["cores"]
    fleets = {f"this machine, {cores} cores": cores} | FLEETS
    learn, embed = (growth["work"][name][-1] for name in ("learn", "embed"))
    photo = corpus["arms"]["ray"]
    work = [
        (
            "embedding photographs of 500 x 375",
            photo["each"]["median"],
            photo["once"]["median"],
        ),
        ("embedding images of 32 x 32", embed["seconds"]["median"] / embed["n"], 0.0),
        ("learning, one epoch of images of 32 x 32", learn["seconds"]["median"] / learn["n"], 0.0),
    ]
    rows = []
    for what, second, once in work:
        for n in SIZES:
            total = n * second * cores
            times = [_hours(total, of, once) for of in fleets.values()]
            rows.append(
                [what if n == SIZES[0] else "", f"{n:,}", f"{1e3 * second * cores:.3g}", _said(total / 3600), *times]
            )
    return _table(["work", "rows", "core-ms a row", "core-hours", *fleets], rows)


def _search(growth: dict[str, Any]) -> str:
    """What an index takes: room, time to build, time to ask, in one piece and in shards."""
    cores, index, search = growth["cores"], growth["work"]["index"], growth["work"]["search"]
    last, asked = index[-1], search[-1]
    n, slope = last["n"], exponents(index, lambda row: row["seconds"]["median"])[1]
    rows = []
    for size in SIZES:
        shards, times = size / n, last["seconds"]["median"]
        whole = times * shards ** max(slope, 1.0)
        rows.append(
            [
                f"{size:,}",
                f"{last['disk_mib'] * shards / 1024:,.0f} GiB",
                f"{shards:,.0f}",
                _said(shards * times * cores / 3600),
                _said(whole * cores / 3600),
                f"{1e3 * shards * asked['seconds']['median']:,.3g} ms",
            ]
        )
    head = ["vectors of width 128", "on disk", f"shards of {n:,}", "core-hours to build them"]
    head += [
        f"as one index, if time went on growing as n^{max(slope, 1.0):.2f}",
        "one query of all shards, one after the other",
    ]
    return _table(head, rows)


def text(results: list[dict[str, Any]]) -> str | None:
    """The page; None while `corpus` or `growth` is not measured."""
    named = {result["name"]: result for result in results}
    if not {"corpus", "growth"} <= set(named) or not named["growth"]["complete"]:
        return None
    corpus, growth = named["corpus"], named["growth"]
    n = growth["work"]["index"][-1]["n"]
    room = SIZES[-1] * 128 * FLOAT / 2**30
    head = HEAD.format(cores=growth["cores"], processor=growth["processor"])
    return "".join(
        [head, _each_row_once(corpus, growth), AFTER_ROWS.format(room=room), _search(growth), AFTER_SEARCH.format(n=n)]
    )
