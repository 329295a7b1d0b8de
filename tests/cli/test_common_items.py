"""Two runs of the same images: compared, and the one searched with the encoder of the other."""

import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from tests.commands import run

from nolabel.cli.app import main
from nolabel.search.common_items import common_items


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("twins")
    for name, rows in (("all", 160), ("some", 120)):
        (place / name).mkdir()
        for number, image in enumerate(load_digits().images[:rows]):
            Image.fromarray((image * 15).astype(np.uint8)).save(place / name / f"{number:03}.png")
    for made, folder, encoder in (
        ("a", "all", "conv4"),
        ("b", "all", "resnet10-x0.25"),
        ("c", "some", "resnet10-x0.25"),
    ):
        words = [
            "learn",
            place / folder,
            "--out",
            place / made,
            "--encoder",
            encoder,
            "--epochs",
            "2",
            "--batch-size",
            "16",
        ]
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        assert stop.value.code == 0
    return place


def test_items_are_matched_by_row_or_by_path(runs):
    same, part = common_items(runs / "a", runs / "b"), common_items(runs / "a", runs / "c")
    assert (same.by, len(same.ids)) == ("row", 160)
    assert (part.by, len(part.ids)) == ("path", 120)
    assert np.array_equal(part.first, same.first[:120])  # paths are in order


def test_spaces_are_compared(runs, capsys):
    code, out, err = run(capsys, "assess", runs / "a", "--against", runs / "b", "--json")
    assert code == 0, err
    found = json.loads(out)["against"]
    assert found["items in common"] == 160
    assert 0 < found["MRR of the twin"] <= 1


def test_a_query_of_the_other_encoder(runs, capsys):
    image = runs / "all" / "003.png"
    code, out, err = run(capsys, "search", runs / "a", image, "--by", runs / "b", "-k", 40, "--json")
    assert code == 0, err
    assert len(json.loads(out)) == 40
    code, out, err = run(capsys, "search", runs / "a", image, "--by", runs / "a", "-k", 1, "--json")
    assert json.loads(out)[0]["path"] == "003.png"  # by its own encoder it finds itself


def test_words_that_do_not_fit(runs, capsys, tmp_path):
    image = runs / "all" / "003.png"
    for words, message in (
        (["--mode", "bm25"], "this run can be searched by dense"),
        (["--dims", "8"], "--dims compares within one run"),
        (["--by", tmp_path / "none"], "no run folder"),
    ):
        code, _, err = run(
            capsys, "search", runs / "a", image, *(["--by", runs / "b"] if "--by" not in words else []), *words
        )
        assert (code, message in err) == (2, True), err
    code, _, err = run(capsys, "assess", runs / "a", "--against", image)
    assert (code, "compares two run folders" in err) == (2, True)
