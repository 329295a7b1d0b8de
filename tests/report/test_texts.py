"""The report of texts: read where images would be looked at."""

import numpy as np
import pytest

from nolabel.report import ReportContents, write_report
from nolabel.report.words import typical_words

TEXTS = [f"{word} number {i} of the {word} kind" for i in range(30) for word in ("apple", "engine")]
Z = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32) + np.tile([[5.0], [-5.0]], (30, 8)).astype(
    np.float32
)


def texts(rows):
    return [TEXTS[i] for i in rows]


def test_page_shows_texts_words_and_no_pictures(tmp_path):
    html = write_report(tmp_path / "r.html", ReportContents("docs", Z, texts=texts)).read_text()
    assert 'class="wrap words"' in html
    assert "data:image/webp" not in html
    assert "apple number 3 of the apple kind" in html
    assert "Cluster 1: " in html
    assert '"tiles":0' in html
    assert "Zoom in and dots turn into images" not in html


def test_what_a_text_says_stays_text(tmp_path):
    bad = ["<script>alert(1)</script> & <b>bold</b>", *TEXTS[1:]]
    page = ReportContents("docs", Z, texts=lambda rows: [bad[i] for i in rows])
    html = write_report(tmp_path / "r.html", page).read_text()
    assert "<script>alert" not in html
    assert "<b>bold</b>" not in html


def test_long_texts_are_shown_by_their_beginning(tmp_path):
    page = ReportContents("docs", Z, texts=lambda rows: ["word " * 200_000 for _ in rows])
    file = write_report(tmp_path / "r.html", page)
    assert file.stat().st_size < 1_000_000
    assert " …" in file.read_text()


@pytest.mark.parametrize(
    "given", [{}, {"texts": texts, "thumbnails": lambda rows: np.zeros((len(rows), 2, 2, 1), np.uint8)}]
)
def test_either_texts_or_thumbnails(tmp_path, given):
    with pytest.raises(ValueError, match="thumbnails, texts: expected one of the two"):
        write_report(tmp_path / "r.html", ReportContents("docs", Z, **given))


def test_typical_words_tell_clusters_apart():
    found = typical_words(TEXTS, np.tile([0, 1], 30), count=1)
    assert found == {0: ["apple"], 1: ["engine"]}


def test_texts_without_words_have_no_typical_ones():
    assert typical_words(["1 2", "3 4", "5"], np.array([0, 0, 1])) == {0: [], 1: []}
