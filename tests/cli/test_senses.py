"""`nolabel senses` as a person types it."""

import csv
import json
import sys

import numpy as np
import pytest
from tests.commands import run

from nolabel.cli.app import _resume_line, main
from nolabel.cli.occurrences import occurrences, places
from nolabel.learn import DisambiguatedSkipGram
from nolabel.training import Training

QUICK = ["--senses", "2", "--epochs", "40", "--lr", "0.02", "--batch-size", "64"]
QUICK += ["--set", "dim=8", "--set", "subsample=0"]
FRUIT = ["pie", "sweet", "juice", "orchard", "garden", "tree"]
FIRM = ["share", "profit", "market", "stock", "trade", "money"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """120 texts in which an apple is a fruit (even rows) or a firm (odd rows)."""
    rng = np.random.default_rng(0)
    texts = []
    for row in range(120):
        words = list(rng.permutation((FRUIT, FIRM)[row % 2])[:5])
        words.insert(2, "Apple")
        texts.append("The " + " ".join(words) + ".")
    texts += ["qwx zvb", "zvb qwx"]  # no word of theirs occurs often enough: their vectors are zeros
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def learned(corpus, tmp_path_factory):
    """A finished run, made by the command."""
    folder = tmp_path_factory.mktemp("runs") / "apples"
    with pytest.raises(SystemExit) as stop:
        main(["senses", str(corpus), "apple", "--out", str(folder), *QUICK, "--json"])
    assert stop.value.code == 0
    return folder


def test_it_tells_the_senses_apart_and_leaves_its_files(learned):
    told = json.loads((learned / "senses-apple.json").read_text())
    assert told["occurrences"] == 120
    with (learned / "senses-apple.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == list(range(120))
    assert all("**Apple**" in row["context"] for row in rows)
    labels = np.array([int(row["sense"]) for row in rows])
    fruit, firm = (np.bincount(labels[part::2], minlength=2).argmax() for part in (0, 1))
    assert fruit != firm
    assert (labels == np.where(np.arange(120) % 2, firm, fruit)).mean() > 0.9
    for one in told["senses"]:
        topic = FRUIT if one["sense"] == fruit else FIRM
        assert one["share"] == pytest.approx(0.5, abs=0.15)
        assert sum(near["word"] in topic for near in one["neighbours"][:4]) >= 3
        assert len({near["word"] for near in one["neighbours"]}) == len(one["neighbours"])
        assert len(one["examples"]) == 3
        assert all(any(word in example["context"] for word in topic) for example in one["examples"])
    assert (learned / "senses-apple.png").read_bytes()[:4] == b"\x89PNG"
    assert (learned / "report.html").is_file()


def test_a_run_folder_alone_answers(learned, corpus, capsys, tmp_path):
    lines = tmp_path / "contexts.txt"
    lines.write_text("a sweet apple pie\nprofit of apple on the market\n\n", encoding="utf-8")
    corpus.rename(corpus.with_suffix(".away"))
    try:
        code, out, err = run(capsys, "senses", learned, "Apple", "--contexts", lines, "--json")
        assert code == 0, err
        told = json.loads(out)
        assert told["word"] == "apple"
        assert [one["context"] for one in told["contexts"]] == ["a sweet apple pie", "profit of apple on the market"]
        assert told["contexts"][0]["sense"] != told["contexts"][1]["sense"]
        code, out, err = run(capsys, "senses", learned, "market", "--examples", "1")
        assert code == 0, err
        assert out.startswith("market: ")
        assert "**market**" in out
        assert (learned / "senses-market.csv").is_file()
    finally:
        corpus.with_suffix(".away").rename(corpus)


def test_without_matplotlib_it_says_so(learned, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, err = run(capsys, "senses", learned, "apple", "--json")
    assert code == 0
    assert json.loads(out)["picture"] is None
    assert "no picture was drawn: the picture needs matplotlib" in err


def test_an_index_that_was_lost_is_made_again(learned, corpus, capsys, tmp_path):
    import shutil

    folder = tmp_path / "cut"
    shutil.copytree(learned, folder)
    shutil.rmtree(folder / "index.lance")
    code, _, err = run(capsys, "senses", folder, "apple")
    assert code == 2
    assert "has no index of its texts" in err
    code, _, err = run(capsys, "senses", corpus, "apple", "--out", folder, "--resume", "--json")
    assert code == 0, err
    assert (folder / "index.lance").is_dir()
    other = tmp_path / "other.txt"
    other.write_text("apple pie sweet juice\n" * 40, encoding="utf-8")
    code, _, err = run(capsys, "senses", other, "apple", "--out", folder, "--resume")
    assert code == 2
    assert "was begun with other texts" in err


def test_bad_input_is_one_line(learned, corpus, capsys, tmp_path):
    small = tmp_path / "small.txt"
    small.write_text("one two\nthree four\n", encoding="utf-8")
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n", encoding="utf-8")
    new = ["--out", tmp_path / "new"]
    cases = [
        ((learned, "appel"), "'appel' is not among the 13 words of the vocabulary: did you mean 'apple'"),
        ((corpus, "appel", *new), "did you mean 'apple'"),
        ((corpus, "the", *new), "'the' is a stop word"),
        ((corpus, "apple pie", *new), "WORD must be one word, got 'apple pie', which is 2 words"),
        ((small, "one", *new), "min_count=5 leaves no word"),
        ((corpus, "apple", "--out", learned), "holds a finished run: ask it with nolabel senses"),
        ((learned, "apple", "--epochs", "3"), "--epochs is for learning from texts"),
        ((learned, "apple", "--min-count", "3"), "--min-count is for learning from texts"),
        ((learned, "apple", "--examples", "0"), "--examples must be at least 1, got 0"),
        ((learned, "apple", "--contexts", tmp_path / "none.txt"), "--contexts: there is no file"),
        ((learned, "apple", "--contexts", empty), "holds no line with a word"),
        ((corpus, "apple", "--senses", "1", *new), "n_senses must be at least 2, got 1"),
    ]
    for words, said in cases:
        code, _, err = run(capsys, "senses", *words)
        assert code == 2, (words, err)
        assert said in err
        assert len(err.strip().splitlines()) == 1, err
    assert not (tmp_path / "new").exists()


def test_a_run_of_another_system_is_refused(corpus, capsys, tmp_path):
    from nolabel.learn import Contriever

    training = Training(steps=1, batch_size=8)
    texts = corpus.read_text().splitlines()
    Contriever("bert-1x32", vocabulary_size=200, training=training).fit(texts).save(tmp_path / "other")
    code, _, err = run(capsys, "senses", tmp_path / "other", "apple")
    assert code == 2
    assert "holds a Contriever, which has no senses of words" in err


def test_interrupted_runs_say_how_to_go_on(monkeypatch, tmp_path):
    from nolabel.cli import senses

    (tmp_path / "checkpoint.safetensors").touch()
    monkeypatch.setattr(senses, "last_run", tmp_path)
    assert _resume_line(["senses", "c.txt", "apple"]).endswith("nolabel senses c.txt apple --resume")


def test_places_are_those_of_the_words():
    text = "Cafe\u0301 — Bank's BANK\u0130!"  # the last letter has another length in lower case
    shown, found = places(text)
    assert [word for word, _ in found][:3] == ["café", "bank", "s"]
    assert all(shown[at : at + len(word)].lower() == word for word, at in found)
    shown, found = places("The Café, Bank")
    assert shown == "The Café, Bank"
    assert found == [("the", 0), ("café", 4), ("bank", 10)]


def test_windows_are_those_of_the_training():
    texts = ["a bank b x c bank d", "nothing", None, "banking"]
    model = DisambiguatedSkipGram(2, window=2, min_count=1, stop_words=["x"])
    model.vocabulary_ = model.open_table(["a bank b x c bank d", "nothing at all"], None).vocabulary
    found = list(occurrences(model, "bank", [5, 6, 7, 8], texts))
    assert [(one.row, one.words) for one in found] == [(5, ["a", "b", "c"]), (5, ["b", "c", "d"])]
    assert found[1].text == "a bank b x c **bank** d"
