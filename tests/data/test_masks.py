"""Images with masks: shapes, formats, resizing, what is skipped."""

import numpy as np
import pytest
import torch
from PIL import Image

from nolabel.data import masks as masks_module
from nolabel.data import read
from nolabel.data.masks import classes_of, open_masked


def pair(height, width, value=3):
    """A grey image whose right half is bright, and its mask."""
    image, mask = np.full((height, width), 40, np.uint8), np.zeros((height, width), np.uint8)
    image[:, width // 2 :], mask[:, width // 2 :] = 220, value
    return Image.fromarray(image), Image.fromarray(mask)


def table_of(*pairs):
    return read({"image": [one for one, _ in pairs], "mask": [two for _, two in pairs]})


def test_pixels_and_classes_stay_as_they_are_where_nothing_is_resized():
    rng = np.random.default_rng(0)
    images, masks = (
        rng.integers(0, 256, (5, 12, 20, 3), dtype=np.uint8),
        rng.integers(0, 9, (5, 12, 20), dtype=np.uint8),
    )
    source = open_masked(read({"image": images, "mask": masks}))
    batch = source.batch([4, 1])
    assert torch.equal(batch["image"], torch.from_numpy(images[[4, 1]]).permute(0, 3, 1, 2))
    assert torch.equal(batch["mask"], torch.from_numpy(masks[[4, 1]].astype(np.int64)))
    assert (source.shape, source.channels, source.values) == ((12, 20), 3, list(range(9)))
    alone = open_masked(read({"image": images}), mask=None)
    assert set(alone.batch([0])) == {"image"}
    assert alone.values == []


def test_image_and_mask_are_resized_alike_and_masks_keep_their_numbers():
    source = open_masked(table_of(pair(40, 60), pair(80, 120)), size=(20, 31))
    batch = source.batch([0, 1])
    assert source.values == [0, 3]
    assert batch["image"].shape == (2, 1, 20, 31)
    bright = batch["image"][:, 0] > 130
    disagree = bright != (batch["mask"] == 3)
    assert disagree.float().mean() < 0.04  # at most the one column between the halves
    assert source.sizes.tolist() == [[40, 60], [80, 120]]


@pytest.mark.parametrize(
    ("shapes", "size", "expected"),
    [
        ([(30, 50)] * 3, None, (30, 50)),
        ([(300, 500)] * 3, None, (77, 128)),
        ([(500, 300)] * 3, 64, (64, 38)),
        ([(30, 50)] * 3, (10, 12), (10, 12)),
        ([(30, 60), (60, 120), (64, 128)], None, (60, 120)),
        ([(50, 50)] * 2, 20, (20, 20)),
    ],
)
def test_the_shape_is_that_of_the_data(shapes, size, expected):
    assert open_masked(table_of(*(pair(*shape) for shape in shapes)), size=size).shape == expected


def test_formats_of_masks(tmp_path):
    values = np.array([[0, 1], [2, 200]], np.uint8)
    palette = Image.fromarray(values)
    palette.putpalette(list(range(256)) * 3)
    assert palette.mode == "P"
    assert classes_of(palette).tolist() == values.tolist()
    assert classes_of(Image.fromarray(values.astype(np.uint16) * 100)).tolist() == (values.astype(int) * 100).tolist()
    assert classes_of(Image.fromarray(values).convert("RGB")).tolist() == values.tolist()
    assert classes_of(Image.fromarray(values).convert("LA")).tolist() == values.tolist()
    assert classes_of(Image.fromarray(values > 0)).tolist() == [[0, 1], [1, 1]]
    with pytest.raises(ValueError, match="a mask in colours"):
        classes_of(Image.fromarray(np.eye(3, dtype=np.uint8)[None]))
    with pytest.raises(ValueError, match="from 0 to 40000; expected 0 to 32767"):
        classes_of(Image.fromarray(np.array([[0, 40000]], np.uint16)))
    deep = tmp_path / "deep.png"
    Image.fromarray(np.array([[7, 1000]], np.uint16)).save(deep)
    source = open_masked(read({"image": [Image.fromarray(np.zeros((1, 2), np.uint8))], "mask": [deep]}))
    assert source.values == [7, 1000]


def test_rows_that_cannot_be_used_are_skipped_and_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    image, mask = pair(8, 8)
    other = pair(8, 9)[1]
    mask.save(tmp_path / "good.png")
    other.save(tmp_path / "other.png")
    files = [tmp_path / "good.png", None, tmp_path / "other.png", tmp_path / "broken.png"]
    table = read({"image": [image] * 4, "mask": files})
    with pytest.warns(UserWarning, match="3 of 4 images were skipped, first row 1: mask: no image in this row"):
        source = open_masked(table)
    assert source.rows.tolist() == [0]
    assert [skip.row for skip in source.skipped] == [1, 2, 3]
    assert "a mask of 9 x 8, an image of 8 x 8" in source.skipped[1].reason
    assert "mask: damaged" in source.skipped[2].reason or "mask: " in source.skipped[2].reason
    with pytest.raises(ValueError, match="none of 1 rows can be used: row 0: a mask of 9 x 8"):
        open_masked(read({"image": [image], "mask": [other]}))


def test_large_data_lies_in_a_file(monkeypatch):
    table = table_of(*(pair(10, 12, value) for value in range(1, 6)))
    small = open_masked(table)
    monkeypatch.setattr(masks_module, "IN_MEMORY", 100)
    large = open_masked(table)
    assert isinstance(large._images.base, np.memmap) or isinstance(large._images, np.memmap)
    for name, value in small.batch(range(5)).items():
        assert torch.equal(large.batch(range(5))[name], value)
    assert large.fingerprint == small.fingerprint
    assert large.fingerprint != open_masked(table, size=(5, 6)).fingerprint


def test_bad_arguments():
    table = table_of(pair(8, 8))
    with pytest.raises(ValueError, match="no column 'truth'; the columns are image, mask"):
        open_masked(table, mask="truth")
    with pytest.raises(TypeError, match="'mask' holds int64"):
        open_masked(read({"image": [pair(8, 8)[0]], "mask": [3]}))
    for size in (0, True, (4,), (4, 0), 2.5):
        with pytest.raises(ValueError, match="size: expected"):
            open_masked(table, size=size)
    with pytest.raises(ValueError, match="channels: expected 1, 3 or None, got 2"):
        open_masked(table, channels=2)
    with pytest.raises(ValueError, match="positions from 0 to 0, got 1 to 1"):
        open_masked(table).batch([1])
