"""Fields of pages from the command line: learned from known values, tested on what was held out, extracted, shown."""

import csv
import json

import numpy as np
import pytest
from tests.commands import run

from nolabel.cli.app import main

pytest.importorskip("lxml")

WORDS = ("soup", "stew", "bread", "salad", "cake", "pie", "rice", "fish", "egg", "bean")
SMALL = ["--encoder", "bert-1x32", "--set", "vocabulary_size=200", "--set", "max_tokens=128", "--set", "stride=120"]
SMALL += ["--set", "attributes=()", "--epochs", "1", "--label-epochs", "12"]


def recipe(number):
    """A page, its title and its ingredients; the title has a character that HTML gives a meaning."""
    words = np.random.default_rng(number).choice(WORDS, 6)
    title, things = f"{words[0]} & no {number}", [f"{number + i} {word}" for i, word in enumerate(words[1:4])]
    items = "".join(f"<li>{thing}</li>" for thing in things)
    head = f"<div><h2>{title.replace('&', '&amp;')}</h2></div>"
    return f"<body>{head}<ul>{items}</ul><p>Cook {words[4]}.</p><script>alert(1)</script></body>", title, things


RECIPES = [recipe(number) for number in range(40)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A folder of good pages, one that nests a hundred thousand deep, one that is empty, one that is none; a table of values."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "pages").mkdir()
    for number, (html, _, _) in enumerate(RECIPES):
        (folder / "pages" / f"{number:02d}.html").write_text(html, encoding="utf-8")
    (folder / "pages" / "deep.html").write_text("<div>" * 100_000 + "deep <script>hidden()</script>" + "</div>" * 9)
    (folder / "pages" / "empty.html").write_text("<body></body>")
    (folder / "pages" / "none.html").write_text("no page at all")
    with (folder / "values.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "title", "thing", "colour"])
        writer.writerows(
            [f"{i:02d}.html", title, json.dumps(things), "red"] for i, (_, title, things) in enumerate(RECIPES[:20])
        )
    return folder


@pytest.fixture(scope="module")
def done(pages):
    """A finished run, and what it printed."""
    import contextlib
    import io

    out = io.StringIO()
    words = [
        "extract",
        pages / "pages",
        "--fields",
        "title,thing",
        "--values",
        pages / "values.csv",
        "--out",
        pages / "run",
    ]
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as stop:
        main([*map(str, words), *SMALL, "--json"])
    assert stop.value.code == 0
    return pages / "run", json.loads(out.getvalue())


def rows_of(folder):
    with (folder / "fields.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_fields_of_all_pages_from_the_values_of_some(done):
    folder, summary = done
    assert (summary["pages"], summary["skipped"]) == (41, 2)
    assert {line.partition(":")[0] for line in summary["skipped pages"]} == {"empty.html", "none.html"}
    assert summary["values"]["thing"] == {"known": 60, "label a node": 60, "ambiguous": 0, "not on the page": 0}
    assert summary["held out pages"] == 4
    assert "other pages" in summary["tested on"]
    assert summary["scores"]["title"]["F1"] > 0.9
    assert summary["scores"]["thing"]["pages"] == 4
    rows = rows_of(folder)
    found = {(row["page"], row["field"]): row["text"] for row in rows}
    assert np.mean([found.get((f"{i:02d}.html", "title")) == title for i, (_, title, _) in enumerate(RECIPES)]) > 0.9
    assert {row["xpath"] for row in rows if row["field"] == "title" and row["page"] == "25.html"} == {
        "/html[1]/body[1]/div[1]/h2[1]"
    }
    assert len({row["page"] for row in rows if row["held_out"] == "yes"}) == 4
    assert json.loads((folder / "report.json").read_text()) == summary


def test_table_sheet_and_page_say_the_same(done):
    import pyarrow.parquet as pq

    folder, _ = done
    table, rows = pq.read_table(folder / "fields.parquet").to_pylist(), rows_of(folder)
    assert [(one["row"], one["text"]) for one in table] == [(int(row["row"]), row["text"]) for row in rows]
    assert all(0.1 <= one["probability"] <= 1.0 for one in table)
    page = (folder / "extracted.html").read_text(encoding="utf-8")
    assert "&amp; no" in page
    assert "& no" not in page
    assert "<script" not in page
    assert "deep.html" in page or page.count("<article>") == 24


def test_a_model_of_before_extracts_from_new_pages(done, pages, capsys, tmp_path):
    folder, _ = done
    (tmp_path / "new").mkdir()
    for number in range(50, 54):
        (tmp_path / "new" / f"{number}.html").write_text(recipe(number)[0], encoding="utf-8")
    code, out, err = run(capsys, "extract", tmp_path / "new", "--model", folder, "--out", tmp_path / "run", "--json")
    assert code == 0, err
    assert json.loads(out)["extracted"]["title"] == 4
    assert {row["text"] for row in rows_of(tmp_path / "run") if row["field"] == "title"} == {
        recipe(number)[1] for number in range(50, 54)
    }
    code, _, err = run(
        capsys, "extract", tmp_path / "new", "--model", folder, "--out", tmp_path / "other", "--fields", "title"
    )
    assert (code, "--fields is for learning" in err) == (2, True)
    code, _, err = run(capsys, "extract", tmp_path / "new", "--model", folder, "--out", tmp_path / "run")
    assert (code, "holds a finished run" in err) == (2, True)
    code, _, err = run(
        capsys, "extract", tmp_path / "new", "--model", folder / "params.domlm", "--out", tmp_path / "other"
    )
    assert (code, "holds a DomLM; expected a run of `nolabel extract`" in err) == (2, True)


def test_a_table_with_known_values_and_sites(capsys, tmp_path):
    """Sites are held out, values that several nodes hold are counted, and a run of `learn` is what it begins with."""
    rows = [
        {
            "html": html,
            "site": f"site{i % 8}",
            "title": title if i % 8 < 6 else None,
            "thing": things if i % 8 < 6 else None,
        }
        for i, (html, title, things) in enumerate(RECIPES)
    ]
    rows[0]["html"] = rows[0]["html"].replace("<ul>", f"<b>{RECIPES[0][1].replace('&', '&amp;')}</b><ul>")
    source = tmp_path / "recipes.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    settings = [word for word in SMALL if word not in ("--label-epochs", "12")]
    code, _, err = run(capsys, "learn", source, "--method", "dom-lm", "--out", tmp_path / "pages", *settings)
    assert code == 0, err
    words = ["extract", source, "--fields", "title,thing", "--run", tmp_path / "pages", "--label-epochs", "12"]
    code, out, err = run(capsys, *words, "--out", tmp_path / "run", "--json")
    assert code == 0, err
    summary = json.loads(out)
    assert summary["tested on"] == "pages of 1 other sites"
    assert summary["held out pages"] == 5
    assert summary["values"]["title"]["ambiguous"] == 1
    code, _, err = run(capsys, *words, "--out", tmp_path / "other", "--epochs", "2")
    assert (code, "--run brings a model that is learned" in err) == (2, True)


BAD = {
    "no fields": ([], "--fields: name what to extract"),
    "twice": (["--fields", "title,title"], "title is named twice"),
    "unknown field": (
        ["--fields", "price", "--values", "VALUES"],
        "--fields price: VALUES has no such column among path, title",
    ),
    "a folder without values": (["--fields", "title"], "come in a table: --values FILE.csv"),
    "not on the pages": (
        ["--fields", "title,colour", "--values", "VALUES"],
        "--fields colour: none of its 20 known values labels a node: 0 are the text of several nodes or fields, 20 of none",
    ),
    "share": (["--fields", "title", "--held-out", "1.5"], "--held-out must be a share"),
    "threshold": (["--fields", "title", "--threshold", "1"], "--threshold must be a probability"),
    "unknown parameter": (
        ["--fields", "title", "--values", "VALUES", "--set", "colour=1"],
        "dom-lm has no such parameter",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, pages, capsys, tmp_path):
    words, message = BAD[case]
    words = [str(pages / "values.csv") if word == "VALUES" else word for word in words]
    code, _, err = run(capsys, "extract", pages / "pages", *words, "--out", tmp_path / "run")
    assert code == 2
    assert message.replace("VALUES", str(pages / "values.csv")) in err
    assert not (tmp_path / "run").exists()


def test_values_of_other_pages(pages, capsys, tmp_path):
    (tmp_path / "other.csv").write_text("path,title\nnowhere.html,x\n")
    (tmp_path / "unnamed.csv").write_text("title\nx\n")
    (tmp_path / "t.csv").write_text("title\nx\n")
    words = ["extract", pages / "pages", "--fields", "title", "--out", tmp_path / "run", "--values"]
    assert "none of the 1 pages of" in run(capsys, *words, tmp_path / "other.csv")[2]
    assert "needs a column path, page or url" in run(capsys, *words, tmp_path / "unnamed.csv")[2]
    code, _, err = run(capsys, "extract", tmp_path / "t.csv", "--fields", "title", "--out", tmp_path / "run")
    assert (code, "has no column 'html' among title" in err) == (2, True)


def test_pages_are_learned_and_searched(pages, capsys, tmp_path):
    """`learn --method dom-lm`: a row a page in index and report; words find words, pages find pages."""
    for number in range(12):
        (tmp_path / "web").mkdir(exist_ok=True)
        (tmp_path / "web" / f"{number:02d}.html").write_text(RECIPES[number][0], encoding="utf-8")
    (tmp_path / "web" / "empty.html").write_text("<body></body>")
    settings = [word for word in SMALL if word not in ("--label-epochs", "12")]
    code, out, err = run(
        capsys, "learn", tmp_path / "web", "--method", "dom-lm", "--out", tmp_path / "run", *settings, "--json"
    )
    assert code == 0, err
    assert (json.loads(out)["texts"], json.loads(out)["skipped"]) == (12, 1)
    assert (tmp_path / "run" / "report.html").is_file()
    code, out, err = run(capsys, "search", tmp_path / "run", "no 7", "-k", "1", "--json")
    assert code == 0, err
    assert json.loads(out)[0]["path"] == "07.html"
    assert "html" not in json.loads(out)[0]
    for query in (tmp_path / "web" / "05.html", "id:5"):
        for mode in ([], ["--mode", "hybrid"], ["--mode", "bm25"]):
            code, out, err = run(capsys, "search", tmp_path / "run", query, "-k", "1", "--json", *mode)
            assert code == 0, err
            assert json.loads(out)[0]["path"] == "05.html"
    code, _, err = run(capsys, "search", tmp_path / "run", "bean soup", "--mode", "dense")
    assert (code, "is no page: give a file such as page.html" in err) == (2, True)
    code, _, err = run(capsys, "embed", tmp_path / "run", tmp_path / "web", "--out", tmp_path / "z.npy")
    assert code == 0, err
    assert np.load(tmp_path / "z.npy").shape == (12, 32)
    for name, needs in (("attribute-extractor", "html and label"), ("html-qa", "html and question and answer")):
        code, _, err = run(capsys, "learn", tmp_path / "web", "--method", name)
        assert (code, f"it takes {needs}: use nolabel.learn." in err) == (2, True)
