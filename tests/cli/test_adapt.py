"""`nolabel adapt`: a classifier, another site, no labels; what is written, told and refused."""

import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image
from tests.commands import run

import nolabel
from nolabel.cli import adapt
from nolabel.cli.app import app, main
from nolabel.data import read
from nolabel.learn import ImageClassifier
from nolabel.training import Training


@pytest.fixture(scope="module", autouse=True)
def _registered():
    """The command, whether or not the application lists it yet."""
    if "adapt" not in {command.name for command in app.registered_commands}:
        app.command(name="adapt")(adapt.command)


@pytest.fixture(scope="module")
def place(digits, tmp_path_factory):
    """A model's run folder, its source as a folder a class, and another site as a flat folder and as a labelled table."""
    folder = tmp_path_factory.mktemp("sites")
    images, labels = np.repeat(np.repeat(digits[0], 2, axis=1), 2, axis=2), digits[1]
    for row in range(240):
        kind = folder / "source" / f"digit {labels[row]}"
        kind.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[row]).save(kind / f"{row}.png")
    pale = (60 + images[500:600] * 0.5).astype(np.uint8)
    (folder / "site").mkdir()
    for row, image in enumerate(pale):
        Image.fromarray(image).save(folder / "site" / f"{row:03}.png")
    truth = [f"digit {value}" for value in labels[500:600]]
    read({"image": list(map(Image.fromarray, pale)), "truth": truth}).to_parquet(str(folder / "site.parquet"))
    table = read({"image": images[:240], "label": [f"digit {value}" for value in labels[:240]]})
    training = Training(epochs=15, batch_size=32, progress=False)
    ImageClassifier("conv4-growing-x0.25", image_size=16, training=training).fit(table).save(folder / "model")
    return folder


QUICK = [
    "--method",
    "mmd",
    "--method",
    "entropy",
    "--trade-off",
    "1",
    "--epochs",
    "3",
    "--last",
    "2",
    "--batch-size",
    "32",
]


@pytest.fixture(scope="module")
def adapted(place):
    before = {path: path.stat().st_mtime_ns for path in sorted(place.rglob("*"))}
    words = ["adapt", place / "model", place / "site.parquet", "--source", place / "source", "--label", "truth"]
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in [*words, "--out", place / "run", *QUICK]])
    assert stop.value.code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    return place / "run"


