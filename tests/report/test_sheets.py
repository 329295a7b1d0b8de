import numpy as np
import pytest

from nolabel.report.sheets import contact_sheet


def test_images_keep_their_aspect_and_lie_in_rows_of_eight():
    images = np.zeros((9, 10, 20, 1), np.uint8)
    sheet = contact_sheet("", images, ["x"] * 9)
    assert sheet.size == (8 * 102 + 6, 26 + 2 * 117 + 6)
    pixels = np.asarray(sheet)
    column = pixels[32 : 32 + 96, 54].mean(axis=1)
    assert (column[24:72].max(), column[:22].min(), column[74:].min()) == (0, 255, 255)  # 96 x 48, in the middle
    assert pixels[32 + 117 + 48, 54].max() == 0  # the ninth begins a row
    assert pixels[32 + 117 + 48, 54 + 102].min() == 255


def test_a_long_title_is_not_cut_off():
    assert contact_sheet("word " * 40, np.zeros((1, 8, 8, 3), np.uint8), ["1.00"]).width > 1000


@pytest.mark.parametrize(("captions", "marked"), [(["a"], None), (["a", "b"], [True]), ([], [])])
def test_bad_input(captions, marked):
    images = np.zeros((2 if captions else 0, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="expected one for each of"):
        contact_sheet("x", images, captions, marked)
