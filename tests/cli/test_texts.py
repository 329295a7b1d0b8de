"""Texts from the command line: learned, searched in every way, embedded, exported."""

import html
import json

import numpy as np
import pytest
from tests.commands import run


@pytest.fixture(scope="module")
def docs(docstrings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    (folder / "docs.txt").write_text("\n".join([*docstrings[:200], "   "]), encoding="utf-8")
    pairs = [
        json.dumps({"query": " ".join(t.split()[:4]), "passage": " ".join(t.split()[4:])}) for t in docstrings[:60]
    ]
    (folder / "pairs.jsonl").write_text("\n".join(pairs), encoding="utf-8")
    return folder


SMALL = ["--epochs", "1", "--batch-size", "16"]
METHODS = {
    "contriever": ("docs.txt", ["--encoder", "bert-1x32", "--set", "vocabulary_size=600"], {"dense", "bm25", "hybrid"}),
    "binary-paragraph-vector": (
        "docs.txt",
        ["--set", "bits=16", "--set", "min_count=1", "--set", "on_empty=zero"],
        {"binary", "bm25", "hybrid"},
    ),
    "vdr": ("pairs.jsonl", ["--encoder", "bert-1x32", "--set", "vocabulary_size=600"], {"sparse", "bm25", "hybrid"}),
}


@pytest.mark.parametrize("method", METHODS)
def test_learn_then_search_in_every_mode(method, docs, docstrings, capsys, tmp_path):
    source, options, modes = METHODS[method]
    code, out, err = run(
        capsys, "learn", docs / source, "--method", method, "--out", tmp_path / "run", *SMALL, *options, "--json"
    )
    assert code == 0, err
    assert json.loads(out)["texts"] >= 50
    assert (tmp_path / "run" / "report.html").is_file()
    wanted = " ".join(docstrings[7].split()[4:16])
    for mode in modes:
        code, out, err = run(capsys, "search", tmp_path / "run", wanted, "--mode", mode, "-k", "3", "--json")
        assert code == 0, err
        hits = json.loads(out)
        assert len(hits) == 3
        assert all(hit["text"] for hit in hits)
        if mode in ("bm25", "sparse"):
            assert hits[0]["matched"]
    code, out, err = run(capsys, "search", tmp_path / "run", wanted)
    assert "id:" in out
    other = ({"dense", "binary", "sparse"} - modes).pop()
    code, _, err = run(capsys, "search", tmp_path / "run", wanted, "--mode", other)
    assert code == 2
    assert "this run can be searched by" in err


def test_pages_are_learned_by_their_text(docstrings, capsys, tmp_path):
    (tmp_path / "pages").mkdir()
    for number, text in enumerate(docstrings[:40]):
        page = f"<title>x</title><script>hidden()</script><body><p>{html.escape(text)}</p>"
        (tmp_path / "pages" / f"{number:02d}.html").write_text(page, encoding="utf-8")
    (tmp_path / "pages" / "empty.html").write_text("<body></body>")
    options = ["--encoder", "bert-1x32", "--set", "vocabulary_size=600", "--set", "joined=False"]
    code, out, err = run(capsys, "learn", tmp_path / "pages", "--out", tmp_path / "run", *SMALL, *options, "--json")
    assert code == 0, err
    assert (json.loads(out)["texts"], json.loads(out)["skipped"]) == (40, 1)
    wanted = docstrings[5]
    code, out, err = run(capsys, "search", tmp_path / "run", wanted, "--mode", "bm25", "-k", "1", "--json")
    assert code == 0, err
    assert json.loads(out)[0]["path"] == "05.html"
    assert "hidden" not in json.loads(out)[0]["text"]


def test_embed_texts(docs, capsys, tmp_path):
    options = ["--encoder", "bert-1x32", "--set", "vocabulary_size=600"]
    run(capsys, "learn", docs / "docs.txt", "--out", tmp_path / "run", *SMALL, *options)  # Contriever by default
    code, _, err = run(capsys, "embed", tmp_path / "run", docs / "docs.txt", "--out", tmp_path / "z.npy", "--json")
    assert code == 0, err
    assert np.load(tmp_path / "z.npy").shape == (200, 32)
    code, _, err = run(
        capsys, "embed", tmp_path / "run", docs / "docs.txt", "--layer", "stage3", "--out", tmp_path / "y.npy"
    )
    assert (code, "--layer is for encoders of images" in err) == (2, True)
    library = pytest.importorskip("sentence_transformers")
    code, out, err = run(capsys, "export", tmp_path / "run", "--to", "sentence-transformers", "--json")
    assert code == 0, err
    text = (docs / "docs.txt").read_text().splitlines()[3]
    theirs = library.SentenceTransformer(json.loads(out)["folder"], device="cpu").encode([text])
    z = np.load(tmp_path / "z.npy")[3:4]  # perhaps in bfloat16
    assert float((theirs * z).sum()) > 0.999
    code, _, err = run(capsys, "export", tmp_path / "run", "--to", "gguf")
    assert (code, "to must be one of hf" in err) == (2, True)
    code, _, err = run(capsys, "search", tmp_path / "run", "  ")
    assert (code, "expected words to search by" in err) == (2, True)
    code, _, err = run(capsys, "search", tmp_path / "run", "a list", "--picture", tmp_path / "p.png")
    assert (code, "--picture is for images" in err) == (2, True)


def test_demo_on_docstrings(capsys, tmp_path, monkeypatch):
    from nolabel.cli import demo
    from nolabel.data import load

    few = load("docstrings", module="builtins")
    monkeypatch.setattr("nolabel.data.load", lambda name: few)
    monkeypatch.setattr(demo, "TEXT_EPOCHS", 1)
    code, out, err = run(capsys, "demo", "docs", "--out", tmp_path / "run", "--json")
    assert code == 0, err
    answers = json.loads(out)["answers"]
    assert set(answers) == {"dense", "bm25", "hybrid"}
    assert answers["bm25"][0] in ("list.sort", "sorted")
    assert (tmp_path / "run" / "report.html").is_file()
    code, out, _ = run(capsys, "demo", "docs", "--out", tmp_path / "other")
    assert code == 0
    assert "Asked: sort a list without changing it" in out
    code, _, err = run(capsys, "demo", "cats")
    assert (code, "expected digits or docs, got 'cats'" in err) == (2, True)
