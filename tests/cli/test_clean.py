"""Wrong labels from the command line."""

import csv
import json

import numpy as np
import pyarrow.parquet as parquet
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from tests.commands import run

import nolabel
from nolabel.clean import LSAClassifier
from nolabel.cli import clean
from nolabel.cli.app import main

SHORT = [
    "--encoder", "conv4-x0.5", "--size", 16, "--pretrain-epochs", 8, "--epochs", 12,
    "--set", "detectors=('loss',)", "--set", "warmup=4",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes in folders; every tenth image lies in the next one's folder."""
    place = tmp_path_factory.mktemp("shop")
    digits = load_digits(n_class=3)
    for number, (image, label) in enumerate(zip(digits.images[:150], digits.target)):
        lies = place / f"of {(label + (number % 10 == 0)) % 3}"
        lies.mkdir(exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(lies / f"{number:03}.png")
    (place / "of 1" / "broken.png").write_text("no image")
    return place


@pytest.fixture(scope="module")
def cleaned(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "run"
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    with pytest.raises(SystemExit) as stop:
        main(["clean", str(folder), "--out", str(out), *map(str, SHORT)])
    assert stop.value.code == 0
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before
    return out


def test_a_folder_a_class(folder, cleaned):
    report = json.loads((cleaned / "report.json").read_text())
    assert (report["images"], report["skipped"], report["without label"]) == (150, 1, 0)
    assert [each["label"] for each in report["classes"]] == ["of 0", "of 1", "of 2"]
    assert sum(each["suspects"] for each in report["classes"]) == report["suspects"] > 0
    assert report["suspects"] == report["wrong labels"] + report["strangers"]
    with (cleaned / "suspects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["row", "path", *clean.FIELDS]
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    for row in rows:
        assert (folder / row["path"]).is_file()
        assert row["path"].split("/")[0] == row["given"]
        assert row["kind"] in clean.PICTURES
    assert parquet.read_table(cleaned / "suspects.parquet")["path"].to_pylist() == [row["path"] for row in rows]
    wrong = [int(row["path"].split("/")[1].removesuffix(".png")) % 10 == 0 for row in rows]
    assert np.mean(wrong) > 0.3  # three times as many as there are
    for kind, path in report["pictures"].items():
        assert Image.open(path).width > 90, kind
    model = nolabel.load(cleaned)
    assert isinstance(model, LSAClassifier)
    assert len(model.suspects()) == len(rows)
    assert not [path for path in cleaned.iterdir() if "partial" in path.name]


def test_a_stage_that_is_done_is_not_done_again(folder, cleaned, tmp_path, capsys):
    import shutil

    begun = tmp_path / "begun"
    shutil.copytree(cleaned / "pretrained", begun / "pretrained")
    words = ["clean", folder, "--out", begun, *SHORT, "--json"]
    code, _, err = run(capsys, *words)
    assert (code, "holds an unfinished run" in err) == (2, True), err
    code, out, err = run(capsys, *words, "--resume")
    assert code == 0, err
    assert json.loads(out)["suspects"] == json.loads((cleaned / "report.json").read_text())["suspects"]


def test_a_table_with_labels_and_an_encoder_that_is_learned(folder, cleaned, tmp_path, capsys):
    paths = sorted(str(path) for path in folder.glob("*/0*.png"))
    with (tmp_path / "some.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "kind"))
        writer.writerows([path, path.split("/")[-2] if at % 4 else ""] for at, path in enumerate(paths))
    code, out, err = run(
        capsys, "clean", tmp_path / "some.csv", "--label", "kind", "--run", cleaned / "pretrained", "--epochs", 2,
        "--out", tmp_path / "run", "--set", "detectors=('loss',)", "--json",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads(out)
    assert report["without label"] == len(paths[::4])
    assert report["images"] == len(paths) - len(paths[::4])
    rows = parquet.read_table(tmp_path / "run" / "suspects.parquet").to_pylist()
    assert all(row["row"] % 4 and paths[row["row"]].split("/")[-2] == row["given"] for row in rows)
    assert not (tmp_path / "run" / "pretrained").exists()


def test_labels_in_a_file_of_their_own(folder, tmp_path, capsys):
    paths = sorted(str(path.relative_to(folder)) for path in folder.glob("*/0*.png"))
    table = clean_table(folder)
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *([path, f"is {path[3]}"] for path in paths), ("gone.png", "x")])
    with pytest.warns(UserWarning, match="1 of .* labels of .* are of images that are not there"):
        named, rows = clean.labelled_images(table, None, tmp_path / "labels.csv", str(folder))
    assert [table["path"][row] for row in rows] == [path for path in table["path"] if path in paths]
    assert list(named["label"]) == [f"is {path[3]}" for path in named["path"]]
    (tmp_path / "other.csv").write_text("path,label\na.png,b\n")
    code, _, err = run(capsys, "clean", folder, "--labels", tmp_path / "other.csv", "--out", tmp_path / "none")
    assert (code, "none of the 1 images" in err and "expected such as 'of 0/" in err) == (2, True), err
    (tmp_path / "nameless.csv").write_text("label\nb\n")
    code, _, err = run(capsys, "clean", folder, "--labels", tmp_path / "nameless.csv", "--out", tmp_path / "none")
    assert (code, "needs a column path, image or name" in err) == (2, True), err


def clean_table(folder):
    from nolabel.cli.run import open_table

    return open_table(str(folder), None)


def test_a_class_that_is_mostly_suspicious_is_warned_of():
    with pytest.warns(UserWarning, match="3 of 4 images of 'mew' are suspicious: the class may be too small") as caught:
        clean.warn_of_classes(
            [{"label": "mew", "images": 4, "suspects": 3}, {"label": "x", "images": 4, "suspects": 2}]
        )
    assert len(caught) == 1


def test_words_that_do_not_fit(folder, cleaned, tmp_path, capsys):
    alone = tmp_path / "alone"
    for name, count in (("a", 3), ("b", 1)):
        (alone / name).mkdir(parents=True)
        for at in range(count):
            Image.fromarray(np.full((8, 8), 60 * at + count, np.uint8)).save(alone / name / f"{at}.png")
    (tmp_path / "texts.csv").write_text("text,label\nhello,a\nthere,b\n")
    out = ["--out", tmp_path / "none"]
    for words, message in (
        ([alone], "each label needs at least 2 images to be judged by; there is one of b"),
        ([alone / "a"], "has neither a column 'label' nor sub-folders"),
        ([folder, "--label", "colour"], "has no column 'colour' to learn from"),
        ([tmp_path / "texts.csv"], "has no column 'image' among"),
        ([tmp_path / "absent"], "absent"),
        ([folder, "--show", 0], "--show must be at least 1, got 0"),
        (
            [folder, "--set", "depth=3"],
            "clean has no such parameter; did you mean detectors? there are detectors, warmup",
        ),
        ([folder, "--run", cleaned / "pretrained", "--encoder", "conv4"], "leave --encoder out"),
        ([folder, "--run", tmp_path / "absent"], "no run folder at"),
        ([folder, "--out", cleaned], "holds a finished run"),
    ):
        code, _, err = run(capsys, "clean", *words, *([] if "--out" in words else out))
        assert (code, message in err) == (2, True), err
        assert "Traceback" not in err
    assert not (tmp_path / "none" / "pretrained").exists()
