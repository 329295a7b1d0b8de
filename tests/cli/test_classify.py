"""URLs from the command line: learned, searched, labelled."""

import csv
import json
import sys

import numpy as np
import pytest
from tests.commands import run

import nolabel
from nolabel.cli.app import main
from nolabel.data.urls import registered_domain

WORDS = ["help", "cart", "login", "news", "item", "blog", "user", "page"]
TINY = ["--encoder", "bert-1x32", "--set", "vocabulary_size=200", "--set", "max_length=24"]


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    for number in range(n):
        bad, page = rng.integers(2), WORDS[rng.integers(3)]
        url = f"http://www.{WORDS[rng.integers(8)]}{rng.integers(30)}.com/{page}/{'verify.php' if bad else 'index'}"
        yield url, ("bad" if bad else "good") if number % 2 else "", page if number % 3 else ""


def write(path, n=160, seed=0, head=("url", "label", "page")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows(n, seed)])
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("urls")
    write(place / "urls.csv")
    return place


def test_rows_without_a_url_are_left_out_and_counted(tmp_path, capsys, learned):
    file = write(tmp_path / "some.csv", 60)
    file.write_text(file.read_text() + ",good,help\n" + '"  ",bad,help\n')
    code, _, err = run(
        capsys,
        "learn",
        file,
        "--method",
        "urlbert",
        "--out",
        tmp_path / "run",
        "--epochs",
        1,
        "--batch-size",
        16,
        *TINY,
    )
    assert code == 0
    assert "2 of 62 texts were skipped" in err
    code, _, err = run(capsys, "classify", file, "--run", learned, "--out", tmp_path / "labels", "--label-epochs", 1)
    assert code == 0
    assert "2 of 62 rows have no URL and were left out" in err


@pytest.fixture(scope="module")
def learned(folder):
    with pytest.raises(SystemExit) as stop:
        main(["learn", str(folder / "urls.csv"), "--method", "urlbert", "--out", str(folder / "run"), "--epochs", "4",
              "--batch-size", "16", "--lr", "0.003", *TINY])  # fmt: skip
    assert stop.value.code == 0
    return folder / "run"


@pytest.fixture(scope="module")
def labelled(folder, learned):
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "classify",
                str(folder / "urls.csv"),
                "--run",
                str(learned),
                "--out",
                str(folder / "labels"),
                "--label-epochs",
                "20",
            ]
        )
    assert stop.value.code == 0
    return folder / "labels"


def test_learn_and_search_urls(folder, learned, capsys):
    assert (learned / "report.html").is_file()
    first = next(iter(rows(1)))[0]
    for mode in ("dense", "bm25", "hybrid"):
        code, out, err = run(capsys, "search", learned, first, "--mode", mode, "-k", 3, "--json")
        assert code == 0, err
        hits = json.loads(out)
        assert len(hits) == 3
        assert hits[0]["url"] == hits[0]["text"]
    code, out, err = run(capsys, "search", learned, "id:0", "-k", 2, "--mode", "dense", "--where", "page = 'help'")
    assert code == 0, err
    assert out.count("http://") == 2  # each once, though it is two columns
    code, out, err = run(capsys, "embed", learned, folder / "urls.csv", "--out", folder / "z.npy", "--json")
    assert code == 0, err
    assert np.load(folder / "z.npy").shape == (160, 32)


def test_a_run_folder_is_left(folder, labelled):
    names = {path.name for path in labelled.iterdir()}
    assert {"config.json", "model.safetensors", "predictions.csv", "confusion.png", "report.json"} <= names
    report = json.loads((labelled / "report.json").read_text())
    assert report["labelled"] == {"label": 80}
    scores = report["scores"]["label"]
    assert set(scores) == {"UrlClassifier", "character n-grams"}
    mine = scores["UrlClassifier"]
    assert 0 <= mine["AUC"] <= 1
    assert [one["label"] for one in mine["labels"]] == ["bad", "good"]
    assert sum(map(sum, mine["confusion"])) == mine["rows"] == report["held out"]
    with (labelled / "predictions.csv").open() as file:
        told = list(csv.DictReader(file))
    assert len(told) == 160
    given = [row for row in told if row["label"]]
    held = {registered_domain(row["url"]) for row in given if row["held out"] == "yes"}
    assert held
    assert not held & {registered_domain(row["url"]) for row in given if row["held out"] == "no"}
    right = [row["label"] == row["label told"] for row in given if row["held out"] == "yes"]
    assert np.mean(right) == pytest.approx(mine["accuracy"])
    assert all(0.5 <= float(row["label probability"]) <= 1 for row in told)


