"""Corpora of shards from the command line: embedded, assessed, cleaned."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.commands import run

from nolabel.cli.app import main

SHARDS, ROWS = 6, 100


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def corpus(digits, tmp_path_factory):
    """600 digits in six shards: images, labels of which every tenth is wrong; one image a shard is broken."""
    folder = tmp_path_factory.mktemp("digits")
    for shard in range(SHARDS):
        rows = np.arange(ROWS) + ROWS * shard
        cells = [b"broken" if row % ROWS == 7 else png(digits[0][row]) for row in rows]
        labels = np.where(rows % 10 == 0, (digits[1][rows] + 1) % 10, digits[1][rows])
        pq.write_table(pa.table({"id": rows, "image": cells, "label": labels}), folder / f"part-{shard}.parquet")
    return folder


@pytest.fixture(scope="module")
def learned(digits, tmp_path_factory):
    from nolabel.learn import SimCLR
    from nolabel.training import Training

    folder = tmp_path_factory.mktemp("runs") / "digits"
    SimCLR("conv4-x0.5", image_size=16, training=Training(steps=10, batch_size=64)).fit(digits[0], run=folder)
    return folder


@pytest.fixture(scope="module")
def embedded(corpus, learned, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "vectors"
    with pytest.raises(SystemExit) as stop:
        main(["embed", str(learned), str(corpus), "--out", str(out)])
    assert stop.value.code == 0
    return out


def test_embed_a_corpus(corpus, learned, embedded, capsys, tmp_path, digits):
    table = pq.read_table(embedded)
    assert table.column_names == ["id", "label", "vector"]
    assert sorted(table["id"].to_pylist()) == [row for row in range(SHARDS * ROWS) if row % ROWS != 7]
    skipped = (embedded / "_nolabel" / "skipped.csv").read_text().splitlines()
    assert skipped[1:] == [f"part-{shard},7,,not an image of a known format" for shard in range(SHARDS)]
    images = [png(pixels) for pixels in digits[0][: SHARDS * ROWS]]
    pq.write_table(pa.table({"image": images}), tmp_path / "whole.parquet")
    code, _, _ = run(capsys, "embed", learned, tmp_path / "whole.parquet", "--out", tmp_path / "whole.npy")
    assert code == 0
    found = np.stack(table["vector"].to_numpy())
    assert np.allclose(found, np.load(tmp_path / "whole.npy")[table["id"].to_numpy()], atol=1e-5)
    code, out, _ = run(capsys, "embed", learned, corpus, "--out", embedded, "--json")
    assert code == 0, "done already"
    assert json.loads(out)["vectors"] == 594


def test_pages_and_texts_of_which_some_pieces_hold_none(docstrings, capsys, tmp_path):
    from nolabel.learn import Contriever
    from nolabel.training import Training

    Contriever("bert-1x32", training=Training(steps=2, batch_size=16)).fit(docstrings[:60], run=tmp_path / "run")
    (tmp_path / "in").mkdir()
    pages = [f"<html><body><p>{text}</p></body></html>" for text in docstrings[:5]]
    for name, html in (("a", [*pages, ""]), ("b", ["", None, ""])):
        pq.write_table(pa.table({"html": pa.array(html, pa.string())}), tmp_path / "in" / f"{name}.parquet")
    code, out, err = run(capsys, "embed", tmp_path / "run", tmp_path / "in", "--out", tmp_path / "out", "--json")
    assert code == 0, err
    summary = json.loads(out)
    assert (summary["rows"], summary["vectors"], summary["skipped"]) == (9, 5, 4)
    assert pq.read_table(tmp_path / "out")["id"].to_pylist() == [f"a:{row}" for row in range(5)]


def test_assess_a_corpus_as_one_file(embedded, capsys, tmp_path, monkeypatch):
    pq.write_table(pq.read_table(embedded), tmp_path / "all.parquet")
    scores = {}
    for source in (embedded, tmp_path / "all.parquet"):
        code, out, err = run(capsys, "assess", source, "--labels", "label", "--json")
        assert code == 0, err
        scores[source] = json.loads(out)
    assert scores[embedded] == scores[tmp_path / "all.parquet"]
    monkeypatch.setattr("nolabel.cli.assess.SAMPLE", 200)
    code, out, _ = run(capsys, "assess", embedded, "--json")
    drawn, whole = json.loads(out), scores[embedded]
    assert (drawn["rows"], drawn["rows drawn"]) == (594, 200)
    for name in ("RankMe", "RankMe, centred", "alpha-ReQ", "spread, least"):
        assert drawn[name] == pytest.approx(whole[name], rel=1e-4), name
    assert drawn["uniformity"] == pytest.approx(whole["uniformity"], rel=0.1)


@pytest.mark.parametrize("by_run", [True, False])
def test_clean_a_corpus(by_run, corpus, learned, embedded, capsys, tmp_path):
    source = [corpus, "--run", learned] if by_run else [embedded]
    code, out, err = run(capsys, "clean", *source, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    summary = json.loads(out)
    assert summary["judged"] == 594
    assert summary["rows"] == 600 if by_run else 594
    suspects = pq.read_table(tmp_path / "out" / "suspects.parquet")
    assert len(suspects) == summary["suspects"] == summary["wrong labels"] + summary["strangers"]
    assert (np.diff(suspects["loss"].to_numpy()) <= 0).all()
    wrong = suspects["id"].to_numpy() % 10 == 0
    assert wrong[:30].mean() > 0.7
    lines = (tmp_path / "out" / "suspects.csv").read_text().splitlines()
    assert lines[0] == "id,given,suggested,kind,loss,loss_probability,confidence"
    assert len(lines) == len(suspects) + 1
    code, _, err = run(capsys, "clean", *source, "--out", tmp_path / "out")
    assert (code, "holds a finished run" in err) == (2, True)


REFUSED = {
    "an engine without shards": (["embed", "{learned}", "{photos}", "--engine", "ray"], "works on a folder, glob or URL"),
    "no such engine": (["embed", "{learned}", "{corpus}", "--engine", "spark"], "must be one of local, ray"),
    "address without ray": (["assess", "{embedded}", "--address", "127.0.0.1:1"], "it needs --engine ray"),
    "format without shards": (["embed", "{learned}", "{photos}", "--format", "lance"], "--format is of the shards"),
    "a file for a corpus": (["embed", "{learned}", "{corpus}", "--out", "z.npy"], "folder of shards"),
    "format and name": (["embed", "{learned}", "{corpus}", "--out", "z", "--format", "lance"], "ends in .lance"),
    "add": (["embed", "{learned}", "{corpus}", "--add"], "--add is for items that fit into memory"),
    "no such column": (["embed", "{learned}", "{embedded}"], "needs a column 'image'"),
    "column is not there": (["embed", "{learned}", "{corpus}", "--column", "image=photo"], "no column 'photo'"),
    "no such layer": (["embed", "{learned}", "{corpus}", "--layer", "stage9", "--out", "{tmp}/x"], "layer must be one of"),
    "no vectors": (["assess", "{corpus}"], "no column 'vector'"),
    "against": (["assess", "{embedded}", "--against", "{learned}"], "--against compares two run folders"),
    "no run": (["clean", "{corpus}", "--out", "{tmp}/x"], "name a run that makes one by --run"),
    "network": (["clean", "{corpus}", "--run", "{learned}", "--epochs", "3"], "--epochs is of a network"),
    "needless run": (["clean", "{embedded}", "--run", "{learned}", "--out", "{tmp}/x"], "leave --run out"),
    "no label": (["clean", "{embedded}", "--label", "colour", "--out", "{tmp}/x"], "no column 'colour'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_one_line(case, corpus, learned, embedded, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("L", (8, 8)).save(photos / "x.png")
    words, message = REFUSED[case]
    named = {"corpus": corpus, "learned": learned, "embedded": embedded, "photos": photos, "tmp": tmp_path}
    code, _, err = run(capsys, *[word.format(**named) for word in words])
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
