import pytest
from PIL import Image

from nolabel.data.decoding import ENDINGS
from nolabel.data.folders import list_files


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4)).save(path)
    return path


def test_sorted_recursive_and_hidden_files_passed_over(tmp_path):
    for name in ("b/2.png", "b/10.png", "a.JPG", "c/d/e.tif", ".hidden.png", ".folder/x.png", "b/._2.png"):
        put(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "README").write_text("x")
    listing = list_files(tmp_path, ENDINGS)
    assert listing.files == ["a.JPG", "b/10.png", "b/2.png", "c/d/e.tif"]
    assert listing.others == {".txt": 1, "": 1}


def test_a_folder_named_like_an_image_is_a_folder(tmp_path):
    put(tmp_path / "x.jpg" / "inside.png")
    assert list_files(tmp_path, ENDINGS).files == ["x.jpg/inside.png"]


def test_links(tmp_path):
    outside = put(tmp_path / "outside" / "secret.png")
    inside = put(tmp_path / "photos" / "a.png")
    root = tmp_path / "photos"
    (root / "copy.png").symlink_to(inside)
    (root / "leaves.png").symlink_to(outside)
    (root / "leaves").symlink_to(outside.parent)
    (root / "broken.png").symlink_to(root / "nothing.png")
    (root / "loop").symlink_to(root)
    (tmp_path / "photos2").mkdir()
    (root / "sibling.png").symlink_to(put(tmp_path / "photos2" / "b.png"))  # a name that only begins alike
    listing = list_files(root, ENDINGS)
    assert listing.files == ["a.png", "copy.png"]
    assert listing.links == ["broken.png", "leaves", "leaves.png", "sibling.png"]


def test_a_link_to_the_folder_itself_is_followed(tmp_path):
    put(tmp_path / "real" / "a.png")
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    assert list_files(tmp_path / "alias", ENDINGS).files == ["a.png"]


def test_a_sub_folder_that_may_not_be_listed_is_counted(tmp_path, monkeypatch):
    import os

    put(tmp_path / "a.png")
    put(tmp_path / "closed" / "b.png")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = list_files(tmp_path, ENDINGS)
    assert (listing.files, listing.closed) == (["a.png"], ["closed"])


@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"])
def test_endings(tmp_path, ending):
    (tmp_path / f"x{ending}").write_bytes(b"x")
    (tmp_path / f"y{ending.upper()}").write_bytes(b"x")
    assert len(list_files(tmp_path, ENDINGS).files) == 2
