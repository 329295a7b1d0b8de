"""VDR across modalities: FashionMNIST with captions made from templates and synonyms, against dense vectors."""

from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmarks.claims.engine import Claim, Gate, Measures
from nolabel.assess import mean_average_precision
from nolabel.data import load
from nolabel.learn import CrossModalVDR
from nolabel.learn.vdr_cross_modal import same_words
from nolabel.objectives.in_batch import in_batch_softmax
from nolabel.objectives.vocabulary import word_bag
from nolabel.training import ImageLearner, Training
from nolabel.training.pairs import IMAGE, TEXT

ENCODER, STEPS, BATCH, LR, TOPK = "resnet10-x0.5-map4", 250, 128, 2e-3, 16
NAMES = (
    *(("tshirt", "tee"), ("trousers", "pants"), ("pullover", "sweater"), ("dress", "gown"), ("coat", "jacket")),
    *(("sandal", "slipper"), ("shirt", "blouse"), ("sneaker", "trainer"), ("bag", "purse"), ("boot", "bootie")),
)
TEMPLATES = ("a photo of a {}", "this is the {}", "one {} on black", "picture: {} for sale", "somebody wears a {}")


def captioned(part: str, seed: int) -> tuple[Any, np.ndarray]:
    """Images with a caption each, and their classes. The captions name the class; nothing else tells it."""
    table = load("fashion_mnist", split=part)
    labels = np.asarray(table["label"])
    rng = np.random.default_rng([seed, len(labels)])
    captions = [
        TEMPLATES[form].format(NAMES[label][name])
        for label, form, name in zip(
            labels, rng.integers(0, 5, len(labels)), rng.integers(0, 2, len(labels)), strict=True
        )
    ]
    return table.select_columns([IMAGE]).add_column(TEXT, captions), labels


class Dense(CrossModalVDR):
    """The same encoders with projections to 128 dimensions of no meaning: means over patches and over tokens."""

    def build(self, example: dict[str, Any]) -> nn.Module:
        net: Any = super().build(example)
        net.of_images = nn.Linear(net.encoder.dim, 128, bias=False)
        net.of_texts = nn.Linear(net.text.encoder.dim, 128, bias=False)
        del net.image
        return net

    def optimisers(self, net: Any, settings: Training) -> dict[str, Any]:
        return ImageLearner.optimisers(self, net, settings)

    def _of_images(self, net: Any, images: Tensor, part: Any = None) -> Tensor:
        return normalize(net.of_images(net.encoder(images.float() / 255.0)).float(), dim=1)

    def _of_texts(self, net: Any, text: dict[str, Tensor], part: Any = None) -> Tensor:
        return normalize(net.of_texts(net.text.encoder(text["tokens"], text["mask"])).float(), dim=1)

    def loss(self, net: Any, batch: dict[str, Any]) -> dict[str, Tensor]:
        bags = word_bag(batch[TEXT]["tokens"], net.places, len(self.words_))
        images, texts = self._of_images(net, batch[IMAGE]), self._of_texts(net, batch[TEXT])
        temperature = net.temperature()
        return {
            "loss": in_batch_softmax(texts, images, temperature=temperature, symmetric=True, ignored=same_words(bags))
        }


def retrieval(model: CrossModalVDR, images: Any, labels: np.ndarray) -> float:
    """mAP@10 of every caption over the images, those of its class being right; per cent."""
    captions = [(label, form.format(name)) for label, names in enumerate(NAMES) for name in names for form in TEMPLATES]
    texts = [text for _, text in captions]
    asked = model.transform(texts, side=TEXT) if isinstance(model, Dense) else model.transform_sparse(texts, side=TEXT)
    scores = asked @ model.transform(images).T
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    relevant = [set(np.flatnonzero(labels == label).tolist()) for label, _ in captions]
    return 100 * mean_average_precision(ranked, relevant, k=10)


def run(seed: int) -> Measures:
    table, _ = captioned("train", seed)
    held, labels = captioned("test", seed)
    arms: Measures = {}
    bodies = {"VDR": CrossModalVDR, "VDR untrained": CrossModalVDR, "dense": Dense}
    for name, cls in bodies.items():
        budget = {"steps": 1, "lr": 1e-12} if name == "VDR untrained" else {"steps": STEPS, "lr": LR}
        settings = Training(batch_size=BATCH, random_state=seed, **budget)
        model = cls(
            ENCODER, text_encoder="bert-1x64", topk=TOPK, objective="svdr", vocabulary_size=250, training=settings
        )
        model.fit(table)
        images = held.select_columns([IMAGE])
        arms[name] = {"mAP@10": retrieval(model, images, labels)}
        if cls is CrossModalVDR:
            top = [found[0][0] for found in model.describe(images, 1)]
            arms[name]["top word"] = 100 * float(np.mean([word in NAMES[label] for word, label in zip(top, labels)]))
    return arms


CLAIM = Claim(
    name="vdr_cross_modal",
    paper="Zhou et al., ICLR 2024, arXiv:2212.07699",
    claim="Images say in words what they show, though nobody labelled them with words, and are found through these words.",
    data="FashionMNIST, captions of 5 templates and 2 names a class",
    metric="mAP@10 of 100 captions over the test images; share of test images whose strongest word is a name of their class; "
    "per cent",
    run=run,
    gates=(
        Gate("share of images whose strongest word names their class", 70.0, lambda v: v["VDR"]["top word"]),
        Gate("mAP@10: VDR - untrained, points", 50.0, lambda v: v["VDR"]["mAP@10"] - v["VDR untrained"]["mAP@10"]),
    ),
    reports=(Gate("mAP@10: VDR - dense, points", 0.0, lambda v: v["VDR"]["mAP@10"] - v["dense"]["mAP@10"]),),
    settings={"encoders": f"{ENCODER} and bert-1x64 from random weights", "kept weights": f"{TOPK}, of both sides in turn (SVDR)",
              "training": f"{STEPS} steps of {BATCH} in both arms, rate {LR}"},
    note="The captions give the class away, so that this is no measure of learning without labels; it shows that words land on "
    "what they name. Dense vectors cannot be asked for a word.",
)  # fmt: skip
