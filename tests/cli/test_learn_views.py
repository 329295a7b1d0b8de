"""`nolabel learn --views --nested`: what they become of the method's parameters, and how they are refused."""

import json

import numpy as np
import pytest

import nolabel
from nolabel.cli.app import main
from nolabel.cli.learn import _shorthands


@pytest.fixture(scope="module")
def data(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "digits.npy"
    np.save(path, digits[0][:48])
    return path


def learn(capsys, data, *words):
    """Exit code, standard output, standard error."""
    tiny = ["--encoder", "resnet10-x0.125", "--batch-size", "16", "--epochs", "1", "--size", "16"]
    with pytest.raises(SystemExit) as stop:
        main(["learn", str(data), *tiny, *[str(word) for word in words]])
    return stop.value.code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("method", "words", "expected"),
    [
        ("simclr", [], {"augment": None, "negatives": "all", "nested": None}),
        ("simclr", ["--views", "bss"], {"augment": "bss", "negatives": "same_view"}),
        ("simclr", ["--views", "bss", "--set", "negatives=all"], {"augment": "bss", "negatives": "all"}),
        ("simclr", ["--views", "fourier", "--nested", "4,8,16"], {"augment": "fourier", "nested": (4, 8, 16)}),
        ("msn", ["--views", "bss", "--set", "prototypes=6"], {"augment": "bss", "prototypes": 6}),
    ],
)
def test_the_run_holds_what_was_asked_for(capsys, data, tmp_path, method, words, expected):
    code, out, _ = learn(capsys, data, "--method", method, "--out", tmp_path / "run", "--json", *words)
    assert code == 0
    assert json.loads(out)["images"] == 48
    learner = nolabel.load(tmp_path / "run")
    assert {name: getattr(learner, name) for name in expected} == expected


def test_every_method_with_a_choice_of_views_takes_them():
    assert _shorthands("swav", [], "bss", None) == ["augment=bss"]
    assert _shorthands("simclr", ["temperature=0.2"], "bss", "8,16") == [
        "augment=bss",
        "nested=(8,16,)",
        "negatives=same_view",
    ]
    assert _shorthands("simclr", [], "simclr", None) == ["augment=simclr"]
    assert _shorthands("rotnet", [], None, None) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--views", "bs"], "unknown views 'bs': did you mean bss"),
        (["--method", "rotnet", "--views", "bss"], "--views: rotnet has no such choice"),
        (["--method", "swav", "--nested", "8,16"], "--nested: swav has no such choice"),
        (["--method", "bss"], "bss is no method of `nolabel learn`; give it as --views"),
        (["--method", "auto", "--views", "bss"], "--views and --nested belong to one method"),
        (["--nested", "8,x"], "--nested: expected sizes such as 8,16,32,64,128, got '8,x'"),
        (["--nested", "16,8"], "nested must be whole numbers from 1 that rise, each given once, got (16, 8)"),
    ],
)
def test_bad_choices_are_one_line_and_exit_code_2(capsys, data, tmp_path, words, message):
    code, out, err = learn(capsys, data, "--out", tmp_path / "run", *words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert message in err
