"""`nolabel adapt` without a source: segmenters and classifiers; what is written, told and refused."""

import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image
from tests.commands import run

import nolabel
from nolabel.cli import adapt_segmenter
from nolabel.cli.app import main
from nolabel.data import read
from nolabel.learn import ImageClassifier, RawPixels
from nolabel.learn.image_segmenter import ImageSegmenter
from nolabel.training import Training


def scenes(n, seed):
    """Bright boxes of class 7 on grey ground of class 3."""
    rng = np.random.default_rng(seed)
    images = rng.integers(90, 120, (n, 12, 20)).astype(np.uint8)
    masks = np.full((n, 12, 20), 3, np.uint8)
    for row in range(n):
        y, x = rng.integers(0, 6), rng.integers(0, 12)
        images[row, y : y + 6, x : x + 8] += 70
        masks[row, y : y + 6, x : x + 8] = 7
    return images, masks


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A segmenter's run folder, and a darker site in large images: as a folder with sub-folders and as a table with masks."""
    folder = tmp_path_factory.mktemp("segmenter")
    training = Training(steps=60, batch_size=8, lr=5e-3, random_state=0, progress=False)
    ImageSegmenter((6, 8), training=training).fit(*scenes(40, 0)).save(folder / "model")
    images, masks = scenes(20, 1)
    large, truth = ((np.repeat(np.repeat(x, 3, axis=1), 3, axis=2)) for x in ((images * 0.3).astype(np.uint8), masks))
    for row in range(20):
        there = folder / "site" / ("left" if row % 2 else "right")
        there.mkdir(parents=True, exist_ok=True)
        Image.fromarray(large[row]).save(there / f"{row:02}.png")
    table = {"image": list(map(Image.fromarray, large)), "truth": list(map(Image.fromarray, truth))}
    read(table).to_parquet(str(folder / "site.parquet"))
    return folder


@pytest.fixture(scope="module")
def adapted(place):
    before = {path: path.stat().st_mtime_ns for path in sorted(place.rglob("*"))}
    words = [
        "adapt",
        place / "model",
        place / "site.parquet",
        "--label",
        "truth",
        "--epochs",
        "6",
        "--out",
        place / "run",
    ]
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert stop.value.code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    return place / "run"


def test_a_run_folder_is_left(adapted, place):
    names = {path.name for path in adapted.iterdir()}
    wanted = {
        "config.json",
        "model.safetensors",
        "transferability.csv",
        "transferability.png",
        "overlay.png",
        "report.json",
    }
    assert names == wanted | {"masks", "masks.csv"}
    report = json.loads((adapted / "report.json").read_text())
    scores = report["scores"]
    assert scores["mean IoU"]["after"] > scores["mean IoU"]["before"] + 0.2
    assert set(scores) == {"mean IoU", "mean Dice", "IoU of 3", "IoU of 7"}
    assert [row["class"] for row in report["classes"]] == [3, 7]
    assert sum(row["after"] for row in report["classes"]) == pytest.approx(1.0)
    with (adapted / "transferability.csv").open() as file:
        layers = list(csv.DictReader(file))
    assert layers[0]["layer"] == "encoder.down.0.1"
    mean = np.average(
        [float(row["transferability"]) for row in layers], weights=[int(row["channels"]) for row in layers]
    )
    assert mean == pytest.approx(1.0, abs=1e-4)
    for picture in ("transferability.png", "overlay.png"):
        with Image.open(adapted / picture) as image:
            assert np.asarray(image.convert("L")).std() > 5


