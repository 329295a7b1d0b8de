import pytest

from nolabel.data.encodings import decoded


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("é".encode(), ("é", "utf-8")),
        (b"\xef\xbb\xbf\xc3\xa9", ("é", "utf-8")),
        ("<p>é".encode("utf-16"), ("<p>é", "utf-16-le")),
        (b"\xfe\xff" + "<p>é".encode("utf-16-be"), ("<p>é", "utf-16-be")),
        (b"caf\xe9 \x80", ("café €", "cp1252")),
        ("naïve crème brûlée".encode() + b"\xff", ("naïve crème brûlée\ufffd", "utf-8")),
        (
            b'<META CONTENT="text/html; charset=ISO-8859-1">\x93',
            ('<META CONTENT="text/html; charset=ISO-8859-1">“', "cp1252"),
        ),
        (b"<meta charset=shift_jis>\x82\xa0", ("<meta charset=shift_jis>あ", "shift_jis")),
        (b"<?xml version='1.0' encoding='koi8-r'?>\xc4", ("<?xml version='1.0' encoding='koi8-r'?>д", "koi8-r")),
        (b"<meta charset=utf-16>\xc3\xa9", ("<meta charset=utf-16>é", "utf-8")),
        (b"<meta charset=utf-8>\xe9", ("<meta charset=utf-8>\ufffd", "utf-8")),
        (b"", ("", "utf-8")),
    ],
)
def test_which_encoding_is_taken(data, expected):
    assert decoded(data) == expected


@pytest.mark.parametrize("name", ["klingon", "base64", "x" * 100])
def test_a_declaration_of_no_text_encoding_is_passed_over(name):
    assert decoded(f"<meta charset={name}>é".encode())[1] == "utf-8"


def test_a_declaration_far_down_is_not_looked_for():
    assert decoded(b" " * 3000 + b"<meta charset=koi8-r>\xc4\xc1")[1] == "cp1252"


def test_an_encoding_known_from_outside_comes_before_the_declared_one():
    data = b"<meta charset=utf-8>\xc4"
    assert decoded(data, "KOI8-R") == ("<meta charset=utf-8>д", "koi8-r")
    assert decoded(b"\xef\xbb\xbf\xc3\xa9", "koi8-r") == ("é", "utf-8")  # but after a byte-order mark
    with pytest.raises(ValueError, match="encoding: expected the name of a text encoding, got 'klingon'"):
        decoded(data, "klingon")
