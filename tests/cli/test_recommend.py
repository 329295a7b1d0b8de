"""`nolabel recommend` as a person types it."""

import csv
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.csv import write_csv
from tests.commands import run

import nolabel
from nolabel.cli.app import main
from nolabel.training import Training

QUICK = ["--epochs", "15", "--batch-size", "64", "--lr", "0.01"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """60 readers of two tastes, 50 books of two kinds; ratings of 1 are of the wrong kind."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("shop")
    rows = []
    for reader in range(60):
        for kind, number, rating in ((reader % 2, 9, 5), (1 - reader % 2, 3, 1)):
            books = rng.choice(np.flatnonzero(np.arange(50) % 2 == kind), number, replace=False)
            rows += [(reader, f"b{book}", rating, float(rng.random())) for book in books]
    rows.append((0, None, 5, 0.5))
    columns = zip(*[rows[place] for place in rng.permutation(len(rows))])
    log = pa.table(dict(zip(("reader", "book", "rating", "timestamp"), map(list, columns))))
    pq.write_table(log, folder / "log.parquet")
    write_csv(log.select(["reader", "book"]).slice(0, 700), folder / "log.csv")
    books = {
        "book": [f"b{i}" for i in range(50)],
        "title": [f"Book {i}" for i in range(50)],
        "genres": ["crime noir" if i % 2 else "verse" for i in range(50)],
        "shelf": [f"s{i % 2}" for i in range(50)],
    }
    pq.write_table(pa.table(books), folder / "books.parquet")
    readers = {"reader": list(range(60)), "town": [f"t{i % 3}" for i in range(60)]}
    pq.write_table(pa.table(readers), folder / "readers.parquet")
    return folder


def words_of(files, *more):
    tables = ["--users", files / "readers.parquet", "--items", files / "books.parquet"]
    names = ["--column", "user=reader", "--column", "item=book"]
    return [
        "recommend",
        files / "log.parquet",
        *tables,
        *names,
        "--multi",
        "genres",
        "--min-rating",
        "4",
        *QUICK,
        *more,
    ]


@pytest.fixture(scope="module")
def done(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "books"
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words_of(files, "--out", folder, "-k", "5")])
    assert stop.value.code == 0
    return folder


def test_the_run_folder(done):
    names = {path.name for path in done.iterdir()}
    assert names >= {
        *("config.json", "model.safetensors", "metrics.jsonl", "report.json"),
        *("recommendations.parquet", "recommendations.csv", "items.parquet", "recommend.png"),
    }
    assert not any(name.startswith(".") and name != ".lock" for name in names)
    report = json.loads((done / "report.json").read_text())
    assert report["interactions"] == {
        "learned from": 420, "held out": 120, "rated too low": 180, "repeated": 0, "skipped": 1,
    }  # fmt: skip
    assert (report["users"], report["items"], report["verdict"]) == (60, 50, "healthy")
    assert set(report["scores"]) == {"two-tower", "popularity"}
    assert report["scores"]["two-tower"]["recall@5"] > report["scores"]["popularity"]["recall@5"]
    assert sum(group["held out"] for group in report["by popularity"]) == 120


def test_the_recommendations(done, files):
    rows = pq.read_table(done / "recommendations.parquet").to_pylist()
    assert len(rows) == 300
    assert [row["rank"] for row in rows[:5]] == [1, 2, 3, 4, 5]
    log = pq.read_table(files / "log.parquet").to_pylist()
    taken = {(row["reader"], row["book"]) for row in log if row["rating"] >= 4}
    assert not any((row["user"], row["item"]) in taken for row in rows)  # also not what was held out
    right = [int(row["item"][1:]) % 2 == row["user"] % 2 for row in rows]
    assert np.mean(right) > 0.8
    assert all(row["title"] == f"Book {row['item'][1:]}" for row in rows)
    for user in range(60):
        scores = [row["score"] for row in rows if row["user"] == user]
        assert scores == sorted(scores, reverse=True)
    with (done / "recommendations.csv").open(newline="", encoding="utf-8") as file:
        sheet = list(csv.DictReader(file))
    assert [(row["user"], row["item"]) for row in sheet] == [(str(row["user"]), row["item"]) for row in rows]


def test_the_items(done):
    table = pq.read_table(done / "items.parquet")
    model = nolabel.load(done)
    assert table["item"].to_pylist() == [f"b{i}" for i in range(50)]
    np.testing.assert_allclose(np.stack(table["vector"].to_numpy()), model.item_vectors_)
    assert sum(table["interactions"].to_pylist()) == 420


def test_answers_of_a_finished_run(done, capsys):
    code, out, _ = run(capsys, "recommend", "--model", done, "--user", "17", "--user", "18", "-k", "3", "--json")
    assert code == 0
    answered = json.loads(out)["recommendations"]
    assert [one["user"] for one in answered] == [17, 18]
    rows = pq.read_table(done / "recommendations.parquet").to_pylist()
    assert [one["item"] for one in answered[0]["items"]] == [row["item"] for row in rows if row["user"] == 17][:3]
    assert answered[0]["items"][0]["title"].startswith("Book ")
    code, out, _ = run(capsys, "recommend", "--model", done, "--user", "17")
    assert code == 0
    assert "For 17" in out
    assert "Book " in out


def test_ids_alone_popularity_and_no_test(files, capsys, tmp_path):
    names = ["--column", "user=reader", "--column", "item=book"]
    code, out, _ = run(capsys, "recommend", files / "log.csv", *names, *QUICK, "--out", tmp_path / "ids", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["self-supervised items"] is None
    assert report["interactions"]["held out"] > 0  # at random, for there are no times
    assert "title" not in pq.read_table(tmp_path / "ids" / "recommendations.parquet").column_names
    words = ["recommend", files / "log.csv", *names, "-m", "popularity", "--test", "0", "--user", "3", "--json"]
    code, out, _ = run(capsys, *words, "--out", tmp_path / "popular")
    assert code == 0
    report = json.loads(out)
    assert "scores" not in report
    assert report["picture"] is None
    assert report["recommendations"][0]["user"] == 3
    assert nolabel.load(tmp_path / "popular").recommend([3])[0].shape == (1, 10)
    code, out, _ = run(capsys, "recommend", "--model", tmp_path / "popular", "--user", "4", "-k", "2")
    assert code == 0


def test_without_matplotlib(files, capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, err = run(capsys, *words_of(files, "--out", tmp_path / "run", "-m", "popularity", "--json"))
    assert code == 0
    assert "no picture was drawn: the picture needs matplotlib" in err
    assert json.loads(out)["picture"] is None


def test_resume(files, done, capsys, tmp_path, monkeypatch):
    """Cut off while it learns, and again before its tables: in the end the same recommendations."""
    from nolabel.recommend import TwoTowerRecommender

    folder = tmp_path / "run"
    words = words_of(files, "--out", folder, "-k", "5")

    def stop(self, net, clock):
        if clock.step == 20:
            raise KeyboardInterrupt

    resolve = Training.resolve
    with monkeypatch.context() as patch:
        patch.setattr(TwoTowerRecommender, "after_step", stop)
        patch.setattr(
            Training, "resolve", lambda self, recipe: resolve(self, recipe).set_params(checkpoint_seconds=0.0)
        )
        code, _, err = run(capsys, *words)
    assert code == 130
    assert "Go on with: nolabel recommend" in err
    with monkeypatch.context() as patch:
        patch.setattr(
            "nolabel.cli.recommend.write_recommendations", lambda *args: (_ for _ in ()).throw(OSError("full"))
        )
        code, _, err = run(capsys, *words, "--resume")
        assert code == 2
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "holds a finished run" in err
    code, _, err = run(capsys, *words[:-2], "--min-rating", "1", "--resume", "--out", folder)
    assert code == 2
    assert "was begun with other data" in err
    assert run(capsys, *words, "--resume")[0] == 0
    tables = [pq.read_table(path / "recommendations.parquet") for path in (folder, done)]
    assert tables[0].equals(tables[1])
    scores = [json.loads((path / "report.json").read_text())["scores"] for path in (folder, done)]
    assert scores[0] == scores[1]


def test_it_is_listed(capsys):
    code, out, _ = run(capsys, "methods", "--json")
    assert code == 0
    listed = {row["name"]: row for row in json.loads(out)}
    assert listed["two-tower"]["class"] == "nolabel.recommend.TwoTowerRecommender"
    assert listed["two-tower"]["paper"] == "arXiv:2007.12865"
    assert listed["categorical-encoder"]["paper"] == "arXiv:2305.12102"
    assert listed["popularity"]["columns"] == ["user", "item"]


BAD = {
    "neither": (["recommend"], "give either a log"),
    "both": (["recommend", "{files}/log.csv", "--model", "{run}"], "give either a log"),
    "nobody": (["recommend", "--model", "{run}"], "name them with --user ID"),
    "no run": (["recommend", "--model", "{tmp}/no", "--user", "1"], "no run folder at"),
    "unknown user": (
        ["recommend", "--model", "{run}", "--user", "x"],
        "1 of 1 users were not there in training, such as x",
    ),
    "user not in the log": (["{all}", "--user", "999"], "--user: 1 of 1 users are not there, such as 999"),
    "k": (["{all}", "-k", "0"], "-k must be at least 1, got 0"),
    "method": (["{all}", "-m", "als"], "--method must be one of two-tower, popularity, got 'als'"),
    "test": (["{all}", "--test", "1"], "--test is a share of the interactions"),
    "holdout": (["{all}", "--holdout", "first"], "--holdout must be last or random, got 'first'"),
    "ssl": (["{all}", "--ssl", "cmf"], "--ssl must be one of cfm, rfm, spread and none, got 'cmf'"),
    "tail": (["{all}", "--tail", "-1"], "--tail must be at least 0, got -1"),
    "no log": (["recommend", "{tmp}/no.parquet"], "does not exist"),
    "no set": (["recommend", "books"], "no data set 'books'"),
    "no column": (
        ["recommend", "{files}/log.csv"],
        "has no column 'user' among reader, book; name it: --column user=NAME",
    ),
    "column of nothing": (
        ["{all}", "--column", "rating=stars"],
        "--column rating=stars: none of the tables has a column",
    ),
    "multi": (["{all}", "--multi", "colours"], "--multi colours: no table of users or items has such a column"),
    "rating": (["{all}", "--min-rating", "9"], "min_rating=9 leaves no interaction: the highest is 5"),
    "items": (["{all}", "--items", "{tmp}/few.csv"], "ids of the interactions are not in the table of items"),
    "finished": (["{all}", "--out", "{run}"], "holds a finished run"),
    "weight": (["{all}", "--ssl-weight", "-1", "--ssl", "cfm"], "ssl_weight must be at least 0, got -1"),
    "not one of ours": (["recommend", "--model", "{tmp}/other", "--user", "1"], "which recommends nothing"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_line_and_exit_code_2(name, files, done, capsys, tmp_path):
    from nolabel.recommend import CategoricalEncoder

    (tmp_path / "few.csv").write_text("book,genres,shelf\nb1,verse,s1\nb2,crime,s2\n")
    if name == "not one of ours":
        table = {"a": ["x", "y"] * 4, "b": ["p", "q"] * 4}
        CategoricalEncoder(rows=9, training=Training(steps=1, batch_size=4)).fit(table).save(tmp_path / "other")
    words, expected = BAD[name]
    whole = [str(word) for word in words_of(files)]
    filled = []
    for word in words:
        filled += whole if word == "{all}" else [word.format(tmp=tmp_path, files=files, run=done)]
    code, out, err = run(capsys, *filled, *([] if "--out" in filled else ["--out", tmp_path / "out"]))
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line.strip() and not line.startswith("nolabel: warning:")]
    assert len(lines) == 1, err
    assert expected in lines[0]
    assert not (tmp_path / "out" / "report.json").exists()
