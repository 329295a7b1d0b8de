"""What the commands for corpora share: which sources are read shard by shard, where and on which engine."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

LOCAL = "local"
ENGINE = typer.Option(LOCAL, "--engine", help="For a corpus of shards: local, in this process, or ray.")
ADDRESS = typer.Option(
    None, "--address", help="HOST:PORT of a running Ray cluster; without it --engine ray starts one on this machine."
)
CORPUS = "a folder, glob or URL of .parquet or .tar shards, or a .lance data set"


def by_shards(source: str, engine: str, address: str | None) -> bool:
    """Whether a source is read shard by shard; refuses an engine for any other."""
    from nolabel.corpus import is_corpus
    from nolabel.corpus.engine import ENGINES
    from nolabel.data.graphs import is_graph

    if engine not in ENGINES:
        raise ValueError(f"--engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if address is not None and engine != "ray":
        raise ValueError("--address is of a Ray cluster: it needs --engine ray")
    run_or_graph = os.path.exists(os.path.join(source, "config.json")) or (os.path.exists(source) and is_graph(source))
    if not run_or_graph and is_corpus(source):
        return True
    if engine == LOCAL:
        return False
    if os.path.isfile(source) and source.endswith(".parquet"):
        return True  # a corpus of one shard
    raise ValueError(f"--engine {engine} works on {CORPUS}; {source} is none")


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, as a function of the shards done and how many there are."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: tuple[Any, ...] = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, of: shown.update(task, completed=done, total=of)
