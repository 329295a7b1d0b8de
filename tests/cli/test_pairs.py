"""Images with texts from the command line: learned, searched by words, by an image, by both."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw
from tests.commands import run

from nolabel.cli.app import main
from nolabel.search import Index

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220)}
SHAPES = ("circle", "square", "triangle")


def picture(colour, shape, rng):
    image = Image.new("RGB", (24, 24), "white")
    draw = ImageDraw.Draw(image)
    (x, y), r = rng.integers(2, 9, 2).tolist(), int(rng.integers(10, 14))
    box = [x, y, x + r, y + r]
    if shape == "circle":
        draw.ellipse(box, fill=COLOURS[colour])
    elif shape == "square":
        draw.rectangle(box, fill=COLOURS[colour])
    else:
        draw.polygon([(x, y + r), (x + r, y + r), (x + r // 2, y)], fill=COLOURS[colour])
    return image


SMALL = ["--encoder", "conv4", "--set", "text_encoder=bert-1x32", "--set", "vocabulary_size=100", "--batch-size", "45"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """180 pictures beside a table that names them."""
    place = tmp_path_factory.mktemp("shapes")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(180):
        colour, shape = list(COLOURS)[number % 3], SHAPES[number // 3 % 3]
        picture(colour, shape, rng).save(place / f"{number}.png")
        rows.append((f"{number}.png", f"a {colour} {shape}", number % 3))
    with (place / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "text", "group"), *rows])
    return place


@pytest.fixture(scope="module")
def learned(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "shapes"
    with pytest.raises(SystemExit) as stop:
        main(
            [
                *("learn", str(folder / "captions.csv"), "--method", "convirt", "--out", str(out), "--json"),
                *("--epochs", "9", *SMALL),
            ]
        )
    assert stop.value.code == 0
    return out


def hits(capsys, *words):
    code, out, err = run(capsys, "search", *words, "--json")
    assert code == 0, err
    return json.loads(out)


def test_the_index_keeps_the_texts(learned):
    index = Index.open(learned)
    assert (len(index), index.modes) == (180, ("dense",))
    row = index.rows([4]).to_pylist()[0]
    assert (row["text"], row["group"]) == ("a green square", 1)
    assert row["thumbnail"].startswith(b"\xff\xd8")
    assert "180 images of 3 x 24 x 24" in (learned / "report.html").read_text()


def test_search_by_words(learned, capsys, tmp_path):
    found = hits(capsys, learned, "a red circle", "-k", "5", "--picture", tmp_path / "found.png")
    assert sum("red" in hit["text"] for hit in found) >= 4
    assert Image.open(tmp_path / "found.png").size == (5 * 104 + 8, 96 + 16)  # no image was asked for
    assert all(hit["group"] == 0 for hit in hits(capsys, learned, "a blue circle", "--where", "group = 0"))


def test_search_by_an_image_of_a_file_or_of_the_index(learned, folder, capsys):
    by_file = hits(capsys, learned, folder / "7.png", "-k", "3")
    assert (by_file[0]["row"], by_file[0]["score"]) == (7, pytest.approx(1, abs=1e-3))
    assert [hit["id"] for hit in hits(capsys, learned, "id:7", "-k", "3")] == [hit["id"] for hit in by_file]


def test_words_are_added_to_an_image(learned, folder, capsys):
    red = hits(capsys, learned, folder / "0.png", "-k", "9")
    blue = hits(capsys, learned, folder / "0.png", "--plus", "blue", "--weight", "4", "-k", "9")
    assert sum("blue" in hit["text"] for hit in blue) > sum("blue" in hit["text"] for hit in red)
    same = hits(capsys, learned, "id:0", "--plus", "blue", "--weight", "4", "-k", "9")
    assert [hit["id"] for hit in same] == [hit["id"] for hit in blue]
    assert [hit["id"] for hit in hits(capsys, learned, "id:0", "--plus", "blue", "--weight", "0", "-k", "9")] == [
        hit["id"] for hit in red
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.png"], "no image file at none.png"),
        (["   "], "expected words to search by"),
        (["id:x"], "expected id:NUMBER"),
        (["id:999"], "holds no row 999"),
        (["red", "--plus", "blue"], "--plus adds words to an image, and 'red' is none"),
        (["id:0", "--weight", "2"], "give plus too"),
        (["id:0", "--plus", " "], "plus: expected words"),
        (["id:0", "--plus", "blue", "--weight", "nan"], "weight must be a finite number"),
        (["red", "--mode", "bm25"], "can be searched by dense"),
    ],
)
def test_bad_queries(learned, capsys, words, said):
    code, _, err = run(capsys, "search", learned, *words)
    assert code == 2
    assert said in err


def test_a_table_of_images_and_texts_is_learned_by_align(folder, capsys, tmp_path):
    rows = list(csv.DictReader((folder / "captions.csv").open()))
    data = [(folder / row["image"]).read_bytes() for row in rows[:90]]
    texts = [[row["text"], "a drawing"] for row in rows[:90]]
    pq.write_table(pa.table({"image": data, "text": texts}), tmp_path / "pairs.parquet")
    code, out, err = run(
        capsys, "learn", tmp_path / "pairs.parquet", "--out", tmp_path / "run", "--epochs", "9", "--json", *SMALL
    )
    assert code == 0, err
    assert json.loads(out)["method"] == "ALIGN"
    assert "'some words'" in json.loads(out)["next"][1]
    assert Index.open(tmp_path / "run").rows([0]).to_pylist()[0]["text"] == "a red circle / a drawing"


def test_words_of_images(folder, capsys, tmp_path):
    code, _, err = run(
        capsys,
        *("learn", folder / "captions.csv", "--method", "vdr-cross-modal", "--out", tmp_path / "run", "--epochs", "2"),
        *("--encoder", "resnet8-x0.125-map4", "--set", "topk=4", *SMALL[2:]),
    )
    assert code == 0, err
    assert Index.open(tmp_path / "run").modes == ("sparse",)
    found = hits(capsys, tmp_path / "run", "red", "-k", "3")
    assert all(hit["text"].startswith("a ") for hit in found)
    own = hits(capsys, tmp_path / "run", "id:3", "-k", "3")
    by_file = hits(capsys, tmp_path / "run", folder / "3.png", "-k", "3")
    assert [hit["score"] for hit in own] == pytest.approx([hit["score"] for hit in by_file], abs=1e-3)
    code, _, err = run(capsys, "search", tmp_path / "run", "id:0", "--plus", "blue")
    assert code == 2
    assert "plus: CrossModalVDR has no sums of images and words" in err
