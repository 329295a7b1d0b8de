"""`nolabel search --dims --rerank --shortlist` as a person types it."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits
from tests.commands import run

from nolabel.learn import SimCLR
from nolabel.search import Index
from nolabel.training import Training, identity


def saved_run(folder, nested):
    """A run folder of 64 digits: the learner and an index of what it returns."""
    images = (load_digits().images[:64] * 15.9).astype(np.uint8)
    settings = Training(steps=2, batch_size=16)
    learner = SimCLR("resnet10-x0.125", projection=(16, 8), nested=nested, image_size=16, training=settings)
    learner.fit(images).save(folder)
    vectors = learner.transform(images)
    Index.create(folder, vectors.shape[1], encoder=identity(folder)).add(vectors, {"number": np.arange(64)})
    return folder


@pytest.fixture(scope="module")
def nested(tmp_path_factory):
    return saved_run(tmp_path_factory.mktemp("nested") / "run", (4, 8, 32))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return saved_run(tmp_path_factory.mktemp("plain") / "run", None)


def search(capsys, *words):
    return run(capsys, "search", *words)


ASKED = {
    "prefix": (["--dims", "8"], [(8, 5)]),
    "rerank": (["--dims", "4", "--shortlist", "20", "--rerank", "8"], [(4, 20), (8, 5)]),
    "shortlist": (["--dims", "8", "--shortlist", "9"], [(8, 9), (32, 5)]),
    "default shortlist": (["--dims", "8", "--rerank", "32"], [(8, 200), (32, 5)]),
}


@pytest.mark.parametrize("case", ASKED)
def test_options_ask_the_index_for_a_funnel(nested, capsys, case):
    words, funnel = ASKED[case]
    code, out, err = search(capsys, nested, "id:7", "-k", 5, *words, "--json")
    assert (code, err) == (0, "")
    index = Index.open(nested)
    expected = index.search(index.rows([7])["vector"].to_pylist()[0], 5, funnel=funnel)
    found = json.loads(out)
    assert [hit["id"] for hit in found] == expected.ids.tolist()
    assert found[0]["id"] == 7
    np.testing.assert_allclose([hit["score"] for hit in found], expected.scores, rtol=1e-6)


def test_cost_is_said(nested, capsys):
    code, out, _ = search(capsys, nested, "id:7", "-k", 5, "--dims", 4, "--shortlist", 20)
    assert code == 0
    cost = 64 * 4 + 20 * 4 + 20 * 32  # all prefixes, the shortlist's exactly, the shortlist by the whole vector
    assert f"{cost:,} multiply-adds; {64 * 32:,} by all rows and coordinates" in out
    assert "multiply-adds" not in search(capsys, nested, "id:7")[1]


def test_untrained_prefixes_are_said(nested, plain, capsys):
    code, _, err = search(capsys, nested, "id:7", "--dims", 5)
    assert code == 0
    assert err == (
        "nolabel: warning: the first 5 coordinates were not trained for: "
        "this SimCLR was trained for the first 4, 8, 32\n"
    )
    code, _, err = search(capsys, plain, "id:7", "--dims", 16, "--rerank", 24)
    assert code == 0
    assert "the first 16, 24 coordinates were not trained for: this SimCLR was trained for the whole vector only" in err
    assert search(capsys, plain, "id:7")[2] == ""


BAD = {
    "rerank alone": (["--rerank", "8"], "rerank 8 ranks what a prefix found: give dims too"),
    "shortlist alone": (["--shortlist", "20"], "shortlist 20 ranks what a prefix found: give dims too"),
    "too many dims": (["--dims", "33"], "dims must lie between 1 and 32, the width of the index, got 33"),
    "no dims": (["--dims", "0"], "dims must lie between 1 and 32, the width of the index, got 0"),
    "rerank below": (
        ["--dims", "8", "--rerank", "4"],
        "rerank must lie above dims 8 and not above 32, the width of the index, got 4",
    ),
    "rerank above": (
        ["--dims", "8", "--rerank", "64"],
        "rerank must lie above dims 8 and not above 32, the width of the index, got 64",
    ),
    "all dims, shortlist": (
        ["--dims", "32", "--shortlist", "20"],
        "rerank must lie above dims 32 and not above 32, the width of the index, got 32",
    ),
    "short shortlist": (["--dims", "4", "--shortlist", "9"], "shortlist must be at least k 10, got 9"),
    "no number": (["--dims", "few"], "Invalid value for '--dims'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_one_line_and_exit_code_2(nested, capsys, case):
    words, message = BAD[case]
    code, out, err = search(capsys, nested, "id:7", *words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert message in err
