"""Binary paragraph vectors on 20 Newsgroups: codes learned as codes against real vectors made into codes afterwards."""

from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor, nn

from benchmarks.claims.engine import Claim, Gate, Measures
from nolabel.assess import mean_average_precision, ndcg
from nolabel.data import load
from nolabel.data.stop_words import stop_words
from nolabel.data.vocabulary import Vocabulary
from nolabel.data.words import number_words
from nolabel.learn import BinaryParagraphVector
from nolabel.ops import binarise
from nolabel.training import Training

DOCUMENTS, QUERIES, ARTICLES = 5000, 400, 6000
EPOCHS, GENERIC_EPOCHS = 15, 8
WORDS, PAIRS = 6000, 4000
FREQUENT = 2000  # words that the autoencoder sees, as in its paper


class RealParagraphVector(BinaryParagraphVector):
    """The same model, data and training without rounding: words are predicted from the vector itself."""

    def code(self, logits: Tensor) -> Tensor:
        return logits


def newsgroups(seed: int) -> tuple[list[str], np.ndarray, list[str], np.ndarray]:
    """Bodies and groups of some training mails, and of test mails as queries whose body is not among the former."""
    rng = np.random.default_rng(seed)
    train, test = load("newsgroups20", split="train"), load("newsgroups20", split="test")
    chosen = np.sort(rng.choice(len(train), DOCUMENTS, replace=False))
    index = train.select(chosen)
    known = set(index["body"])
    new = [row for row, body in enumerate(test["body"]) if body not in known and len(body.split()) >= 5]
    queries = test.select(np.sort(rng.choice(new, QUERIES, replace=False)))
    return list(index["body"]), np.asarray(index["label"]), list(queries["body"]), np.asarray(queries["label"])


def ranked(distances: np.ndarray, labels: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Whole rankings by distance, ties by row; relevant is what has the query's group. Per cent."""
    order = np.argsort(distances, axis=1, kind="stable")
    relevant = [set(np.flatnonzero(labels == group)) for group in truth]
    return {
        "MAP": 100 * mean_average_precision(order, relevant),
        "nDCG@10": 100 * ndcg(order[:, :10], relevant),
    }


def hamming(queries: np.ndarray, index: np.ndarray) -> np.ndarray:
    signs = [2.0 * codes.astype(np.float32) - 1.0 for codes in (queries, index)]
    return np.rint((queries.shape[1] - signs[0] @ signs[1].T) / 2).astype(np.int64)


def cosine_distance(queries: np.ndarray, index: np.ndarray) -> np.ndarray:
    units = [z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12) for z in (queries, index)]
    return -(units[0] @ units[1].T)


def hyperplanes(queries: np.ndarray, index: np.ndarray, bits: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sides of random planes through the mean of the index."""
    planes = np.random.default_rng(seed).normal(size=(index.shape[1], bits)).astype(np.float32)
    mean = index.mean(axis=0)
    return (queries - mean) @ planes > 0, (index - mean) @ planes > 0


class SemanticHashing(nn.Module):
    """A deep autoencoder of word frequencies with a rounded code in the middle (Salakhutdinov & Hinton 2009)."""

    def __init__(self, words: int, bits: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(words, 500), nn.ReLU(), nn.Linear(500, 500), nn.ReLU(), nn.Linear(500, bits), nn.BatchNorm1d(bits)
        )
        self.decoder = nn.Sequential(
            nn.Linear(bits, 500), nn.ReLU(), nn.Linear(500, 500), nn.ReLU(), nn.Linear(500, words)
        )

    def forward(self, frequencies: Tensor) -> Tensor:
        """Cross-entropy of the words of each text under the softmax that its code gives."""
        scores = self.decoder(binarise(self.encoder(frequencies))).log_softmax(dim=1)
        loss: Tensor = -(frequencies * scores).sum(dim=1).mean()
        return loss


def semantic_hashing(texts: list[str], queries: list[str], bits: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes of queries and texts."""
    numbered = number_words(texts)
    vocabulary = Vocabulary.of(numbered, min_count=3, max_words=FREQUENT, stop_words=stop_words("english"))

    def frequencies(ids: np.ndarray, offsets: np.ndarray) -> Tensor:
        rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        counts = np.zeros((len(offsets) - 1, len(vocabulary)), np.float32)
        np.add.at(counts, (rows, ids), 1.0)
        return torch.from_numpy(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0))

    x, q = (frequencies(*vocabulary.encode(some)) for some in (numbered, number_words(queries)))
    torch.manual_seed(seed)
    net = SemanticHashing(len(vocabulary), bits)
    descent = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(64)[:-1]:
            descent.zero_grad()
            net(x[rows]).backward()
            descent.step()
    net.eval()
    with torch.no_grad():
        codes = [(net.encoder(z) > 0).numpy() for z in (q, x)]
    return codes[0], codes[1]


