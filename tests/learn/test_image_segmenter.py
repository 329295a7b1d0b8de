"""The plain segmenter."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import nolabel
from nolabel.assess.segmentation import segmentation_scores
from nolabel.data import load, read
from nolabel.learn.image_segmenter import ImageSegmenter
from nolabel.training import Training


def scenes(n, rng, height=18, width=24):
    """Digits pasted on grey ground: what is ink has class 5, the ground class 2, a frame of one pixel counts as void (255)."""
    digits = np.stack(load("digits")["image"])
    images = rng.integers(60, 90, (n, height, width)).astype(np.uint8)
    masks = np.full((n, height, width), 2, np.uint8)
    for row in range(n):
        y, x = rng.integers(1, height - 9), rng.integers(1, width - 9)
        ink = digits[rng.integers(len(digits))]
        images[row, y : y + 8, x : x + 8] += (ink * 0.6).astype(np.uint8)
        masks[row, y : y + 8, x : x + 8][ink > 127] = 5
    masks[:, [0, -1]] = masks[:, :, [0, -1]] = 255
    return images, masks


def small(**changes):
    training = Training(**{"steps": 80, "batch_size": 4, "lr": 5e-3, "random_state": 0, **changes.pop("training", {})})
    return ImageSegmenter((6, 8), ignore=255, training=training, **changes)


@pytest.fixture(scope="module")
def data():
    return scenes(60, np.random.default_rng(0))


@pytest.fixture(scope="module")
def fitted(data):
    return small().fit(data[0][:40], data[1][:40])


def test_it_learns_what_is_ink(fitted, data):
    images, masks = data[0][40:], data[1][40:]
    assert fitted.classes_.tolist() == [2, 5]
    found = fitted.predict(images)
    assert found.shape == masks.shape
    assert set(np.unique(found)) == {2, 5}
    assert fitted.score(images, masks) > 0.75
    assert fitted.score(images, masks) == segmentation_scores(masks, found, ignore=255).mean_iou
    p = fitted.predict_proba(images)
    assert p.shape == (20, 2, 18, 24)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(fitted.classes_[p.argmax(axis=1)], found)
    assert fitted.transform_maps(images).shape == (20, 6, 18, 24)
    assert fitted.transform(images).shape == (20, 6)


def test_the_loss_is_the_mean_over_pixels_that_count():
    model = small()
    model.class_names_ = [2, 5]
    batch = {"image": torch.zeros(2, 1, 4, 4, dtype=torch.uint8), "mask": torch.full((2, 4, 4), 255)}
    batch["mask"][0, 0, :3] = torch.tensor([2, 5, 5])
    net = model.build(batch)
    net.classifier.weight.data.zero_()
    net.classifier.bias.data = torch.tensor([0.0, float(np.log(3))])  # 1/4 and 3/4
    views = model.views(batch, torch.Generator().manual_seed(0))
    assert sorted(views[1].unique().tolist()) == [-1, 0, 1]
    expected = -(np.log(1 / 4) + 2 * np.log(3 / 4)) / 3
    assert model.loss(net, views).item() == pytest.approx(expected, abs=1e-6)
    nothing = model.loss(net, (views[0], torch.full((2, 4, 4), -1)))
    assert nothing.item() == 0
    nothing.backward()  # and no NaN in the gradient
    assert torch.isfinite(net.classifier.bias.grad).all()


def test_tables_saving_and_seeds(fitted, data, tmp_path):
    images, masks = data
    table = read({"photo": images[:40], "truth": masks[:40]})
    again = clone(fitted).fit(table, columns={"image": "photo", "mask": "truth"})
    assert np.array_equal(again.predict(images), fitted.predict(images))
    back = nolabel.load(fitted.save(tmp_path / "run"))
    assert type(back) is ImageSegmenter
    assert np.array_equal(back.predict_proba(images), fitted.predict_proba(images))
    judged = back.judged(read({"image": images, "mask": masks}))
    assert judged.mean_iou == fitted.score(images, masks)
    assert judged.pixels == int((masks != 255).sum())
    assert set(judged.iou) == {2, 5}


def test_other_images_are_brought_to_the_shape_it_learned_on(fitted, data):
    large = np.repeat(np.repeat(data[0][:4], 2, axis=1), 2, axis=2)
    colour = np.repeat(large[..., None], 3, axis=3)
    for images in (large, colour):
        found = fitted.predict(images)
        assert found.shape == (4, 18, 24)
        assert np.mean(found == fitted.predict(data[0][:4])) > 0.97


def test_a_class_it_never_learned_counts_as_wrong(fitted, data):
    images, masks = data[0][:6], data[1][:6].copy()
    before = fitted.judged(images, masks)
    masks[:, 1, 1:] = 9
    after = fitted.judged(images, masks)
    assert after.iou[9] == 0
    assert after.mean_iou < before.mean_iou


def test_bad_input(fitted, data):
    images, masks = data[0][:4], data[1][:4]
    with pytest.raises(ValueError, match=r"mask: at least 2 classes were expected, got \[2\]"):
        small().fit(images, np.full_like(masks, 2))
    with pytest.raises(ValueError, match="y: one mask for each of the 4 images was expected, got 3"):
        small().fit(images, masks[:3])
    with pytest.raises(ValueError, match="y: masks .n, h, w. of whole numbers were expected, got float64"):
        small().fit(images, masks * 0.5)
    with pytest.raises(ValueError, match="no column 'mask'; the columns are image"):
        small().fit(read({"image": images}))
    with pytest.raises(ValueError, match="widths must be at least 2 whole numbers"):
        ImageSegmenter((4,), training=Training(steps=1, batch_size=2)).fit(images, masks)
    with pytest.raises(NotFittedError):
        small().predict(images)
    with pytest.raises(NotFittedError):
        small().score(images, masks)
