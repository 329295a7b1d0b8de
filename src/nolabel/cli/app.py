"""The `nolabel` command: verbs, and how their errors reach a person."""

import os
import shlex
import signal
import sys
import warnings
from typing import Any, NoReturn

import typer

from nolabel.cli import (
    adapt,
    assess,
    classify,
    clean,
    cluster,
    curate,
    demo,
    embed,
    explain,
    explore,
    export,
    extract,
    learn,
    methods,
    protect,
    recommend,
    search,
    senses,
)
from nolabel.cli.claims import let_go
from nolabel.training.place import first_rank

INTERRUPTED = 130

app = typer.Typer(
    help="Learn from what nobody labelled: train, judge, search.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (
    learn,
    embed,
    search,
    explore,
    assess,
    cluster,
    senses,
    curate,
    classify,
    extract,
    recommend,
    clean,
    adapt,
    explain,
    export,
    methods,
    demo,
):
    app.command(name=verb.__name__.rpartition(".")[2])(verb.command)

app.add_typer(protect.group, name="protect")


@app.callback()
def options(debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error.")) -> None:
    """Learn from what nobody labelled: train, judge, search."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line. Exit codes: 0 done, 1 a fault of ours, 2 bad input (one line says what), 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"]
    signal.signal(signal.SIGTERM, _interrupt)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its hints on speed are for developers
    try:
        with let_go(), warnings.catch_warnings():
            warnings.filterwarnings("default", category=UserWarning)
            warnings.showwarning = _warn
            result = app(args=given, standalone_mode=False, prog_name="nolabel")
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    except Exception as error:
        if debug:
            raise
        sys.exit(_explain(error))
    if result == INTERRUPTED and first_rank():  # Typer turns Ctrl-C into this code
        _say(_resume_line(given))
    sys.exit(result if isinstance(result, int) else 0)


def _explain(error: Exception) -> int:
    """Print an error as one line; the exit code it deserves. Of several processes that train together one speaks."""
    if isinstance(error, typer.Exit):
        return error.exit_code
    if not getattr(error, "speaks", first_rank()):
        return 2
    if hasattr(error, "format_message"):  # a word of the command line that does not fit
        _say(" ".join(error.format_message().split()))
        return 2
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ValueError | TypeError | OSError | ImportError | FloatingPointError):
        _say(text)
        return 2
    _say(f"{type(error).__name__}: {text} (a fault of nolabel: run again with --debug and report it)")
    return 1


def _resume_line(given: list[str]) -> str:
    """What to type to go on after Ctrl-C."""
    resumable = {
        "adapt": adapt,
        "classify": classify,
        "clean": clean,
        "cluster": cluster,
        "learn": learn,
        "protect": protect,
        "recommend": recommend,
        "senses": senses,
    }
    if not given or given[0] not in resumable:
        return "interrupted"
    folder = resumable[given[0]].last_run
    words = given if "--resume" in given else [*given, "--resume"]
    for name, kept in (("checkpoint.safetensors", "checkpoint"), ("config.json", "model")):
        if folder is not None and os.path.exists(os.path.join(folder, name)):
            return f"interrupted; {kept} kept. Go on with: nolabel {shlex.join(words)}"
    return "interrupted before the first checkpoint: nothing to resume"


def _interrupt(*signals: Any) -> NoReturn:
    raise KeyboardInterrupt


def _warn(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """A warning of ours as one line, each once; others are for developers."""
    line = " ".join(str(message).split())
    if first_rank() and line not in _warned and "nolabel" in str(where[0] if where else ""):
        _warned.add(line)
        _say(f"warning: {line}")


_warned: set[str] = set()


def _say(line: str) -> None:
    print(f"nolabel: {line}", file=sys.stderr, flush=True)