def test_a_run_folder_is_left(adapted, place):
    names = {path.name for path in adapted.iterdir()}
    wanted = {"config.json", "model.safetensors", "candidates.csv", "candidates.png", "predictions.csv", "report.json"}
    assert wanted | {"report.html", "index.lance"} <= names
    assert "candidates" not in names
    assert not any("partial" in name for name in names)
    report = json.loads((adapted / "report.json").read_text())
    assert report["accuracy"]["chosen"] > report["accuracy"]["as it is"] + 0.2
    assert report["chosen"]["candidate"] in ("mmd 1", "entropy 1")
    with (adapted / "candidates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5  # two epochs of two adapters, and the model as it is
    assert [row["chosen"] for row in rows] == ["yes", "no", "no", "no", "no"]
    scores = [float(row["transfer_score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    for row in rows:
        parts = float(row["hopkins"]) + float(row["mutual_information"]) - float(row["uniformity"])
        assert float(row["transfer_score"]) == pytest.approx(parts, abs=1e-5)
    model = nolabel.load(adapted)
    assert isinstance(model, ImageClassifier)
    with (adapted / "predictions.csv").open() as file:
        told = list(csv.DictReader(file))
    table = read(place / "site.parquet")
    assert [row["truth told"] for row in told] == model.predict(table).tolist()
    right = np.mean([row["truth"] == row["truth told"] for row in told])
    assert right == pytest.approx(report["accuracy"]["chosen"])
    with Image.open(adapted / "candidates.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5


def test_without_labels_of_the_site_the_choice_is_the_same(adapted, place, tmp_path, capsys):
    words = ["adapt", place / "model", place / "site", "--source", place / "source", *QUICK]
    code, out, err = run(capsys, *words, "--out", tmp_path / "run")
    assert code == 0, err
    assert "1 of 3: as it is" in err
    assert "3 of 3: entropy 1" in err
    assert "kept         " in out
    assert "not used to choose" not in out
    mine, other = (json.loads((folder / "report.json").read_text()) for folder in (tmp_path / "run", adapted))
    assert mine["accuracy"] is None
    assert mine["chosen"] == other["chosen"]
    assert mine["candidates"] == other["candidates"]
    with (tmp_path / "run" / "predictions.csv").open() as file:
        assert [row["path"] for row in csv.DictReader(file)][:2] == ["000.png", "001.png"]
    code, _, err = run(capsys, *words, "--out", tmp_path / "run")
    assert (code, "holds a finished run" in err) == (2, True)


def test_what_was_adapted_is_used_and_adapted_again(adapted, place, tmp_path, capsys):
    code, out, err = run(capsys, "classify", place / "site", "--model", adapted, "--out", tmp_path / "labels", "--json")
    assert code == 0, err
    assert json.loads(out)["images"] == 100
    words = [place / "site", "--source", place / "source", "--method", "coral", "--trade-off", "1", "--epochs", "1"]
    code, out, err = run(capsys, "adapt", adapted, *words, "--out", tmp_path / "again", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["accuracy"] is None
    assert {row["candidate"] for row in told["candidates"]} == {"as it is", "coral 1"}


def test_it_goes_on_after_an_interruption(adapted, place, tmp_path, capsys, monkeypatch):
    from nolabel.adapt import choosing

    words = ["adapt", place / "model", place / "site", "--source", place / "source", *QUICK, "--out", tmp_path / "run"]
    usual = choosing._trained

    def cut(candidate, *more):
        if type(candidate).__name__ == "EntropyMinimisation":
            raise KeyboardInterrupt
        return usual(candidate, *more)

    monkeypatch.setattr(choosing, "_trained", cut)
    code, _, err = run(capsys, *words)
    assert code == 130
    monkeypatch.setattr(choosing, "_trained", usual)
    code, _, err = run(capsys, *words)
    assert (code, "holds an unfinished run: go on with --resume" in err) == (2, True)
    code, _, err = run(capsys, *words, "--resume")
    assert code == 0, err
    mine, other = (json.loads((folder / "report.json").read_text()) for folder in (tmp_path / "run", adapted))
    assert mine["candidates"] == other["candidates"]


def test_without_matplotlib_there_is_no_picture(tmp_path, monkeypatch):
    row = {"candidate": "mmd 1", "epoch": 1, "transfer_score": 1.0, "chosen": True}
    assert adapt.draw(tmp_path / "a.png", [row, {**row, "transfer_score": None, "chosen": False}]) == str(
        tmp_path / "a.png"
    )
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert adapt.draw(tmp_path / "b.png", [row]) is None


def test_words_that_do_not_fit(place, tmp_path, capsys, digits):
    model, site, source = place / "model", place / "site", ["--source", place / "source"]
    images = digits[0]
    read({"image": images[:9], "label": ["dog", *["digit 1"] * 8]}).to_parquet(str(tmp_path / "dogs.parquet"))
    read({"image": images[:9], "label": ["digit 1"] * 9}).to_parquet(str(tmp_path / "ones.parquet"))
    read({"image": images[:20]}).to_parquet(str(tmp_path / "few.parquet"))
    read({"image": images[:1]}).to_parquet(str(tmp_path / "one.parquet"))
    (tmp_path / "text.csv").write_text("text,label\nhello,1\n")
    from nolabel.learn import RawPixels

    RawPixels().fit(images[:9]).save(tmp_path / "pixels")
    for words, message in (
        ([model, site, *source, "--method", "magic"], "--method must be one of coral, mmd, dann, entropy, got 'magic'"),
        ([model, site, *source, "--trade-off", "0"], "--trade-off must be above 0, got 0"),
        ([model, site, *source, "--held-out", "1"], "--held-out must be a share in (0, 1), got 1.0"),
        ([model, site, *source, "--label", "truth"], "has no column 'truth'"),
        ([model, place / "site.parquet", *source, "--label", "nothing"], "has no column 'nothing'"),
        ([model, site, "--source", tmp_path / "dogs.parquet"], "'dog' is none of the model's classes digit 0"),
        ([model, site, "--source", tmp_path / "ones.parquet"], "there is no image of 'digit 0', which the model knows"),
        ([model, site, "--source", tmp_path / "few.parquet"], "has neither a column 'label' nor sub-folders"),
        ([model, site, "--source", tmp_path / "text.csv"], "has no column 'image' among text, label"),
        (
            [model, tmp_path / "text.csv", *source],
            "has no column 'image' among text, label; name it with --column image=NAME",
        ),
        (
            [model, tmp_path / "few.parquet", *source],
            "at least 40 images were expected, for the Transfer Score, got 20",
        ),
        (
            [model, tmp_path / "one.parquet", *source],
            "target: at least 40 images were expected, for the Transfer Score, got 1",
        ),
        ([model, site, *source, "--epochs", "0"], "epochs and window must be at least 1"),
        ([model, site, *source, "--window", "6"], "window not above epochs, got 5 and 6"),
        ([tmp_path / "pixels", site, *source], "holds a RawPixels; with --source an image classifier is adapted"),
        ([tmp_path / "nothing", site, *source], "no run folder at"),
        ([model, tmp_path / "nowhere", *source], "does not exist"),
        ([model, site, "--method", "mmd"], "are for adaptation with --source: it is not given"),
    ):
        code, _, err = run(capsys, "adapt", *words, "--out", tmp_path / "out")
        assert (code, message in err) == (2, True), err
        assert "Traceback" not in err
        assert not (tmp_path / "out" / "report.json").exists()
