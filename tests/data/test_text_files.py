"""Texts and pages from files and folders."""

import pytest

from nolabel.data import modality, read


def test_a_text_file_is_a_row_a_line(tmp_path):
    file = tmp_path / "corpus.txt"
    file.write_bytes("\ufefffirst line\n\n  \nzweite Zeile äöü\r\nlast".encode())
    table = read(file)
    assert table["text"][:] == ["first line", "zweite Zeile äöü", "last"]
    assert table["line"][:] == [1, 4, 5]
    assert modality(file) == "text"


def test_bytes_that_are_no_text_are_counted(tmp_path):
    file = tmp_path / "corpus.txt"
    file.write_bytes(b"fine\nbroken \xff\xfe here\nnull \x00 too\n")
    with pytest.warns(UserWarning, match=r"1 lines hold bytes that are no text, read as U\+FFFD; first line 2"):
        table = read(file)
    assert len(table) == 3
    assert table["text"][1].startswith("broken \ufffd")


def test_a_folder_of_texts_is_a_row_a_file(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.txt").write_text("one\ntwo")
    (tmp_path / "b.md").write_text("three")
    (tmp_path / "c.pdf").write_bytes(b"%PDF")
    (tmp_path / ".hidden.txt").write_text("no")
    table = read(tmp_path)
    assert table["path"][:] == ["a/1.txt", "b.md"]
    assert table["text"][:] == ["one\ntwo", "three"]
    assert table["folder"][:] == ["a", ""]


def test_pages_come_in_their_own_encoding(tmp_path):
    (tmp_path / "1.html").write_bytes('<meta charset="koi8-r"><p>да'.encode("koi8-r"))
    (tmp_path / "2.htm").write_bytes("<p>ja ü".encode())
    (tmp_path / "readme.txt").write_text("x")
    with pytest.warns(UserWarning, match="holds pages and texts: took its 2 pages"):
        table = read(tmp_path)
    assert [html[-2:] for html in table["html"]] == ["да", " ü"]
    assert read(tmp_path / "2.htm")["html"][:] == ["<p>ja ü"]


def test_links_that_leave_the_folder_are_not_followed(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    root = tmp_path / "docs"
    root.mkdir()
    (root / "a.txt").write_text("a")
    (root / "b.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.warns(UserWarning, match="left out 1 links"):
        assert read(root)["text"][:] == ["a"]


def test_a_folder_with_neither_says_what_it_found(tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"no images or texts in .*; looked for .* \.txt .*, found 1 \.pdf"):
        read(tmp_path)


def test_an_empty_text_file_has_no_rows(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n")
    with pytest.raises(ValueError, match="no rows in"):
        read(tmp_path / "a.txt")