def test_masks_are_as_large_as_their_images_and_hold_class_numbers(adapted, place):
    model = nolabel.load(adapted)
    assert isinstance(model, ImageSegmenter)
    with (adapted / "masks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert rows[3]["mask"] == "masks/000003.png"
    truth = read(place / "site.parquet", columns={"mask": "truth"})
    found = []
    for row in rows:
        with Image.open(adapted / row["mask"]) as mask:
            assert mask.mode == "P"
            found.append(np.asarray(mask))
        assert float(row["share of 7"]) == pytest.approx(np.mean(found[-1] == 7), abs=1e-6)
    found = np.stack(found)
    assert found.shape == (20, 36, 60)
    assert set(np.unique(found)) == {3, 7}
    small = found[:, 1::3, 1::3]
    assert np.mean(small == model.predict(truth)) > 0.99
    assert model.score(truth) == pytest.approx(
        json.loads((adapted / "report.json").read_text())["scores"]["mean IoU"]["after"]
    )


def test_without_masks_of_the_site_the_same_comes_out(adapted, place, tmp_path, capsys):
    words = ["adapt", place / "model", place / "site", "--epochs", "6"]
    code, out, err = run(capsys, *words, "--out", tmp_path / "run")
    assert code == 0, err
    assert "masks " in out
    assert "not used to adapt" not in out
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["scores"] is None
    assert (tmp_path / "run" / "masks" / "left" / "01.png").exists()
    told = nolabel.load(tmp_path / "run").predict_proba(place / "site")
    order = [row for row in range(20) if row % 2] + [row for row in range(20) if not row % 2]
    mine = nolabel.load(adapted).predict_proba(place / "site.parquet")[order]
    assert np.mean(told.argmax(axis=1) == mine.argmax(axis=1)) > 0.97  # the same images in another order
    code, _, err = run(capsys, *words, "--out", tmp_path / "run")
    assert (code, "holds a finished run" in err) == (2, True)
    code, out, err = run(
        capsys, "adapt", tmp_path / "run", place / "site", "--out", tmp_path / "again", "--epochs", "1", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["images"] == 20


def test_a_classifier_is_adapted_too(digits, tmp_path, capsys):
    images, labels = digits
    training = Training(epochs=8, batch_size=32, random_state=0, progress=False)
    model = ImageClassifier("conv4-growing-x0.25", image_size=16, training=training).fit(images[:400], labels[:400])
    model.save(tmp_path / "model")
    site = read({"image": (120 + images[400:600] * 0.25).astype(np.uint8), "digit": labels[400:600].tolist()})
    site.to_parquet(str(tmp_path / "site.parquet"))
    words = ["adapt", tmp_path / "model", tmp_path / "site.parquet", "--label", "digit", "--out", tmp_path / "run"]
    code, out, err = run(capsys, *words, "--epochs", "2", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["scores"]["accuracy"]["after"] > told["scores"]["accuracy"]["before"] + 0.3
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"predictions.csv", "report.html", "index.lance", "transferability.csv", "report.json"} <= names
    adapted = nolabel.load(tmp_path / "run")
    assert adapted.score(site, labels[400:600]) == pytest.approx(told["scores"]["accuracy"]["after"])


def test_class_numbers_above_a_byte_and_names_of_masks():
    classes = np.array([0, 1000])
    picture = adapt_segmenter._picture_of(np.array([[0, 1000]]), classes, adapt_segmenter._colours(classes))
    assert np.asarray(picture).tolist() == [[0, 1000]]
    rows = np.array([2, 0])
    table = read({"image": np.zeros((3, 4, 4), np.uint8), "path": ["a/x.jpg", "b", "c/y.png"]})
    assert adapt_segmenter._mask_names(table, rows) == ["c/y.png", "a/x.png"]
    for paths in (["a/x.jpg", "b", "../y.png"], ["a/x.jpg", "b", "/tmp/y.png"], ["a/x.jpg", "b", "a/x.png"]):
        table = read({"image": np.zeros((3, 4, 4), np.uint8), "path": paths})
        assert adapt_segmenter._mask_names(table, rows) == ["000002.png", "000000.png"]


def test_scores_are_enlarged_smoothly():
    scores = np.zeros((2, 2, 2), np.float32)
    scores[1, :, 1] = 1.0
    scores[0, :, 0] = 1.0
    found = adapt_segmenter._enlarged(scores, 6, 8)
    assert found.tolist() == [[0] * 4 + [1] * 4] * 6


def test_without_matplotlib_there_is_no_picture(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert adapt_segmenter.draw(tmp_path / "a.png", None) is None


def test_words_that_do_not_fit(place, tmp_path, capsys):
    RawPixels().fit(scenes(9, 0)[0]).save(tmp_path / "pixels")
    (tmp_path / "one").mkdir()
    Image.fromarray(scenes(1, 0)[0][0]).save(tmp_path / "one" / "a.png")
    for words, message in (
        ([place / "model", place / "site", "--label", "truth"], "has no column 'truth' among image, path, folder"),
        ([place / "model", tmp_path / "one"], "cannot learn from 1 row: need at least 2"),
        (
            [tmp_path / "pixels", place / "site"],
            "holds a RawPixels; without --source a segmenter or an image classifier",
        ),
        (
            [place / "model", place / "site", "--epochs", "0"],
            "training.epochs must be a whole number of at least 1, got 0",
        ),
        ([place / "model", place / "site", "--source", place / "site"], "with --source an image classifier is adapted"),
    ):
        code, _, err = run(capsys, "adapt", *words, "--out", tmp_path / "out")
        assert (code, message in err) == (2, True), err
        assert "Traceback" not in err
        assert not (tmp_path / "out" / "report.json").exists()


def test_a_segmenter_is_learned_from_a_table_and_searched(place, tmp_path, capsys):
    images, masks = scenes(40, 2)
    read({"image": list(map(Image.fromarray, images)), "truth": list(map(Image.fromarray, masks))}).to_parquet(
        str(tmp_path / "day.parquet")
    )
    words = ["learn", tmp_path / "day.parquet", "--method", "image-segmenter", "--column", "mask=truth"]
    code, out, err = run(capsys, *words, "--epochs", 2, "--batch-size", 8, "--out", tmp_path / "run", "--json")
    assert code == 0, err
    assert json.loads(out)["images"] == 40
    code, out, err = run(capsys, "search", tmp_path / "run", "id:3", "-k", 2, "--json")
    assert code == 0, err
    code, out, err = run(capsys, "adapt", tmp_path / "run", place / "site", "--epochs", 1, "--out", tmp_path / "new")
    assert code == 0, err
    assert len(list((tmp_path / "new" / "masks").rglob("*.png"))) == 20
