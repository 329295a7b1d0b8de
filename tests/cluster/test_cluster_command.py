"""`nolabel cluster` as a person types it."""

import csv
import json
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.commands import run

import nolabel
from nolabel.cli.app import main
from nolabel.cli.keyword_files import read_keywords

QUICK = ["--epochs", "40", "--vector-size", "24", "--sample", "0", "--min-docs", "20", "--min-count", "2"]


@pytest.fixture(scope="module")
def files(made, tmp_path_factory):
    """A table whose rows 3 and 7 hold nothing, and the topics as YAML and as JSON."""
    folder = tmp_path_factory.mktemp("documents")
    texts = [*made.texts[:3], None, *made.texts[3:6], " ?! ", *made.texts[6:], "<b>apple</b> & pear"]
    names = [f"d{i:03d}" for i in range(len(texts))]
    pq.write_table(pa.table({"doc_id": names, "body": texts}), folder / "docs.parquet")
    lines = [f"{label}: [{', '.join(words)}]" for label, words in made.keywords.items()]
    (folder / "topics.yaml").write_text("\n".join(lines) + "\n")
    (folder / "topics.json").write_text(json.dumps({**made.keywords, "music": [*made.keywords["music"], "theremin"]}))
    return folder


@pytest.fixture(scope="module")
def sorted_in(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "topics"
    words = ["cluster", files / "docs.parquet", "--keywords", files / "topics.yaml", "--column", "text=body"]
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in [*words, "--out", folder, "--top", "5", *QUICK]])
    assert stop.value.code == 0
    return folder


def test_the_table_has_every_document_with_its_similarities(sorted_in, made):
    table = pq.read_table(sorted_in / "topics.parquet")
    assert table.column_names == [
        *("row", "doc_id", "topic", "similarity"),
        *("similarity to fruit", "similarity to weather", "similarity to music"),
    ]
    assert len(table) == 241
    assert table["row"].to_pylist() == [row for row in range(243) if row not in (3, 7)]
    assert table["doc_id"].to_pylist()[3] == "d004"
    found = np.array(table["topic"].to_pylist(), dtype=object)
    assert (found[:240] == made.truth).mean() > 0.9
    each = np.stack([table[f"similarity to {label}"].to_numpy() for label in made.keywords], axis=1)
    np.testing.assert_allclose(table["similarity"].to_numpy(), each.max(axis=1), atol=1e-6)
    model = nolabel.load(sorted_in)
    np.testing.assert_allclose(each, model.decision_function(), atol=1e-6)


