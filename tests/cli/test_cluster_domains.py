"""`nolabel cluster --domains` as a person types it."""

import csv
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.commands import run

from nolabel.cli.app import main
from nolabel.training import load

WORDS = [["goal", "match", "team", "cup"], ["vote", "law", "party", "court"]]
SHARES = [0.1, 0.5, 0.9]  # of the second topic in each paper


def rows(each=300):
    rng = np.random.default_rng(0)
    for paper, share in enumerate(SHARES):
        for _ in range(each):
            topic = int(rng.random() < share)
            yield {"id": f"p{paper}", "body": " ".join(rng.choice(WORDS[topic], 5)), "paper": f"paper {paper}",
                   "topic": ["sport", "politics"][topic]}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Texts of three papers, of which row 4 has no paper and row 7 no words; vectors in columns of numbers; images."""
    folder = tmp_path_factory.mktemp("papers")
    table = list(rows())
    table[4] = table[4] | {"paper": None}
    table[7] = table[7] | {"body": " "}
    pq.write_table(pa.Table.from_pylist(table), folder / "texts.parquet")
    rng = np.random.default_rng(1)
    domain = np.repeat([0, 1], 60)
    kind = rng.random(120) < np.where(domain, 0.85, 0.15)
    with (folder / "numbers.csv").open("w", newline="") as file:
        lines = [(6.0 * k + rng.normal(), rng.normal(), d) for k, d in zip(kind, domain)]
        csv.writer(file).writerows([("length", "width", "site"), *lines])
    (folder / "one.csv").write_text("length,site\n1.0,a\n2.0,a\n3.0,b\n")
    (folder / "alone.csv").write_text("length,site\n1.0,a\n2.0,a\n3.0,a\n")
    (folder / "hole.csv").write_text("length,site\n1.0,a\n,a\n3.0,b\n4.0,b\n")
    (folder / "names.csv").write_text("name,site\nx,a\ny,a\nz,b\nw,b\n")
    for d, k, i in zip(domain, kind, range(120)):
        (folder / "photos" / f"camera {d}").mkdir(parents=True, exist_ok=True)
        pixels = np.clip(rng.normal(200 if k else 50, 10, (12, 12, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"camera {d}" / f"{i:03d}.png")
    (folder / "photos" / "camera 0" / "broken.png").write_bytes(b"not a picture")
    return folder


@pytest.fixture(scope="module")
def found(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "clusters"
    words = ["cluster", files / "texts.parquet", "--domains", "paper", "--classes", 2, "--column", "text=body"]
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in [*words, "--label", "topic", "--epochs", 6, "--out", folder, "--json"]])
    assert stop.value.code == 0
    return folder


def test_every_row_with_a_domain_and_words_has_a_cluster(found):
    table = pq.read_table(found / "clusters.parquet")
    assert table.column_names == ["row", "id", "domain", "cluster", "probability", "p0", "p1"]
    assert table["row"].to_pylist() == [row for row in range(900) if row not in (4, 7)]
    p = np.stack([table["p0"], table["p1"]], axis=1)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert table["cluster"].to_pylist() == p.argmax(axis=1).tolist()
    np.testing.assert_allclose(table["probability"], p.max(axis=1))
    lines = list(csv.DictReader((found / "clusters.csv").open()))
    assert len(lines) == 898
    assert list(lines[0]) == ["row", "id", "domain", "cluster", "probability"]


def test_what_it_says_of_clusters_mixes_and_true_classes(found):
    said = json.loads((found / "report.json").read_text())
    assert (said["rows"], said["without domain"], said["skipped"], said["domains"]) == (898, 1, 1, 3)
    assert said["scores"]["accuracy"] > 0.9
    assert {frozenset(one["words"]) for one in said["clusters"]} == {frozenset(words) for words in WORDS}
    assert sum(one["rows"] for one in said["clusters"]) == 898
    mixes = np.array(list(said["class mix"].values()))
    politics = next(i for i, one in enumerate(said["clusters"]) if "law" in one["words"])
    np.testing.assert_allclose(mixes[:, politics], SHARES, atol=0.12)
    assert said["diagnosis"]["gain"] > 0.1
    written = list(csv.reader((found / "class_mix.csv").open()))
    assert written[0] == ["domain", "cluster 0", "cluster 1"]
    assert [line[0] for line in written[1:]] == ["paper 0", "paper 1", "paper 2"]
    assert not list(found.rglob("*.partial*"))
    assert Image.open(found / "class_mix.png").size[0] > 300


def test_new_rows_are_told_by_a_model_with_and_without_their_domain(found, capsys, tmp_path):
    table = {"text": ["goal match cup", "law court party"] * 2, "paper": ["paper 0", "paper 2", "paper 2", "paper 0"]}
    pq.write_table(pa.table(table), tmp_path / "new.parquet")
    model = load(found)
    for extra, domain in ((["--domains", "paper"], "paper"), ([], None)):
        folder = tmp_path / f"run{len(extra)}"
        code, _, _ = run(capsys, "cluster", tmp_path / "new.parquet", "--model", found, "--out", folder, *extra)
        assert code == 0
        told = pq.read_table(folder / "clusters.parquet")
        expected = model.predict_proba(table, domain)
        np.testing.assert_allclose(np.stack([told["p0"], told["p1"]], axis=1), expected, atol=1e-6)


def test_numbers_in_columns_and_the_picture_left_out_without_matplotlib(files, capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = [
        "cluster",
        files / "numbers.csv",
        "--domains",
        "site",
        "--classes",
        2,
        "--epochs",
        8,
        "--out",
        tmp_path / "run",
    ]
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "left out: class_mix.png: the picture needs matplotlib" in out
    assert not (tmp_path / "run" / "class_mix.png").exists()
    assert "120 rows in 2 clusters" in out
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "holds a finished run: choose another folder, delete it, or go on with --resume" in err


def test_images_of_a_folder_a_camera(files, capsys, tmp_path):
    words = [
        "cluster",
        files / "photos",
        "--domains",
        "folder",
        "--classes",
        2,
        "--encoder",
        "conv4-x0.25",
        "--epochs",
        4,
    ]
    code, out, _ = run(capsys, *words, "--top", 3, "--out", tmp_path / "run", "--json")
    assert code == 0
    said = json.loads(out)
    assert (said["rows"], said["skipped"]) == (120, 1)
    assert set(said["class mix"]) == {"camera 0", "camera 1"}
    assert {"cluster 0", "cluster 1"} <= set(said["pictures"])
    for path in said["pictures"].values():
        assert min(Image.open(path).size) > 60


def test_a_run_cut_off_before_its_tables_is_completed(found, files, capsys, tmp_path):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(found, folder)
    (folder / "report.json").unlink()
    (folder / "clusters.csv").unlink()
    words = ["cluster", files / "texts.parquet", "--domains", "paper", "--classes", 2, "--column", "text=body"]
    code, _, _ = run(capsys, *words, "--out", folder, "--resume")
    assert code == 0
    assert (folder / "clusters.csv").read_text() == (found / "clusters.csv").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("texts.parquet --domains shop --classes 2", "has no column 'shop' among"),
        ("texts.parquet --domains paper --column text=body", "--classes says how many classes there are"),
        ("one.csv --domains site --classes 2", "domain: 'b' has 1 row, at least 2 of each domain were expected"),
        ("alone.csv --domains site --classes 2", "need at least n_classes domains: got 1, 2"),
        ("numbers.csv --domains site --classes 3", "need at least n_classes domains: got 2, 3"),
        ("hole.csv --domains site --classes 2", "the column 'length' has missing values"),
        ("names.csv --domains site --classes 2", "has no column image, vector or text, and none of numbers"),
        (
            "numbers.csv --domains site --classes 2 --encoder conv4",
            "--encoder with --domains is the network for images",
        ),
        ("numbers.csv --domains site --classes 2 --min-docs 3", "--min-docs is for topics of keywords"),
        ("numbers.csv --domains site --classes 2 --set solvr=nmf", "did you mean solver"),
        ("numbers.csv --domains site --classes 2 --label kind", "has no column 'kind'"),
        ("numbers.csv --classes 2", "--classes is for --domains COLUMN, which is not given"),
        ("numbers.csv --model RUN --classes 2", "--classes is not for --model, which has learned"),
        ("numbers.csv --domains site --top 0 --classes 2", "--top must be at least 1, got 0"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(words, message, files, found, capsys, tmp_path):
    name, *options = words.split()
    given = [found if word == "RUN" else word for word in options]
    code, out, err = run(capsys, "cluster", files / name, *given, "--out", tmp_path / "run")
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line.strip() and not line.startswith("nolabel: warning:")]
    assert len(lines) == 1, err
    assert message in lines[0]
    assert not (tmp_path / "run" / "report.json").exists()
