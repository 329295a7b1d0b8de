"""`nolabel classify --names`: images labelled by names alone."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.commands import run

import nolabel
from nolabel.cli.app import main
from nolabel.cli.zero_shot import names_of, write_sheets
from nolabel.learn import ALIGN, CrossModalVDR, RawPixels
from nolabel.training import Training

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220)}
GROUNDS = {"light": 235, "dark": 20}
NAMES = ["Red", "green", "blue"]
TEMPLATES = [word for ground in GROUNDS for word in ("--template", f"a {{}} square on a {ground} ground")]
SMALL = {"text_encoder": "bert-1x32", "vocabulary_size": 100}


def squares(place, n, seed):
    """Coloured squares on two grounds beside a table: each with a text, and its colour as a label."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        colour, ground = list(COLOURS)[number % 3], list(GROUNDS)[number // 3 % 2]
        pixels = (GROUNDS[ground] + rng.integers(-20, 21, (24, 24, 3))).astype(np.uint8)
        (y, x), side = rng.integers(0, 9, 2), int(rng.integers(13, 16))
        pixels[y : y + side, x : x + side] = COLOURS[colour]
        Image.fromarray(pixels).save(place / f"{number:03d}.png")
        rows.append((f"{number:03d}.png", f"a {colour} square on a {ground} ground", colour))
    with (place / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "text", "colour"), *rows])
    return place


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A run of ALIGN."""
    place = squares(tmp_path_factory.mktemp("pairs"), 180, 0)
    settings = Training(steps=80, batch_size=24, lr=2e-3, random_state=0)
    return ALIGN("conv4", **SMALL, training=settings).fit(place / "table.csv").save(place / "run")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """New squares, one file damaged."""
    place = squares(tmp_path_factory.mktemp("photos"), 60, 1)
    (place / "007.png").write_bytes((place / "007.png").read_bytes()[:60])
    return place


@pytest.fixture(scope="module")
def labelled(learned, photos, tmp_path_factory):
    """What one call leaves, with true labels."""
    out = tmp_path_factory.mktemp("made") / "labels"
    with pytest.raises(SystemExit) as stop:
        main(["classify", str(photos / "table.csv"), "--run", str(learned), "--names", ",".join(NAMES), *TEMPLATES,
              "--label", "colour", "--out", str(out)])  # fmt: skip
    assert stop.value.code == 0
    return out


def test_images_are_told_by_names_that_no_image_had_as_label(labelled):
    report = json.loads((labelled / "report.json").read_text())
    scores = report["scores"]["colour"]["names alone"]
    assert (report["images"], report["skipped"], scores["rows"]) == (59, 1, 59)
    assert scores["accuracy"] > 0.8  # by chance, or by the most common label: 1/3
    assert report["most common label"] == pytest.approx(20 / 59)
    assert [one["label"] for one in scores["labels"]] == NAMES
    confusion = np.array(scores["confusion"])
    assert confusion.sum() == 59
    assert np.trace(confusion) / 59 == pytest.approx(scores["accuracy"])
    assert sum(one["images"] for one in report["names"]) == 59


def test_predictions_say_what_the_run_says(labelled, learned, photos):
    rows = list(csv.DictReader((labelled / "predictions.csv").open()))
    assert len(rows) == 59
    assert "7" not in {row["row"] for row in rows}
    model = nolabel.load(learned)
    table = {"image": [str(photos / "004.png"), str(photos / "011.png")]}
    cosines = model.zero_shot(table, NAMES, TEMPLATES[1::2]).astype(np.float64)
    p = np.exp(cosines / model.temperature_)
    p /= p.sum(axis=1, keepdims=True)
    for own, row in zip(p, [rows[4], rows[10]]):  # row 7 is missing
        first, second = np.argsort(-own)[:2]
        assert (row["told"], row["runner-up"]) == (NAMES[first], NAMES[second])
        assert float(row["probability"]) == pytest.approx(own[first], abs=2e-3)
    assert rows[10]["colour"] == "blue"
    assert rows[10]["path"].endswith("011.png")


def test_a_contact_sheet_for_each_name(labelled):
    names = json.loads((labelled / "report.json").read_text())["names"]
    for number, one in enumerate(names):
        assert one["sheet"].endswith(f"sheets/{number + 1}-{one['name']}.png")
        rows = -(-one["images"] // 8)
        assert Image.open(one["sheet"]).size == (8 * (96 + 6) + 6, 26 + rows * (96 + 15 + 6) + 6)
    assert len(list((labelled / "sheets").iterdir())) == 3
    assert (labelled / "confusion.png").is_file()


def test_a_folder_without_labels_and_a_file_of_names(learned, photos, tmp_path, capsys):
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in (0, 1, 2, 7):
        (folder / f"{number}.png").write_bytes((photos / f"00{number}.png").read_bytes())
    (tmp_path / "names.txt").write_text("red\n\ngreen\nblue \n", encoding="utf-8")
    code, out, err = run(capsys, "classify", folder, "--run", learned, "--names", tmp_path / "names.txt", "--out",
                         tmp_path / "out", "--json")  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    assert (found["images"], found["skipped"], found["scores"], found["picture"]) == (3, 1, {}, None)
    assert "1 of 4 images were skipped" in err
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert list(rows[0]) == ["row", "path", "told", "probability", "runner-up"]
    assert [row["path"].rpartition("/")[2] for row in rows] == ["0.png", "1.png", "2.png"]
    code, _, err = run(capsys, "classify", folder, "--run", learned, "--names", "red,blue", "--out", tmp_path / "out")
    assert code == 2
    assert "holds a finished run" in err


def test_a_sheet_holds_the_surest_images_and_frames_the_wrong_ones(tmp_path):
    class Opened:
        def images(self, rows):
            return np.stack([np.full((8, 8, 3), 20 * row, np.uint8) for row in rows])

    found = np.array([[0.6, 0.3, 0.1], [0.9, 0.1, 0.0], [0.2, 0.7, 0.1]])
    sheets = write_sheets(tmp_path / "sheets", Opened(), ["a/b", "ä", "c"], found, ["a/b", "ä", None])
    assert [sheet and sheet.rpartition("/")[2] for sheet in sheets] == ["1-a-b.png", "2-ä.png", None]
    pixels = np.asarray(Image.open(sheets[0]))
    assert pixels[80, 54].tolist() == [20, 20, 20]  # row 1 is surer than row 0
    assert pixels[80, 156].tolist() == [0, 0, 0]
    assert pixels[30, 54].tolist() == [255, 0, 0]  # and wrong
    assert pixels[30, 156].tolist() == [255, 255, 255]


def test_words_the_tokeniser_never_saw_are_named(learned, photos, tmp_path, capsys):
    code, out, err = run(capsys, "classify", photos / "table.csv", "--run", learned, "--names", "red,a zebra,Ж",
                         "--template", "a scan of {}", "--out", tmp_path / "out", "--json")  # fmt: skip
    assert code == 0
    assert "hardly understood: zebra, Ж, scan, of" in err
    assert json.loads(out)["unknown words"] == ["zebra", "Ж", "scan", "of"]


def test_labels_that_are_no_names_are_counted(learned, photos, tmp_path, capsys):
    code, out, err = run(capsys, "classify", photos / "table.csv", "--run", learned, "--names", "red,green",
                         "--label", "colour", "--out", tmp_path / "out", "--json")  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    assert found["labelled otherwise or not at all"] == 20
    assert found["scores"]["colour"]["names alone"]["rows"] == 39


def test_images_described_by_words_are_labelled_too(photos, tmp_path, capsys):
    settings = Training(steps=60, batch_size=24, lr=3e-3, random_state=0)
    vdr = CrossModalVDR("resnet8-x0.25-map4", topk=4, **SMALL, training=settings)
    vdr.fit(photos / "table.csv").save(tmp_path / "run")
    code, out, err = run(
        capsys, "classify", photos / "table.csv", "--run", tmp_path / "run", "--names", "red,green,blue", "--label", "colour",
        "--template", "a {} square", "--out", tmp_path / "labels", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["method"] == "names alone, by CrossModalVDR"
    assert json.loads(out)["scores"]["colour"]["names alone"]["accuracy"] > 0.5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--names", ""], "--names: '' holds no name"),
        (["--names", " , "], "holds no name"),
        (["--names", "red,,blue"], "name 2 of 3 in 'red,,blue' is empty"),
        (["--names", "red,blue,red"], "'red' comes twice"),
        (["--names", "red"], "'red' is the only name"),
        (["--names", "red,RED"], "'red' and 'RED' are the same to the tokeniser"),
        (["--names", "none.txt"], "no file at none.txt"),
        (["--names", "red,blue", "--template", "a picture"], "--template 'a picture' has no {} for the name"),
        (["--template", "a {}"], "give --names too"),
        (["--names", "red,blue", "--epochs", "3"], "--epochs is for learning labels"),
        (["--names", "red,blue", "--held-out", "0.5"], "--held-out is for learning labels"),
        (["--names", "red,blue", "--freeze"], "--freeze is for learning labels"),
        (["--names", "red,blue", "--label", "shape"], "has no column 'shape'"),
        (["--names", "red,blue", "--label", "text"], "none of its values (a blue square on a dark ground, "),
        (["--names", "red,blue", "--label", "a", "--label", "b"], "compared with one column, got a, b"),
    ],
)
def test_bad_input(learned, photos, tmp_path, capsys, words, said):
    code, _, err = run(capsys, "classify", photos / "table.csv", "--run", learned, "--out", tmp_path / "out", *words)
    assert code == 2
    assert said in err
    assert not (tmp_path / "out" / "report.json").exists()


def test_bad_runs_and_tables(learned, photos, tmp_path, capsys):
    table, names = photos / "table.csv", ["--names", "red,blue", "--out", tmp_path / "out"]
    code, _, err = run(capsys, "classify", table, *names)
    assert code == 2
    assert "--names needs --run RUN" in err
    RawPixels().fit(photos).save(tmp_path / "raw")
    code, _, err = run(capsys, "classify", table, "--run", tmp_path / "raw", *names)
    assert code == 2
    assert "holds a RawPixels, which learned from image and has no encoder of texts" in err
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "texts.parquet")
    code, _, err = run(capsys, "classify", tmp_path / "texts.parquet", "--run", learned, *names)
    assert code == 2
    assert "--names is for images, and there are text" in err
    pq.write_table(pa.table({"image": [b"x", b"y"]}), tmp_path / "damaged.parquet")
    code, _, err = run(capsys, "classify", tmp_path / "damaged.parquet", "--run", learned, *names)
    assert code == 2


def test_names_of_a_file_in_another_encoding(tmp_path):
    (tmp_path / "names.txt").write_bytes("Hündin\nHund".encode("latin-1"))
    with pytest.raises(ValueError, match="no text in UTF-8"):
        names_of(str(tmp_path / "names.txt"))