def test_the_best_documents_for_a_spreadsheet(sorted_in, made):
    with (sorted_in / "best_documents.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["topic"] for row in rows] == [label for label in made.keywords for _ in range(5)]
    assert [row["rank"] for row in rows[:5]] == ["1", "2", "3", "4", "5"]
    table = pq.read_table(sorted_in / "topics.parquet").to_pylist()
    fruit = sorted((row for row in table if row["topic"] == "fruit"), key=lambda row: -row["similarity"])
    assert [int(row["row"]) for row in rows[:5]] == [row["row"] for row in fruit[:5]]
    assert rows[0]["doc_id"] == f"d{int(rows[0]['row']):03d}"


class Balanced(HTMLParser):
    """Fails on a tag that is closed out of turn; keeps the text."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "link"):
            self.open.append(tag)
        assert tag != "script"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_shows_sizes_and_documents_and_loads_nothing(sorted_in):
    html = (sorted_in / "topics.html").read_text(encoding="utf-8")
    page = Balanced()
    page.feed(html)
    assert page.open == []
    text = " ".join(" ".join(page.text).split())
    assert "241 documents in 3 topics" in text
    sizes = pq.read_table(sorted_in / "topics.parquet")["topic"].to_pylist()
    for label in ("fruit", "weather", "music"):
        assert f"{sizes.count(label)} · " in text
    assert "d003" in text  # skipped
    assert "no words in it" in text
    assert "<mark>" in html
    assert "http" not in html.replace("http-equiv", "")
    assert "$" not in html


def test_texts_on_the_page_are_escaped():
    from nolabel.report.topics import Topic, TopicDocument, TopicsContents, render

    document = TopicDocument("<i>name", 0.5, "<script>alert('apple')</script> & Apple pie " + "word " * 200)
    topics = [Topic("<b>A", ["apple pie"], ["<u>"], 3, [document]), Topic("B", ["b"], [], 0, [])]
    html = render(TopicsContents("<title>", topics, np.array([[1.0, 0.95], [0.95, 1.0]]), without=2))
    for bad in ("<script>", "<i>name", "<b>A", "<u>"):
        assert bad not in html
    assert "&lt;script&gt;alert(&#x27;<mark>apple</mark>&#x27;)" in html
    assert "<mark>Apple</mark> <mark>pie</mark>" in html
    assert "word word…" in html
    assert "<b>0.95</b>" in html  # hardly differ
    assert "Without a topic" in html


def test_json_answers_with_numbers_and_unknown_keywords(files, capsys, tmp_path):
    words = ["cluster", files / "docs.parquet", "-k", files / "topics.json", "--column", "text=body", "--json"]
    code, out, err = run(capsys, *words, "--out", tmp_path / "run", "--threshold", "0.999", *QUICK)
    assert code == 0
    assert "warning: 1 keywords do not occur min_count=2 times: 'theremin'" in err
    answer = json.loads(out)
    assert answer["skipped"] == 2
    assert answer["documents"] == 241
    assert answer["without a topic"] > 100
    assert sum(topic["documents"] for topic in answer["topics"]) == 241 - answer["without a topic"]
    assert answer["topics"][2]["unknown keywords"] == ["theremin"]
    assert pq.read_table(answer["table"])["topic"].to_pylist().count(None) == answer["without a topic"]
    assert "theremin" in (tmp_path / "run" / "topics.html").read_text()


def test_new_documents_are_sorted_by_a_model(sorted_in, capsys, tmp_path):
    (tmp_path / "new.csv").write_text("id,text\n7,a mango and a fig\n9,the choir and the harp\n")
    before = {path.name: path.stat().st_mtime_ns for path in sorted_in.iterdir()}
    code, _, _ = run(capsys, "cluster", tmp_path / "new.csv", "--model", sorted_in, "--out", tmp_path / "run")
    assert code == 0
    table = pq.read_table(tmp_path / "run" / "topics.parquet").to_pylist()
    assert [(row["id"], row["topic"]) for row in table] == [(7, "fruit"), (9, "music")]
    assert {path.name: path.stat().st_mtime_ns for path in sorted_in.iterdir()} == before
    assert not (tmp_path / "run" / "config.json").exists()


def test_help_and_methods_know_the_verb(capsys):
    code, out, _ = run(capsys, "methods", "--json")
    assert code == 0
    listed = {row["name"]: row for row in json.loads(out)}
    assert listed["lbl2vec"]["class"] == "nolabel.cluster.Lbl2Vec"
    assert listed["lbl2vec"]["paper"] == "arXiv:2210.06023"
    assert listed["lbl2transformervec"]["columns"] == ["text"]


BAD = {
    "neither": (["{files}/docs.parquet"], "give either --keywords FILE"),
    "both": (["{files}/docs.parquet", "-k", "{files}/topics.yaml", "--model", "{tmp}"], "give either --keywords FILE"),
    "no keyword file": (["{files}/docs.parquet", "-k", "{tmp}/no.yaml"], "no file at"),
    "another kind": (["{files}/docs.parquet", "-k", "{tmp}/topics.txt"], "a .yaml or .json file was expected"),
    "broken yaml": (["{files}/docs.parquet", "-k", "{tmp}/broken.yaml"], "broken.yaml: while parsing"),
    "broken json": (["{files}/docs.parquet", "-k", "{tmp}/broken.json"], "broken.json: Expecting"),
    "twice in yaml": (["{files}/docs.parquet", "-k", "{tmp}/twice.yaml"], "the label 'fruit' comes twice"),
    "twice in json": (["{files}/docs.parquet", "-k", "{tmp}/twice.json"], "the label 'fruit' comes twice"),
    "a list": (["{files}/docs.parquet", "-k", "{tmp}/list.yaml"], "holds a list; expected label: [word, word, ...]"),
    "no list of words": (
        ["{good}", "-k", "{tmp}/text.yaml"],
        "a list of keywords was expected for 'fruit', got 'apple'",
    ),
    "a number": (["{good}", "-k", "{tmp}/number.yaml"], "3 of 'fruit' is a int, a text was expected"),
    "yes": (["{good}", "-k", "{tmp}/yes.yaml"], "labels must be texts, got True"),
    "no documents": (["{tmp}/no.parquet", "-k", "{files}/topics.yaml"], "does not exist"),
    "no known set": (["sunflowers", "-k", "{files}/topics.yaml"], "no data set 'sunflowers'"),
    "no column": (["{files}/docs.parquet", "-k", "{files}/topics.yaml"], "no column 'text' among doc_id, body"),
    "numbers": (["{tmp}/numbers.csv", "-k", "{files}/topics.yaml"], "the column of texts holds a int in row 0"),
    "few": (["{tmp}/few.csv", "-k", "{files}/topics.yaml"], "at least min_docs=50 documents were expected, got 2"),
    "nothing": (["{tmp}/empty.csv", "-k", "{files}/topics.yaml"], "at least one document was expected, got none"),
    "unknown": (["{good}", "-k", "{tmp}/unknown.yaml"], "none of 'zzz' of 'nothing' is among"),
    "top of 0": (["{good}", "-k", "{files}/topics.yaml", "--top", "0"], "--top must be at least 1, got 0"),
    "threshold": (["{good}", "--model", "{run}", "--threshold", "2"], "threshold must be a number in [-1, 1], got 2"),
    "no model": (["{good}", "--model", "{tmp}/norun"], "no run folder"),
    "finished": (["{good}", "-k", "{files}/topics.yaml", "--out", "{run}"], "holds a finished run"),
    "epochs": (["{good}", "-k", "{files}/topics.yaml", "--epochs", "0"], "epochs: an integer at least 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_line_and_exit_code_2(name, files, sorted_in, made, capsys, tmp_path):
    written = {
        "topics.txt": "fruit: [apple]", "broken.yaml": "fruit: [apple", "broken.json": "{", "list.yaml": "- apple",
        "twice.yaml": "fruit: [apple]\nfruit: [pear]", "twice.json": '{"fruit": ["apple"], "fruit": ["pear"]}',
        "text.yaml": "fruit: apple", "number.yaml": "fruit: [apple, 3]", "yes.yaml": "yes: [apple]",
        "unknown.yaml": "nothing: [zzz]", "numbers.csv": "text\n1\n2\n", "few.csv": "text\nan apple\na pear\n",
        "empty.csv": "id,text\n1,??\n2,!\n", "good.csv": "text\n" + "\n".join(made.texts),
    }  # fmt: skip
    for file, text in written.items():
        (tmp_path / file).write_text(text)
    words, expected = BAD[name]
    places = {"tmp": tmp_path, "files": files, "run": sorted_in, "good": tmp_path / "good.csv"}
    words = ["cluster", *(word.format(**places) for word in words)]
    code, out, err = run(capsys, *words, *([] if "--out" in words else ["--out", tmp_path / "out"]))
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line.strip() and not line.startswith("nolabel: warning:")]
    assert len(lines) == 1, err
    assert expected in lines[0]
    assert not (tmp_path / "out").exists()


def test_yaml_and_json_say_the_same(files, made):
    assert read_keywords(files / "topics.yaml") == made.keywords
    assert read_keywords(files / "topics.json")["fruit"] == made.keywords["fruit"]
