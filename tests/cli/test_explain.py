"""`nolabel explain`: concepts of a classifier, of a run without classes, and what does not fit."""

import csv
import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from tests.commands import run

from nolabel.data import read
from nolabel.learn import ImageClassifier, RawPixels, SimCLR
from nolabel.training import Training


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("digits")
    digits = load_digits(n_class=3)
    for number, (image, label) in enumerate(zip(digits.images[:180], digits.target)):
        (place / f"of <{label}>").mkdir(exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(place / f"of <{label}>" / f"{number:03}.png")
    (place / "of <1>" / "broken.png").write_text("no image")
    return place


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """A classifier and a representation."""
    place = tmp_path_factory.mktemp("runs")
    made = place / "labels", place / "vectors"
    table = read(folder)
    named = table.rename_column("folder", "label")
    ImageClassifier("conv4", training=Training(epochs=12, batch_size=32)).fit(named).save(made[0])
    SimCLR("conv4", training=Training(steps=4, batch_size=32)).fit(table).save(made[1])
    return made


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_concepts_of_a_classifier(folder, runs, tmp_path, capsys):
    before = contents(folder), contents(runs[0])
    out = tmp_path / "out"
    words = [runs[0], folder, "--concepts", 4, "--class", "of <1>", "--class", "of <0>", "--out", out, "--json"]
    code, told, err = run(capsys, "explain", *words)
    assert code == 0, err
    assert (contents(folder), contents(runs[0])) == before
    summary = json.loads(told)
    assert json.loads((out / "summary.json").read_text()) == summary
    assert (summary["images"], summary["skipped"], summary["layer"], summary["label"]) == (180, 1, "stage4", "folder")
    assert list(summary["layers"]) == ["stage1", "stage2", "stage3", "stage4", "representation"]
    assert sum(summary["predicted"].values()) == 180
    one, nought = summary["explained"]
    assert (one["name"], nought["name"]) == ("of <1>", "of <0>")
    values = [concept["importance"] for concept in one["concepts"]]
    assert len(values) == 4
    assert values == sorted(values, reverse=True)
    assert set(one["dictionaries"]) == {"kmeans", "pca", "svd", "nmf", "sparse"}
    assert set(one["importances"]) == {"gradient_input", "occlusion", "saliency", "random"}
    assert one["importances"]["gradient_input"]["fidelity"] > 0.99
    table = rows(out / "importance.csv")
    assert [row["concept"] for row in table] == 2 * [f"concept {i}" for i in (1, 2, 3, 4)]
    assert sum(float(row["prevalence"]) for row in table) == pytest.approx(2.0, abs=1e-4)
    images = rows(out / "images.csv")
    assert len(images) == one["images"] + nought["images"]
    assert images[0]["image"].startswith("of <")
    right = np.mean([row["right"] == "yes" for row in images if row["class"] == "of <1>"])
    by_concept = [(c["prevalence"], c["reliability"] or 0.0) for c in one["concepts"]]
    assert sum(a * b for a, b in by_concept) == pytest.approx(right)
    place = out / "1-of-1"
    with Image.open(place / "concept-01.png") as picture:
        assert picture.size == (796, 196)
    assert (place / "strategies.png").exists()
    assert (out / "importance.png").exists()
    assert not list(out.rglob("*.partial*"))
    page = (out / "concepts.html").read_text()
    assert "of &lt;1&gt;" in page
    assert "of <1>" not in page
    code, _, err = run(capsys, "explain", runs[0], folder, "--out", out)
    assert (code, "holds a finished explanation" in err) == (2, True)


def test_a_run_without_classes_is_explained_by_clusters(folder, runs, tmp_path, capsys):
    out = tmp_path / "out"
    words = [runs[1], folder, "-k", 3, "--method", "svd", "--clusters", 2, "--class", "cluster 1", "--out", out]
    code, told, err = run(capsys, "explain", *words)
    assert code == 0, err
    assert "This SimCLR has no classes: its vectors were put into" in told
    summary = json.loads((out / "summary.json").read_text())
    assert next(iter(summary["predicted"])) == "cluster 1"
    assert summary["predicted"]["cluster 1"] == max(summary["predicted"].values())
    assert summary["explained"][0]["strategies"] == 2
    assert {concept["reliability"] for concept in summary["explained"][0]["concepts"]} == {None}


def test_a_layer_without_places_and_a_picture_that_is_left_out(folder, runs, tmp_path, capsys, monkeypatch):
    from nolabel.explain import pictures

    def missing():
        raise ImportError("the picture needs matplotlib: pip install matplotlib")

    monkeypatch.setattr(pictures, "_figure", missing)
    out = tmp_path / "out"
    words = [
        runs[0],
        folder,
        "-k",
        3,
        "-c",
        "of <2>",
        "--layer",
        "representation",
        "--importance",
        "occlusion",
        "--out",
        out,
    ]
    code, told, err = run(capsys, "explain", *words)
    assert code == 0, err
    assert "At the layer representation places are averaged away: there are no heat maps" in told
    assert "importance.png and strategies.png are left out: the picture needs matplotlib" in told
    assert not (out / "importance.png").exists()
    with Image.open(out / "1-of-2" / "concept-01.png") as picture:
        assert picture.size[1] == 96
    assert "concepts.html" in told


def test_words_that_do_not_fit(folder, runs, tmp_path, capsys):
    pixels = RawPixels().fit(folder / "of <0>").save(tmp_path / "pixels")
    (tmp_path / "empty").mkdir()
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((folder / "of <0>").iterdir())[:5]:
        (few / path.name).write_bytes(path.read_bytes())
    (tmp_path / "table.csv").write_text("url,kind\nhttps://a.org,x\n")
    out = ["--out", tmp_path / "none"]
    for words, message in (
        ([tmp_path / "absent", folder], "no run folder at"),
        ([tmp_path / "empty", folder], "is not a finished run folder: it has no config.json"),
        ([pixels, folder], "holds a RawPixels, which has no network to explain"),
        ([runs[0], folder, "--class", "of 7"], "--class: 'of 7' is none of of <0>, of <1>, of <2>"),
        ([runs[0], few, "--class", "of <2>"], "images are predicted as it, at least 16 were expected"),
        ([runs[0], few], "no class has 16 images or more among the 5 there are"),
        ([runs[0], folder, "--method", "ica"], "--method must be one of kmeans, pca, svd, nmf, sparse, got 'ica'"),
        ([runs[0], folder, "--importance", "lime"], "--importance must be one of gradient_input"),
        ([runs[0], folder, "--layer", "stage9"], "layer must be one of stage1 (64 x 16 x 16), stage2"),
        ([runs[0], folder, "--concepts", "4000"], "n_concepts: an integer in [1, "),
        ([runs[0], folder, "--label", "path"], "--label path: none of its values is one of of <0>"),
        ([runs[0], folder, "--label", "colour"], "has no column 'colour'"),
        ([runs[1], folder, "--label", "folder"], "a run without classes has none that could be true"),
        ([runs[0], tmp_path / "table.csv"], "has no column 'image' among url, kind"),
        ([runs[0], tmp_path / "gone"], "gone"),
    ):
        code, _, err = run(capsys, "explain", *words, *out)
        assert (code, message in err) == (2, True), err
        assert "Traceback" not in err
    assert not (tmp_path / "none").exists()
