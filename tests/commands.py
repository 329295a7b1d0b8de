"""`nolabel` as it is typed, in the process of the test."""

import pytest

from nolabel.cli.app import _warned, main


def run(capsys, *words):
    """Exit code, standard output, standard error."""
    _warned.clear()  # each warning is said once in a process
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def told(capsys, *words):
    """The same, with the lines of standard error that are no warnings."""
    capsys.readouterr()
    code, out, err = run(capsys, *words)
    return code, out, [line for line in err.splitlines() if not line.startswith("nolabel: warning:")]
