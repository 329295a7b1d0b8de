"""Images from the command line: a folder a class, or a table with a column of labels."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from tests.commands import run

import nolabel
from nolabel.cli.app import main
from nolabel.search import Index


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("digits")
    digits = load_digits(n_class=3)
    for number, (image, label) in enumerate(zip(digits.images[:150], digits.target)):
        (place / f"of {label}").mkdir(exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(place / f"of {label}" / f"{number:03}.png")
    (place / "of 1" / "broken.png").write_text("no image")
    return place


@pytest.fixture(scope="module")
def labelled(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "run"
    with pytest.raises(SystemExit) as stop:
        main(["classify", str(folder), "--out", str(out), "--encoder", "conv4", "--epochs", "12"])
    assert stop.value.code == 0
    return out


def predictions(run):
    with (run / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_folder_a_class(folder, labelled, tmp_path, capsys):
    report = json.loads((labelled / "report.json").read_text())
    assert (report["images"], report["skipped"], report["held out"]) == (150, 1, 31)
    scores = report["scores"]["folder"]
    assert set(scores) == {"ImageClassifier", "logistic regression on 16 x 16 pixels"}
    assert scores["ImageClassifier"]["accuracy"] > 0.8
    assert {"confusion.png", "report.html", "index.lance", "model.safetensors"} <= {p.name for p in labelled.iterdir()}
    rows = predictions(labelled)
    assert len(rows) == 150
    assert rows[0]["path"].startswith("of 0/")
    held = [row for row in rows if row["held out"] == "yes"]
    right = np.mean([row["folder"] == row["folder told"] for row in held])
    assert right == pytest.approx(scores["ImageClassifier"]["accuracy"])
    assert len(Index(labelled)) == 150
    code, _, err = run(capsys, "search", labelled, folder / "of 2" / rows[-1]["path"].split("/")[-1])
    assert code == 0, err


def test_new_images_are_labelled(folder, labelled, tmp_path, capsys):
    code, out, err = run(capsys, "classify", folder / "of 1", "--model", labelled, "--out", tmp_path / "new")
    assert code == 0, err
    told = [row["label told"] for row in predictions(tmp_path / "new")]
    assert np.mean([name == "of 1" for name in told]) > 0.8
    code, out, err = run(
        capsys, "classify", folder, "--model", labelled, "--label", "folder", "--out", tmp_path / "b", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["scores"]["folder"]["ImageClassifier"]["rows"] == 150


def test_some_labels_of_a_table_and_an_encoder_that_is_learned(folder, tmp_path, capsys):
    names = sorted(str(path) for path in folder.glob("*/0*.png"))
    given = [name.split("/")[-2] if at % 3 else "" for at, name in enumerate(names)]
    with (tmp_path / "some.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "kind"), *zip(names, given)])
    code, _, err = run(capsys, "learn", folder, "--out", tmp_path / "run", "--epochs", 2, "--batch-size", 32)
    assert code == 0, err
    code, out, err = run(
        capsys, "classify", tmp_path / "some.csv", "--label", "kind", "--run", tmp_path / "run", "--freeze",
        "--out", tmp_path / "labels", "--epochs", 3, "--json",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads(out)
    assert report["labelled"] == {"kind": sum(map(bool, given))}
    assert len(predictions(tmp_path / "labels")) == len(names)
    assert nolabel.load(tmp_path / "labels").freeze


def test_a_run_that_was_cut_off_before_its_report_goes_on_with_the_same(folder, labelled, tmp_path, capsys):
    out = shutil.copytree(labelled, tmp_path / "run")
    (out / "report.json").unlink()
    words = ["classify", folder, "--out", out, "--encoder", "conv4", "--resume", "--epochs"]
    for more, what in (
        ([11], "parameters"),
        ([12, "--seed", 1], "parameters and data"),
        ([12, "--held-out", 0.3], "data"),
    ):
        code, _, err = run(capsys, *words, *more)
        assert (code, f"was begun with another {what}: resume needs the same" in err) == (2, True), err
        assert not (out / "report.json").exists()
    code, _, err = run(capsys, *words, 12)
    assert code == 0, err
    report, wanted = (json.loads((place / "report.json").read_text()) for place in (out, labelled))
    assert report["scores"] == wanted["scores"]
    assert predictions(out) == predictions(labelled)


def test_words_that_do_not_fit(folder, labelled, tmp_path, capsys):
    alone = tmp_path / "alone"
    for name in ("a", "b"):
        (alone / name).mkdir(parents=True)
    for at in range(3):
        Image.fromarray(np.full((8, 8), 60 * at, np.uint8)).save(alone / "a" / f"{at}.png")
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(alone / "b" / "0.png")
    out = ["--out", tmp_path / "none"]
    for words, message in (
        ([alone], "each label needs 2 images, one to learn from and one to test on; there is one of b"),
        ([alone / "a"], "has neither a column 'label' nor sub-folders"),
        ([folder, "--label", "colour"], "has no column 'colour' to learn from"),
        ([folder, "--label", "folder", "--label", "path"], "images are classified by one column"),
        ([folder, "--label-epochs", "3"], "--label-epochs is for URLs"),
        ([folder, "--set", "depth=3"], "image has no such parameter; there are freeze, augment"),
        ([folder, "--model", labelled, "--epochs", "3"], "--epochs is for learning"),
        ([folder, "--method", "urlbert"], "has no column 'url' among"),
        ([folder, "--out", labelled], "holds a finished run"),
    ):
        code, _, err = run(capsys, "classify", *words, *([] if "--out" in words else out))
        assert (code, message in err) == (2, True), err
        assert "Traceback" not in err
