"""Tars as shards: what is read, what is passed over, what is refused."""

import io
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from nolabel.corpus import open_corpus, webdataset
from nolabel.corpus.reading import count_rows, pieces


def picture(value):
    buffer = io.BytesIO()
    Image.new("L", (8, 8), value).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path, members):
    """Members by name: bytes, or a TarInfo as it is."""
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            if isinstance(content, bytes):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                archive.addfile(content)
    return path


def link(name, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


def rows(path):
    (shard,) = open_corpus(str(path)).shards
    return pa.concat_tables(pieces(shard)).to_pylist()


def test_members_of_one_key_are_a_row(tmp_path):
    path = tar(
        tmp_path / "a.tar",
        {
            "x/1.jpg": picture(1), "x/1.txt": "ein Bär".encode(), "x/1.json": b"{}",
            "x/2.seg.png": picture(2),
            "x/3.txt": b"alone", "x/3.cls": b"7",
        },
    )  # fmt: skip
    found = rows(path)
    assert [row["key"] for row in found] == ["x/1", "x/2", "x/3"]
    assert [row["text"] for row in found] == ["ein Bär", None, "alone"]
    assert found[1]["image"] == picture(2)
    assert found[2]["image"] is None
    assert (found[2]["label"], found[0]["json"]) == ("7", "{}")


def test_names_are_words_and_links_are_passed_over(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    path = tar(
        corpus / "a.tar",
        {
            "../../escaped.txt": b"read, not written",
            "/absolute.txt": b"neither",
            "link.txt": link("link.txt", str(secret)),
            "ok.txt": b"ok",
        },
    )
    assert [(row["key"], row["text"]) for row in rows(path)] == [
        ("../../escaped", "read, not written"),
        ("/absolute", "neither"),
        ("ok", "ok"),
    ]
    assert {file.name for file in tmp_path.rglob("*")} == {"secret.txt", "corpus", "a.tar"}


@pytest.mark.parametrize("ending", webdataset.PICKLES)
def test_pickles_are_refused(tmp_path, ending):
    path = tar(tmp_path / "a.tar", {"1.txt": b"x", f"1.{ending}": pickle.dumps(1)})
    with pytest.raises(ValueError, match=rf"\.{ending} are pickles"):
        rows(path)


def test_a_pickled_array_is_refused(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        rows(tar(tmp_path / "a.tar", {"1.npy": buffer.getvalue()}))


def test_strange_members_are_counted(tmp_path):
    path = tar(tmp_path / "a.tar", {"1.txt": b"x", "1.wav": b"x", "2.wav": b"x"})
    with pytest.warns(UserWarning, match=r"2 that end in \.wav"):
        assert [row["text"] for row in rows(path)] == ["x", None]


def test_a_cut_off_tar_is_said(tmp_path):
    path = tar(tmp_path / "a.tar", {"1.txt": b"x" * 2000, "2.txt": b"x" * 2000})
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match="cannot be read as webdataset"):
        rows(path)


def test_what_is_written_is_read_and_is_the_same_each_time(tmp_path):
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(12, dtype=np.float32)), 3)
    table = pa.table({"id": ["a", "b", "c", "d"], "vector": vectors})
    for name in ("a.tar", "b.tar"):
        webdataset.write(tmp_path / name, iter([table.slice(0, 3), table.slice(3)]))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    found = rows(tmp_path / "a.tar")
    assert [row["vector"] for row in found] == table["vector"].to_pylist()
    assert [row["json"] for row in found] == [f'{{"id": "{name}"}}' for name in "abcd"]
    assert count_rows(open_corpus(str(tmp_path / "a.tar")).shards[0]) == 4
