"""Networks cut in two."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from nolabel.data import load
from nolabel.explain.splitting import split_model
from nolabel.learn import ImageClassifier, RawPixels, SimCLR
from nolabel.training import Training

DIGITS = load("digits").select(range(120))
IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 4),
    )


@pytest.fixture(scope="module", params=["conv4", "resnet8-x0.125", "vit-tiny-x0.34", "nin-x0.1"])
def classifier(request):
    training = Training(steps=2, batch_size=16, random_state=0)
    return ImageClassifier(request.param, training=training).fit(DIGITS)


def test_the_halves_in_a_row_are_the_classifier_at_every_layer(classifier):
    source = classifier.open_one(DIGITS, None)
    images = source.batch(np.arange(7))["image"]
    logits = classifier.transform(DIGITS, layer="logits")[:7]
    first = split_model(classifier)
    stages = list(classifier.net_.encoder.channels)
    assert list(first.layers) == [*stages, "representation"]
    assert first.layer == stages[-1]
    for layer in first.layers:
        encode, decode = split_model(classifier, layer)
        activations = encode(images)
        assert activations.shape[1:] == first.layers[layer]
        np.testing.assert_allclose(decode(activations).detach().numpy(), logits, atol=2e-3, rtol=1e-3)
        if layer != "representation":
            maps = classifier.transform_maps(DIGITS, layer=layer)[:7]
            np.testing.assert_allclose(activations.numpy(), maps, atol=2e-3, rtol=1e-3)


def test_gradients_flow_through_the_second_half_alone(classifier):
    encode, decode = split_model(classifier)
    activations = encode(classifier.open_one(DIGITS, None).batch(np.arange(3))["image"])
    assert not activations.requires_grad
    activations.requires_grad_(True)
    classifier.net_.zero_grad(set_to_none=True)  # left by its training
    (found,) = torch.autograd.grad(decode(activations)[:, 1].sum(), activations)
    # the mean over places, then the last layer
    expected = torch.from_numpy(classifier.head_weight[1]) / np.prod(activations.shape[2:])
    torch.testing.assert_close(found, expected[None, :, None, None].expand_as(found), atol=1e-5, rtol=1e-3)
    assert all(parameter.grad is None for parameter in classifier.net_.parameters())


@pytest.mark.parametrize("layer", ["0", "1", "2", "3", "4", "6"])
def test_any_module_is_cut_at_the_name_of_a_layer(layer):
    model = net().train()
    before = copy.deepcopy(model.state_dict())
    encode, decode = split_model(model, layer, example=IMAGES[:2])
    with torch.no_grad():
        expected = copy.deepcopy(model).eval()(IMAGES)
        torch.testing.assert_close(decode(encode(IMAGES)), expected)
    assert model.training  # as it was
    assert model[1].training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_tokens_of_a_square_grid_are_a_map():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 6, 4, stride=4)
            self.block = nn.Linear(6, 6)
            self.head = nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.block(self.patches(x).flatten(2).transpose(1, 2)).mean(1))

    model = Tokens()
    split = split_model(model, "block", example=IMAGES)
    assert split.layers["block"] == (6, 4, 4)
    torch.testing.assert_close(split.decode(split.encode(IMAGES)), model(IMAGES))


def test_a_layer_that_is_gone_around_is_refused():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Conv2d(3, 3, 3, padding=1)
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            return self.head((x + self.inner(x)).mean((2, 3)))

    with pytest.raises(ValueError, match="layer 'inner' cannot be cut at: other parts of the network go around it"):
        split_model(Residual(), "inner", example=IMAGES)


def test_a_representation_takes_the_head_that_is_given():
    learned = SimCLR("conv4", training=Training(steps=2, batch_size=16)).fit(DIGITS)
    head = nn.Linear(64, 3)
    images = learned.open_one(DIGITS, None).batch(np.arange(4))["image"]
    encode, decode = split_model(learned, head=head)
    expected = head(torch.from_numpy(learned.transform(DIGITS)[:4]))
    torch.testing.assert_close(decode(encode(images)), expected, atol=1e-3, rtol=1e-3)
    encode, decode = split_model(learned, "representation")
    torch.testing.assert_close(decode(encode(images)), encode(images))


def test_bad_input():
    with pytest.raises(ValueError, match=r"layer must be one of 0 \(8 x 8 x 8\), .*7 \(4\); got 'stage9'"):
        split_model(net(), "stage9", example=IMAGES)
    with pytest.raises(ValueError, match=r"layer must be one of 0 .*; got None"):
        split_model(net(), example=IMAGES)
    with pytest.raises(ValueError, match="example: a module needs a few images"):
        split_model(net(), "2")
    with pytest.raises(TypeError, match="model must be a fitted ImageLearner or an nn.Module, got str"):
        split_model("resnet18", "2")
    with pytest.raises(ValueError, match=r"model must give outputs \(n, classes\), got shape \(5, 12, 4, 4\)"):
        split_model(net()[:5], "2", example=IMAGES)
    with pytest.raises(ValueError, match="not fitted"):
        split_model(ImageClassifier("conv4"))
    pixels = RawPixels().fit(DIGITS)
    assert list(split_model(pixels).layers) == ["representation"]
