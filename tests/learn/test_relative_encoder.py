"""Relative representations, and heads that answer for encoders they never saw."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from nolabel.data import load
from nolabel.encoders.relative import RelativeProjection
from nolabel.learn import RawPixels, RelativeEncoder, stitch
from nolabel.ops.relative import relative

rng = np.random.default_rng(0)
Y = np.arange(300) % 3
Z = rng.normal(size=(300, 8)) + 4 * np.eye(8)[Y]
TURNED = 3 * Z @ np.linalg.qr(rng.normal(size=(8, 8)))[0]


@pytest.mark.parametrize("anchors", ["uniform", "kmeans", "farthest", [5, 3, 80, 41, 7, 200]])
def test_twins_agree_and_a_head_is_stitched(anchors):
    first = RelativeEncoder(n_anchors=12, anchors=anchors, norm="layer").fit(Z)
    second = first.twin(None, TURNED)
    assert second.anchor_rows_.tolist() == first.anchor_rows_.tolist()
    np.testing.assert_allclose(second.transform(TURNED), first.transform(Z), atol=1e-4)
    head = LogisticRegression(max_iter=500).fit(first.transform(Z), Y)
    assert stitch(second, head).score(TURNED, Y) == head.score(first.transform(Z), Y)
    plain = LogisticRegression(max_iter=500).fit(Z, Y)
    assert plain.score(TURNED, Y) < 0.7 < head.score(first.transform(Z), Y)


def test_an_encoder_is_asked_for_vectors(tmp_path):
    digits = load("digits").select(range(60))
    pixels = RawPixels(image_size=8).fit(digits)
    told = RelativeEncoder(pixels, n_anchors=10).fit(digits)
    vectors = pixels.transform(digits)
    np.testing.assert_allclose(told.transform(digits), RelativeEncoder(n_anchors=10).fit(vectors).transform(vectors))
    told.save(tmp_path / "told")
    again = RelativeEncoder.load(tmp_path / "told")
    assert np.array_equal(again.transform(digits), told.transform(digits))
    assert np.array_equal(clone(told).fit(digits).anchors_, told.anchors_)  # a fitted encoder stays fitted


def test_the_layer_is_the_same_function():
    import torch

    z = torch.from_numpy(Z)
    layer = RelativeProjection(similarity="inner", norm="l2", subspaces=2, bin_width=0.5)
    expected = relative(z, z[:4], similarity="inner", norm="l2", subspaces=2, bin_width=0.5)
    assert torch.equal(layer(z, z[:4]), expected)


def test_bad_input():
    for message, model in (
        ("n_anchors", RelativeEncoder(n_anchors=301)),
        ("anchors must lie in 0 to 299, got 300", RelativeEncoder(anchors=[300])),
        ("anchors: row 2 comes twice", RelativeEncoder(anchors=[2, 2])),
        ("uniform, kmeans, farthest or row numbers", RelativeEncoder(n_anchors=3, anchors="first")),
        ("similarity is one of", RelativeEncoder(n_anchors=3, similarity="angle")),
        ("at most as many anchors as coordinates", RelativeEncoder(n_anchors=9, similarity="basis")),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(Z)
    told = RelativeEncoder(n_anchors=5).fit(Z)
    with pytest.raises(ValueError, match=r"\(300, 7\) and \(5, 8\)"):
        told.transform(Z[:, :7])
    head = LogisticRegression().fit(Z[:, :4], Y)
    with pytest.raises(ValueError, match="head was fitted on 4 similarities, and relative gives 5"):
        stitch(told, head)
    with pytest.raises(ValueError, match="not fitted"):
        RelativeEncoder().transform(Z)
