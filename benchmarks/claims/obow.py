"""OBoW on CIFAR-10: better than an untrained encoder; without generated weights it collapses onto the moving vocabulary."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmarks.claims.engine import Claim, Gate, Measures
from benchmarks.claims.probes import judged, split, untrained
from nolabel.learn.obow import OBoW
from nolabel.training import Training

ENCODER = "resnet8-x0.5-map6"
WORDS, STEPS, BATCH = 512, 240, 128
#: Step at which images are spread over many words still, and first step at which a batch's perplexity counts.
EARLY, SETTLED = 80, 20


class Watched(OBoW):
    """OBoW that notes the perplexity of its targets at every step."""

    def build(self, example: dict[str, Any]) -> nn.Module:
        self._seen: list[list[float]] = []  # of an image, of a batch; of the last level
        return super().build(example)

    def after_step(self, net: Any, clock: Any) -> None:
        super().after_step(net, clock)
        self._seen.append(net.perplexities[-1].tolist())

    def seen(self) -> dict[str, float]:
        image, batch = torch.tensor(self._seen).T
        losses = [row["loss"] for row in self.history_ if "loss" in row]
        return {
            "KL, end": losses[-1],
            "image perplexity, early": float(image[EARLY - 10 : EARLY].mean()),
            "image perplexity, end": float(image[-10:].mean()),
            "batch perplexity, least": float(batch[SETTLED:].min()),
            "batch perplexity, end": float(batch[-10:].mean()),
        }


class FixedHead(Watched):
    """The baseline: a linear layer with a learned unit weight vector for each slot of the vocabulary."""

    def build(self, example: dict[str, Any]) -> nn.Module:
        net: Any = super().build(example)
        net.generators = nn.ModuleList(nn.Linear(net.encoder.dim, self.words, bias=False) for _ in net.vocabularies)
        return net

    def word_weights(self, net: Any, level: int) -> Tensor:
        return normalize(net.generators[level].weight)


def run(seed: int) -> Measures:
    images, labels = split("cifar10", "train", small=True)
    test, test_labels = split("cifar10", "test", small=True)

    def scores(learner: Any) -> dict[str, float]:
        return judged(learner.transform(images), labels, learner.transform(test), test_labels)

    def trained(cls: Any = Watched, **more: Any) -> dict[str, float]:
        # the rate and decay are the method's own; a collapse is to be seen to its end
        settings = Training(steps=STEPS, batch_size=BATCH, warmup=30 / STEPS, random_state=seed, stop_on_collapse=False)
        options = {"words": WORDS, "momentum": 0.97, "crops": ((2, 24, (0.15, 0.7)),), "patches": (0, 16)}
        learner = cls(ENCODER, training=settings, **{**options, **more}).fit(images)
        return scores(learner) | learner.seen()

    return {
        "untrained": scores(untrained(ENCODER, images, seed)),
        "OBoW": trained(),
        "fixed head": trained(FixedHead),
        "hard codes": trained(inverse_temperature=None),
        "two levels": trained(levels=("stage2", "stage3")),
        "3 patches more": trained(patches=(3, 16)),
    }


def better(arm: str, than: str, measure: str) -> Any:
    return lambda values: values[arm][measure] - values[than][measure]


def of(arm: str, measure: str) -> Any:
    return lambda values: values[arm][measure]


CLAIM = Claim(
    name="obow",
    paper="Gidaris et al., CVPR 2021, arXiv:2012.11552",
    claim="Predicting which visual words of a moving vocabulary an image holds learns a representation, if the words generate "
    "the classifier.",
    data="CIFAR-10, 20,000 train and 5,000 test images",
    metric="k-NN (k = 20) and ridge accuracy on pooled features, per cent; perplexity of the targets over 512 words",
    run=run,
    gates=(
        Gate("OBoW - untrained, k-NN points", 1.5, better("OBoW", "untrained", "k-NN")),
        Gate("OBoW - fixed head, k-NN points", 8.0, better("OBoW", "fixed head", "k-NN")),
        Gate("least perplexity of a batch's targets after step 20, of 512", 50.0, of("OBoW", "batch perplexity, least")),
        Gate("perplexity of an image's target, step 80 - end", 0.0,
             lambda v: v["OBoW"]["image perplexity, early"] - v["OBoW"]["image perplexity, end"]),
    ),
    reports=(
        Gate("OBoW - untrained, ridge points", 4.0, better("OBoW", "untrained", "ridge")),
        Gate("fixed head: perplexity of an image's target at the end (collapsed above 410)", 410.0,
             of("fixed head", "image perplexity, end")),
        Gate("soft - hard codes, k-NN points", 0.0, better("OBoW", "hard codes", "k-NN")),
        Gate("two levels - one, k-NN points", 0.0, better("two levels", "OBoW", "k-NN")),
        Gate("3 patches more - none, k-NN points", 0.0, better("3 patches more", "OBoW", "k-NN")),
    ),
    settings={"encoder": ENCODER, "steps": STEPS, "batch": BATCH, "words": WORDS, "momentum": 0.97},
    note="240 steps are few: the paper's gain on linear probes needs far longer training. An arm with patches sees more pixels a "
    "step.",
)  # fmt: skip