def test_new_urls_are_labelled_by_the_model(labelled, tmp_path, capsys):
    new = write(tmp_path / "new.csv", 20, seed=5)
    code, out, err = run(capsys, "classify", new, "--model", labelled, "--out", tmp_path / "a", "--json")
    assert code == 0, err
    assert json.loads(out)["scores"] == {}
    assert not (tmp_path / "a" / "confusion.png").exists()
    with (tmp_path / "a" / "predictions.csv").open() as file:
        told = [row["label told"] for row in csv.DictReader(file)]
    assert told == nolabel.load(labelled).predict([row[0] for row in rows(20, 5)]).tolist()
    code, out, err = run(
        capsys, "classify", new, "--model", labelled, "--label", "label", "--out", tmp_path / "b", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["scores"]["label"]["UrlClassifier"]["rows"] == 10


def test_several_tasks_from_scratch(folder, tmp_path, capsys):
    options = ["--label", "label", "--label", "page", "--epochs", "1", "--label-epochs", "2", *TINY]
    code, out, err = run(capsys, "classify", folder / "urls.csv", "--out", tmp_path / "run", *options)
    assert code == 0, err
    assert "label: tested on what was held out" in out
    assert "character n-grams" in out
    model = nolabel.load(tmp_path / "run")
    assert sorted(model.classes_) == ["label", "page"]
    code, out, err = run(
        capsys,
        "classify",
        folder / "urls.csv",
        "--model",
        tmp_path / "run",
        "--label",
        "page",
        "--out",
        tmp_path / "b",
        "--json",
    )
    assert code == 0, err
    assert set(json.loads(out)["scores"]) == {"page"}


def test_without_matplotlib_it_says_so(labelled, tmp_path, capsys, monkeypatch):
    new = write(tmp_path / "new.csv", 20, seed=5)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, err = run(capsys, "classify", new, "--model", labelled, "--label", "label", "--out", tmp_path / "a")
    assert code == 0, err
    assert "left out: it needs matplotlib" in out


def test_methods_lists_the_three(capsys):
    code, out, _ = run(capsys, "methods", "--json")
    assert code == 0
    listed = {row["name"]: row for row in json.loads(out)}
    assert listed["urlbert"]["columns"] == ["url"]
    assert listed["urlbert"]["paper"] == "arXiv:2402.11495"
    for name in ("url-classifier", "multi-task-url-classifier"):
        assert listed[name]["columns"] == ["url", "label"]
        assert listed[name]["paper"] == "arXiv:2402.11495"


def test_words_that_do_not_fit(folder, learned, labelled, tmp_path, capsys):
    source, out = folder / "urls.csv", ["--out", tmp_path / "run"]
    none = write(tmp_path / "other.csv", 20, head=("link", "x", "y"))
    (tmp_path / "blank.csv").write_text("url,label\na.de,\nb.de,\n")
    (tmp_path / "hole.csv").write_text("url,label\na.de,1\n,2\n")
    for words, message in (
        ([source, "--method", "tree"], "--method must be image or urlbert, got 'tree'"),
        ([source, "--label", "colour"], "has no column 'colour' to learn from among label, page"),
        ([none], "has no column 'url' among link, x, y; name it with --column url=NAME"),
        ([none, "--column", "url=link"], "has no column 'label'"),
        ([tmp_path / "blank.csv"], "the column 'label' has no labels"),
        ([tmp_path / "hole.csv"], "1 of 2 rows have no URL and were left out"),
        ([source, "--held-out", "1.5"], "--held-out must be a share in (0, 1), got 1.5"),
        ([source, "--run", learned, "--epochs", "2"], "--run brings an encoder that is learned"),
        ([source, "--run", labelled], "holds a UrlClassifier; expected a run of --method urlbert"),
        ([source, "--model", learned], "holds a UrlEncoder; expected a run of `nolabel classify`"),
        ([source, "--model", labelled, "--run", learned], "--run is for learning"),
        ([source, "--model", labelled, "--label", "page"], "is none of the labels bad, good"),
        ([source, "--out", labelled], "holds a finished run"),
        ([source, "--set", "speed=3", *TINY], "urlbert has no such parameter"),
        ([tmp_path / "nothing.csv"], "does not exist"),
    ):
        code, _, err = run(capsys, "classify", *words, *([] if "--out" in words else out))
        assert (code, message in err) == (2, True), err
        assert "Traceback" not in err