def run(seed: int) -> Measures:
    texts, labels, queries, truth = newsgroups(seed)
    arms: Measures = {}

    def settings(epochs: int = EPOCHS) -> Training:
        return Training(epochs=epochs, random_state=seed)

    def judged(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
        return ranked(hamming(first, second), labels, truth)

    def model(cls: Any, bits: int, pairs: int = PAIRS, **options: Any) -> Any:
        return cls(bits, unigrams=WORDS, bigrams=pairs, on_empty="zero", training=settings(), **options).fit(texts)

    for bits in (32, 128):
        binary = model(BinaryParagraphVector, bits)
        arms[f"binary, {bits}"] = judged(binary.transform(queries), binary.transform(texts))
        real = model(RealParagraphVector, bits)
        q, x = (real.transform_source(real.open_one(some, None)) for some in (queries, texts))
        middle = np.median(x, axis=0)
        arms[f"real, thresholded, {bits}"] = judged(q > middle, x > middle)
        arms[f"real, hyperplanes, {bits}"] = judged(*hyperplanes(q, x, bits, seed))
        arms[f"real, cosine, {bits} floats"] = ranked(cosine_distance(q, x), labels, truth)
        arms[f"semantic hashing, {bits}"] = judged(*semantic_hashing(texts, queries, bits, seed))
    words = model(BinaryParagraphVector, 32, pairs=0)
    arms["binary without pairs, 32"] = judged(words.transform(queries), words.transform(texts))
    return arms | transfer(seed, texts, labels, queries, truth)


def transfer(seed: int, texts: list[str], labels: np.ndarray, queries: list[str], truth: np.ndarray) -> Measures:
    """Codes learned on Wikipedia alone, of mails; random planes over TF-IDF of the mails themselves."""
    articles = load("wiki_text").shuffle(seed).select(range(ARTICLES))["text"][:]
    generic = BinaryParagraphVector(
        128, on_empty="zero", training=Training(epochs=GENERIC_EPOCHS, random_state=seed)
    ).fit(articles)
    arms = {
        "Wikipedia to mails, 128": ranked(hamming(generic.transform(queries), generic.transform(texts)), labels, truth)
    }
    reader = TfidfVectorizer(sublinear_tf=True, min_df=2, max_features=20_000, stop_words="english", dtype=np.float32)
    x, q = reader.fit_transform(texts), reader.transform(queries)
    arms["TF-IDF, hyperplanes, 128"] = ranked(hamming(*hyperplanes(q.toarray(), x.toarray(), 128, seed)), labels, truth)
    arms["TF-IDF, cosine"] = ranked(-(q @ x.T).toarray(), labels, truth)
    return arms


def better(arm: str, over: str, measure: str = "MAP") -> Any:
    return lambda values: values[arm][measure] - values[over][measure]


def every_seed(arm: str, over: str) -> Any:
    return lambda values: float(values[arm]["MAP"] > values[over]["MAP"])


CLAIM = Claim(
    name="binary_paragraph_vector",
    paper="Grzegorczyk & Kurdziel, RepL4NLP 2017, arXiv:1611.01116",
    claim="Codes learned by predicting words find texts of the same topic better than real vectors made into codes, or an "
    "autoencoder's codes, and transfer from a generic corpus.",
    data="20 Newsgroups without headers, 5,000 training mails as index, 400 test mails as queries; 6,000 Wikipedia articles",
    metric="MAP of the whole ranking by Hamming distance (ties by row) and nDCG@10, per cent; relevant = same group of 20",
    run=run,
    gates=(
        Gate("MAP at 32 bits: binary - thresholded real, share of seeds above 0", 1.0,
             every_seed("binary, 32", "real, thresholded, 32")),
        Gate("MAP at 32 bits: binary - hyperplanes over real, share of seeds above 0", 1.0,
             every_seed("binary, 32", "real, hyperplanes, 32")),
        Gate("MAP at 32 bits: binary - semantic hashing, points", 0.0, better("binary, 32", "semantic hashing, 32")),
        Gate("MAP at 128 bits: binary - semantic hashing, points", 0.0, better("binary, 128", "semantic hashing, 128")),
        Gate("MAP at 128 bits, learned on Wikipedia - hyperplanes over TF-IDF of the mails, points", 0.0,
             better("Wikipedia to mails, 128", "TF-IDF, hyperplanes, 128")),
    ),
    reports=(
        Gate("MAP at 32 bits: binary - thresholded real, points", 0.0, better("binary, 32", "real, thresholded, 32")),
        Gate("nDCG@10 at 32 bits: binary - thresholded real, points", 0.0,
             better("binary, 32", "real, thresholded, 32", "nDCG@10")),
        Gate("MAP at 128 bits: binary - thresholded real, points", 0.0, better("binary, 128", "real, thresholded, 128")),
        Gate("MAP at 32 bits: with pairs of words - without, points", 0.0,
             better("binary, 32", "binary without pairs, 32")),
        Gate("MAP of binary: 128 bits - 32 bits, points", 0.0, better("binary, 128", "binary, 32")),
    ),
    settings={"words + pairs": f"{WORDS} + {PAIRS}", "epochs": f"{EPOCHS}, all arms; Wikipedia {GENERIC_EPOCHS}",
              "semantic hashing": f"{FREQUENT}-500-500-bits and back, rounded code, Adam 1e-3, no pre-training"},
    note="All paragraph vectors, of index and queries alike, are inferred with the words frozen. The real arms are the same "
    "model without rounding.",
)  # fmt: skip
