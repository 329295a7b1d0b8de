"""Concepts of networks: both steps, on a network whose answers are known and on one that learned digits."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

from nolabel.data import load
from nolabel.explain import ConceptExplainer
from nolabel.explain.attribution import ATTRIBUTIONS
from nolabel.explain.concepts import BATCH
from nolabel.explain.patches import crops
from nolabel.explain.splitting import split_model
from nolabel.learn import ImageClassifier
from nolabel.training import Training

WEIGHTS = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, -1.0]])
PARTS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])
#: Activations (n, 3) of two parts, in the place of images.
MIXED = torch.cat([torch.eye(2), torch.rand(38, 2, generator=torch.Generator().manual_seed(0))]) @ PARTS


def same(x):
    return x


def head(a):
    return (a.mean((2, 3)) if a.ndim == 4 else a) @ WEIGHTS.T + 5.0


def maps(n=12):
    """The same two parts, each at some places of a map (n, 3, 4, 4)."""
    generator = torch.Generator().manual_seed(1)
    kept = torch.rand(n, 4, 4, 2, generator=generator) * (torch.rand(n, 4, 4, 2, generator=generator) < 0.5)
    return (kept @ PARTS).movedim(-1, 1).contiguous()


@pytest.fixture(scope="module")
def digits():
    table = load("digits").select(range(500))
    training = Training(epochs=5, batch_size=64, random_state=0)
    classifier = ImageClassifier("conv4-growing-x0.5", training=training).fit(table)
    images = classifier.open_one(table, None).batch(np.arange(500))["image"]
    told = classifier.predict(table)
    return classifier, images, told, np.asarray(table["label"])


def test_parts_are_found_and_activations_come_back():
    explainer = ConceptExplainer(same, head, n_concepts=2).fit(MIXED)
    order = np.argsort(-explainer.concepts_[:, 0])
    np.testing.assert_allclose(explainer.concepts_[order], PARTS, atol=0.1)
    u = explainer.transform(MIXED)
    np.testing.assert_allclose(explainer.inverse_transform(u), MIXED, atol=2e-2)
    assert np.array_equal(explainer.fit_transform(MIXED), u)


def test_the_last_layer_has_one_answer_in_closed_form():
    for method in ("nmf", "kmeans", "pca", "svd", "sparse"):
        explainer = ConceptExplainer(same, head, n_concepts=2, method=method).fit(MIXED)
        u = explainer.transform(MIXED)
        expected = u * (explainer.concepts_ @ WEIGHTS[1].numpy())
        for way in ("gradient_input", "integrated_gradients", "occlusion"):
            np.testing.assert_allclose(explainer.importance(MIXED, 1, way, None), expected, atol=1e-5)
        np.testing.assert_allclose(explainer.importance(MIXED, 1), expected.mean(axis=0), atol=1e-5)


def test_importances_of_places_add_up():
    X = maps()
    explainer = ConceptExplainer(same, head, n_concepts=2).fit(X)
    u = explainer.transform(X)
    assert u.shape == (12, 4, 4, 2)
    np.testing.assert_allclose(explainer.inverse_transform(u), X, atol=2e-2)
    expected = u.mean(axis=(1, 2)) * (explainer.concepts_ @ WEIGHTS[0].numpy())
    np.testing.assert_allclose(explainer.importance(X, 0, reduce=None), expected, atol=1e-5)
    np.testing.assert_allclose(explainer.importance(X, 0, "occlusion", None), expected, atol=1e-5)
    peak = np.abs(u * (explainer.concepts_ @ WEIGHTS[0].numpy()) / 16).max(axis=(1, 2)).mean(axis=0)
    np.testing.assert_allclose(explainer.importance(X, 0, reduce="peak"), peak, atol=1e-5)


def test_the_unit_of_a_concept_changes_saliency_but_not_gradient_times_input():
    explainer = ConceptExplainer(same, head, n_concepts=2, method="kmeans").fit(MIXED)
    before = explainer.importance(MIXED, 0), explainer.importance(MIXED, 0, "saliency")
    half = explainer.dictionary_.concepts / 2
    f = explainer.output(0)
    u = torch.from_numpy(explainer.transform(MIXED))
    doubled = 2 * u
    np.testing.assert_allclose(doubled.numpy() @ half, u.numpy() @ explainer.concepts_, atol=1e-6)

    def rescaled(v):
        return f(v / 2)

    np.testing.assert_allclose(ATTRIBUTIONS["gradient_input"](rescaled, doubled).mean(0), before[0], atol=1e-5)
    np.testing.assert_allclose(ATTRIBUTIONS["saliency"](rescaled, doubled).mean(0), before[1] / 2, atol=1e-5)


def test_batches_make_no_difference():
    X = MIXED.repeat(BATCH // 10, 1)
    explainer = ConceptExplainer(same, head, n_concepts=2).fit(MIXED)
    np.testing.assert_allclose(explainer.transform(X)[:40], explainer.transform(MIXED), atol=1e-3)
    seen = []
    explainer.importance(X, 0, progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (len(X), len(X))
    assert len(seen) == -(-len(X) // BATCH)


def test_crops_and_pooled_maps():
    images = torch.arange(2 * 100.0).view(2, 1, 10, 10)
    cut = crops(images, 5)  # at 0 and 4, of either axis
    assert cut.shape == (8, 1, 10, 10)
    assert cut[3].mean() == images[0, 0, 4:9, 4:9].mean()
    assert crops(images.to(torch.uint8), 10).equal(images.to(torch.uint8))

    def encode(x):
        return torch.cat([x, 1 - x], 1)[:, :, ::2, ::2]

    seen = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    explainer = ConceptExplainer(encode, n_concepts=2, spatial="crops", patch_size=4).fit(seen)
    assert len(explainer.rows(seen)) == 6 * 4
    np.testing.assert_allclose(explainer.rows(seen), encode(crops(seen, 4)).mean((2, 3)), atol=1e-6)
    assert explainer.transform(seen).shape == (6, 4, 4, 2)
    pooled = ConceptExplainer(same, head, n_concepts=2, spatial="pooled").fit(maps())
    expected = pooled.transform(maps()) * (pooled.concepts_ @ WEIGHTS[0].numpy())
    np.testing.assert_allclose(pooled.importance(maps(), 0, reduce=None), expected, atol=1e-5)


def test_concepts_of_a_classifier_of_digits(digits):
    classifier, images, told, truth = digits
    own = images[told == 3]
    explainer = ConceptExplainer(*split_model(classifier), n_concepts=4).fit(own)
    found = explainer.importance_metrics(own, 3, ("gradient_input", "occlusion", "saliency", "random"))
    assert found["gradient_input"]["deletion"] == pytest.approx(found["occlusion"]["deletion"], rel=1e-3)
    assert found["gradient_input"]["deletion"] < found["random"]["deletion"]
    assert found["gradient_input"]["insertion"] > found["random"]["insertion"]
    assert found["gradient_input"]["fidelity"] > 0.99
    assert explainer.heatmaps(own).shape == (len(own), 2, 2, 4)
    graph = explainer.strategy_graph(own, 3, truth[told == 3], clusters=2)
    known = ~np.isnan(graph.reliability)
    assert graph.prevalence.sum() == pytest.approx(1.0)
    right = (graph.prevalence * np.where(known, graph.reliability, 0)).sum()
    assert right == pytest.approx((truth[told == 3] == 3).mean())
    row, y, x, value = explainer.examples(own, top=3)[0][0]
    assert value == explainer.transform(own)[..., 0].max() == explainer.transform(own)[row, y, x, 0]


def test_measures_on_images_that_fit_has_not_seen(digits):
    classifier, images, told, _ = digits
    own = images[told == 1]
    encode, _ = split_model(classifier)
    found = {
        method: ConceptExplainer(encode, n_concepts=4, method=method).fit(own[::2]).extraction_metrics(own[1::2])
        for method in ("svd", "nmf", "kmeans")
    }
    errors = [found[method]["relative error"] for method in ("svd", "nmf", "kmeans")]
    assert errors == sorted(errors)
    assert found["kmeans"]["zeros"] == 0.75


def test_it_is_saved_without_the_network_and_loaded_with_it(digits, tmp_path):
    classifier, images, _, _ = digits
    encode, decode = split_model(classifier)
    explainer = ConceptExplainer(encode, decode, n_concepts=3, method="pca").fit(images[:50])
    explainer.save(tmp_path / "concepts")
    again = ConceptExplainer.load(tmp_path / "concepts", encode=encode, decode=decode)
    assert np.array_equal(again.transform(images[:9]), explainer.transform(images[:9]))
    assert np.array_equal(again.importance(images[:9], 2), explainer.importance(images[:9], 2))
    with pytest.raises(ValueError, match="pass it again"):
        ConceptExplainer.load(tmp_path / "concepts")
    with pytest.raises(TypeError, match="params.encode: a function cannot be saved without pickle"):
        ConceptExplainer(same, n_concepts=2).fit(MIXED).save(tmp_path / "other")


def test_clone_and_seed():
    explainer = ConceptExplainer(same, head, n_concepts=2, method="kmeans", random_state=3).fit(MIXED)
    other = clone(explainer)
    assert other.get_params()["method"] == "kmeans"
    with pytest.raises(NotFittedError):
        other.transform(MIXED)
    assert np.array_equal(other.fit(MIXED).concepts_, explainer.concepts_)
    for way in ("rise", "sobol", "smooth_grad"):
        assert np.array_equal(other.importance(MIXED, 0, way), explainer.importance(MIXED, 0, way))


def test_an_output_that_never_changes_has_no_importances():
    explainer = ConceptExplainer(same, lambda a: a * 0 + 1.0, n_concepts=2).fit(MIXED)
    for way in ATTRIBUTIONS:
        with pytest.warns(UserWarning, match="class 0 does not change with the concepts: all importances are 0"):
            assert not explainer.importance(MIXED, 0, way).any()


def test_bad_input():
    def fit(encode=same, decode=head, X=MIXED, **options):
        return ConceptExplainer(encode, decode, **{"n_concepts": 2} | options).fit(X)

    for options, error, message in (
        ({"X": -MIXED}, ValueError, "nmf needs values of at least 0.*choose another layer or method='pca'"),
        ({"n_concepts": 4}, ValueError, r"n_concepts: an integer in \[1, 3\] was expected"),
        ({"n_concepts": 0}, ValueError, "n_concepts: an integer at least 1 was expected"),
        ({"method": "ica"}, ValueError, "method must be one of"),
        ({"spatial": "words"}, ValueError, "spatial must be one of cells, crops, pooled, got 'words'"),
        ({"spatial": "crops"}, ValueError, "patch_size is for spatial='crops' and needed there, got None"),
        ({"patch_size": 3}, ValueError, "patch_size is for spatial='crops'"),
        ({"spatial": "crops", "patch_size": 9, "X": maps()}, ValueError, r"patch_size: an integer in \[2, 4\]"),
        ({"spatial": "crops", "patch_size": 2}, ValueError, r"cuts images \(n, c, h, w\), got shape \(40, 3\)"),
        ({"encode": 3}, TypeError, "encode must be callable"),
        ({"encode": lambda x: (x, x)}, TypeError, "encode must return one tensor.*got a tuple of 2"),
        ({"encode": lambda x: x[:, :, None]}, ValueError, r"of 40 images, got shape \(40, 3, 1\)"),
        ({"X": MIXED[:0]}, ValueError, "X: at least 1 image was expected, got 0"),
    ):
        with pytest.raises(error, match=message):
            fit(**options)
    explainer = fit()
    with pytest.raises(
        ValueError, match=r"class_id: an integer in \[0, 1\] was expected \(decode has 2 outputs\), got 2"
    ):
        explainer.importance(MIXED, 2)
    with pytest.raises(ValueError, match="method must be one of gradient_input, .*, got 'lime'"):
        explainer.importance(MIXED, 0, "lime")
    with pytest.raises(ValueError, match="reduce must be 'mean', 'peak' or None, got 'max'"):
        explainer.importance(MIXED, 0, reduce="max")
    with pytest.raises(
        ValueError, match="heatmaps: encode gives one vector an image.*cut the network before its pooling"
    ):
        explainer.heatmaps(MIXED)
    with pytest.raises(
        ValueError, match=r"U: coefficients \(n, 2\) or \(n, h, w, 2\) were expected, got shape \(3, 7\)"
    ):
        explainer.inverse_transform(np.zeros((3, 7)))
    with pytest.raises(ValueError, match="decode: importances need the rest of the network, got None"):
        fit(decode=None).importance(MIXED, 0)
    with pytest.raises(ValueError, match=r"decode must return outputs \(n, classes\) of 40 rows"):
        fit(decode=lambda a: a.sum()).importance(MIXED, 0)
    with pytest.raises(NotFittedError):
        ConceptExplainer(same).transform(MIXED)


def test_a_decoder_without_gradients_takes_the_other_ways():
    def plain(a):
        return head(a.detach()).numpy()

    explainer = ConceptExplainer(same, plain, n_concepts=2).fit(MIXED)
    with pytest.raises(ValueError, match="decode is not differentiable.*occlusion, rise, sobol or hsic"):
        explainer.importance(MIXED, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = explainer.importance(MIXED, 0, "occlusion", None)
    expected = explainer.transform(MIXED) * (explainer.concepts_ @ WEIGHTS[0].numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_network_stays_as_it_is():
    model = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    explainer = ConceptExplainer(*split_model(model, "2", example=MIXED), n_concepts=2).fit(MIXED)
    explainer.importance(MIXED, 1)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
