"""Binary paragraph vectors: a code of a few bits for each text, learned by predicting its words.

Every document d has a vector v_d of logits. Its code is rounded, and through the rounding flows the gradient of the
sigmoid (straight-through estimator):

    c_d = round(sigmoid(v_d)),    loss = -log softmax(O c_d + b)[w]    for every word and frequent pair of words w of d,

by sampled softmax. ``dm`` predicts the next word from the code beside the vectors of the words before it; in
``real-binary`` a real vector x_d is projected to the logits, v_d = P x_d, so that a short list found by code can be
ranked again by x. A new document gets its vector with O, b and P frozen.

Grzegorczyk & Kurdziel, "Binary paragraph vectors", RepL4NLP 2017, arXiv:1611.01116. Differences: Adam instead of AdaGrad;
the negatives of a step are all different, and shared; words of one document come in small groups, which makes
a step many times cheaper; the vector of a new document starts at 0 and descends the full softmax (``dm``: a fixed sample),
so that it depends neither on chance nor on the documents beside it.
"""

import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nolabel.assess.codes import CodeReport, code_report
from nolabel.data.sources import Skipped
from nolabel.data.stop_words import stop_words
from nolabel.data.vocabulary import Vocabulary
from nolabel.data.word_windows import WordLists, WordWindows
from nolabel.data.words import read_words
from nolabel.objectives.sampled_softmax import draw_negatives, inclusion_probabilities, sampled_softmax
from nolabel.ops.bits import pack_bits
from nolabel.ops.straight_through import binarise
from nolabel.training import Learner, Training
from nolabel.training.batches import Rows
from nolabel.training.row_adam import row_adam

MODELS = ("dbow", "dm", "real-binary")
#: Words of one document that stand together in a batch.
TOGETHER = 16
#: Words of new documents that are worked on at once, and words that stand for all others to ``dm``.
WORDS_AT_ONCE, SAMPLE = 20_000, 1024
#: First step length of inference; it falls to 0.
INFERENCE_LR = 0.1


class BinaryParagraphVector(Learner):
    """Learn short binary codes of texts, for search by Hamming distance in a few bytes a text.

    Use it for texts of tens of words and more; a text of one known word has the code of that word. Do not expect much of
    many bits on few texts: measured on some thousands, 128 bits ranked no better than 32.

    Parameters
    ----------
    bits : of a code; the paper has 32 and 128
    model : ``dbow``, ``dm`` or ``real-binary``
    real_dim : width of the real vector of ``real-binary``; ``None`` is 100 (the paper's 300 for large corpora)
    unigrams, bigrams : most frequent words and pairs of neighbouring words that are predicted; ``dm`` predicts no pairs
    min_count : how often a word or pair has to occur
    stop_words : words to leave out, or ``english``; ``None`` for none
    lowercase : drop capitals
    negatives : words a step, shared by all its targets; drawn in proportion to count ** 0.75
    window, word_dim : words before the predicted one that ``dm`` sees, and width of their vectors
    balance : weight of the mean over bits of (share of ones - 1/2)^2, against bits that are dead
    on_empty : texts without a known word: ``error``, or ``zero`` for a code of zeros, named in `empty_`
    inference_epochs : passes over the words of a new text
    training : how long and on what to train; `batch_size` counts words

    Attributes
    ----------
    codes_ : (n, bits) bool, of the training texts
    real_ : (n, real_dim) float32, of the training texts, by ``real-binary``
    empty_ : rows of the training texts without a known word
    vocabulary_ : what is predicted
    report_ : dead and frozen bits, see `nolabel.assess.code_report`

    Examples
    --------
    >>> texts = ["red green blue green red", "one two three two one", "blue red red green blue", "three one two one two"]
    >>> model = BinaryParagraphVector(8, min_count=1, stop_words=None, training=Training(epochs=40)).fit(texts)
    >>> codes = model.transform(["green blue", "two three", "red green"])
    >>> bool((codes[0] != codes[2]).sum() < (codes[0] != codes[1]).sum())
    True
    """

    columns = ("text",)
    recipe = {"optimiser": "adam", "lr": 0.02, "weight_decay": 0.0, "batch_size": 4096, "epochs": 10, "warmup": 0.0}  # noqa: RUF012

    vocabulary_: Vocabulary
    documents_: int
    empty_: np.ndarray
    report_: CodeReport

    def __init__(
        self,
        bits: int = 128,
        *,
        model: str = "dbow",
        real_dim: int | None = None,
        unigrams: int = 10_000,
        bigrams: int = 10_000,
        min_count: int = 3,
        stop_words: Any = "english",
        lowercase: bool = True,
        negatives: int = 512,
        window: int = 4,
        word_dim: int = 50,
        balance: float = 0.0,
        on_empty: str = "error",
        inference_epochs: int = 30,
        training: Training | None = None,
    ) -> None:
        self.bits = bits
        self.model = model
        self.real_dim = real_dim
        self.unigrams = unigrams
        self.bigrams = bigrams
        self.min_count = min_count
        self.stop_words = stop_words
        self.lowercase = lowercase
        self.negatives = negatives
        self.window = window
        self.word_dim = word_dim
        self.balance = balance
        self.on_empty = on_empty
        self.inference_epochs = inference_epochs
        self.training = training

    # Reading ----------------------------------------------------------------------------------------------------------

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        """Words and their documents to learn from; of a fitted model, whole documents to encode."""
        self._check()
        texts = read_words(data, columns=columns, lowercase=self.lowercase)
        fitted = hasattr(self, "vocabulary_")
        if not fitted and len(texts) < 2:
            raise ValueError(f"text: at least 2 documents were expected to learn from, got {len(texts)}")
        vocabulary = self.vocabulary_ if fitted else Vocabulary.of(
            texts,
            min_count=self.min_count,
            max_words=self.unigrams,
            max_pairs=0 if self.model == "dm" else self.bigrams,
            stop_words=stop_words(self.stop_words),
        )  # fmt: skip
        ids, offsets = vocabulary.encode(texts)
        empty = np.flatnonzero(np.diff(offsets) == 0)
        if len(empty) and self.on_empty == "error":
            named = ", ".join(map(str, empty[:10])) + (", ..." if len(empty) > 10 else "")
            raise ValueError(
                f"text: {len(empty)} of {len(texts)} documents have no word of the vocabulary (rows {named}); leave them "
                "out, or give them codes of zeros with on_empty='zero'"
            )
        skipped = [Skipped(int(row), None, "no word of the vocabulary") for row in empty]
        before = self.window if self.model == "dm" else 0
        windows = WordWindows(ids, offsets, before=before, vocabulary=vocabulary, skipped=skipped)
        return WordLists(windows) if fitted else windows

    def prepare(self, source: Any, folder: Any) -> None:
        self.vocabulary_, self.documents_ = source.vocabulary, source.texts
        self.empty_ = np.array([skip.row for skip in source.skipped], np.int64)

    def plan(self, source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        """Words in random order, but that up to 16 of one document stand together and share its code."""
        order = np.lexsort((rng.random(len(source), dtype=np.float32), source.documents))
        groups = (np.arange(len(order)) - source.offsets[source.documents]) // TOGETHER
        first = np.concatenate([[True], (np.diff(groups) != 0) | (np.diff(source.documents) != 0)])
        number = np.cumsum(first) - 1  # of the group that a place belongs to
        order = order[np.argsort(rng.permutation(number[-1] + 1)[number], kind="stable")]
        return [order[i : i + batch_size] for i in range(0, len(order) - batch_size + 1, batch_size)]

    # Learning ---------------------------------------------------------------------------------------------------------

    def build(self, example: dict[str, Any]) -> nn.Module:
        words, width = len(self.vocabulary_), self._width
        extra = self.window * self.word_dim if self.model == "dm" else 0
        net: Any = nn.Module()
        net.documents = nn.Embedding(self.documents_, width, sparse=True)
        nn.init.uniform_(net.documents.weight, -0.5, 0.5)
        net.outputs = nn.Embedding(words, self.bits + extra, sparse=True)
        nn.init.normal_(net.outputs.weight, std=0.01)
        net.biases = nn.Embedding(words, 1, sparse=True)
        shares = torch.from_numpy(self.vocabulary_.counts / self.vocabulary_.counts.sum())
        net.biases.weight.data[:, 0] = shares.log()  # where a softmax that knows nothing of the document ends up
        if self.model == "real-binary":
            net.projection = nn.Linear(width, self.bits, bias=False)
            nn.init.normal_(net.projection.weight, std=width**-0.5)
        if self.model == "dm":
            net.context = nn.Embedding(words + 1, self.word_dim, sparse=True)  # the last stands beyond the beginning
            nn.init.normal_(net.context.weight, std=0.1)
        chances = inclusion_probabilities(torch.from_numpy(self.vocabulary_.noise("unigram")), self.negatives)
        net.register_buffer("chances", chances, persistent=False)
        return net

    def optimisers(self, net: nn.Module, settings: Training) -> dict[str, Optimizer]:
        return row_adam(net, settings)

    def loss(self, net: Any, views: dict[str, Tensor]) -> dict[str, Tensor]:
        with torch.autocast(views["word"].device.type, enabled=False):
            documents, rows = views["document"].unique(return_inverse=True)
            logits = self.logits(net, net.documents(documents))  # (u, bits)
            negatives = draw_negatives(net.chances)
            codes = self.code(logits)
            prediction = self._prediction(net, codes, rows, views, negatives, net.chances.log().float())
            terms = {"prediction": prediction}
            if self.balance:
                terms["balance"] = self.balance * (logits.sigmoid().mean(dim=0) - 0.5).square().mean()
        return terms

    def code(self, logits: Tensor) -> Tensor:
        """What the words are predicted from: (u, bits)."""
        return binarise(logits)

    def logits(self, net: Any, vectors: Tensor) -> Tensor:
        """From vectors of documents (u, width) to (u, bits)."""
        logits: Tensor = net.projection(vectors) if self.model == "real-binary" else vectors
        return logits

    def _prediction(
        self, net: Any, codes: Tensor, rows: Tensor, batch: dict[str, Tensor], negatives: Tensor, chances: Tensor
    ) -> Tensor:
        """Mean cross-entropy of the words of a batch; `rows` says which code each has, `chances` is in logs."""
        own, others = net.outputs(batch["word"]), net.outputs(negatives)
        true = (codes.index_select(0, rows) * own[:, : self.bits]).sum(dim=1) + net.biases(batch["word"])[:, 0]
        false = codes @ others[:, : self.bits].T + net.biases(negatives)[:, 0]  # (u, s)
        if self.model != "dm":
            return sampled_softmax(true, false, batch["word"], negatives, chances, rows=rows)
        places = batch["context"].masked_fill(batch["context"] < 0, len(self.vocabulary_))
        before = net.context(places).flatten(1)  # (b, window * word_dim)
        true = true + (before * own[:, self.bits :]).sum(dim=1)
        false = false.index_select(0, rows) + before @ others[:, self.bits :].T  # (b, s)
        return sampled_softmax(true, false, batch["word"], negatives, chances)

    @torch.no_grad()
    def finish(self, source: Any) -> None:
        net: Any = self.net_
        logits = self.logits(net, net.documents.weight).cpu().numpy()
        self.report_ = code_report(np.delete(logits, self.empty_, axis=0))
        if self.report_.dead_bits or self.report_.saturated > 0.5:
            warnings.warn(
                f"{self.report_.dead_bits} of {self.bits} bits are dead and {self.report_.saturated:.0%} of the logits "
                "saturated: try balance=1.0, or a lower training.lr",
                stacklevel=2,
            )

    def judge(
        self, net: nn.Module, batch: dict[str, Any], generator: torch.Generator
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """The codes of the documents of a batch, as -1 and 1, and with ``real-binary`` their real vectors."""
        table: Any = net.documents
        vectors = table(batch["document"])
        layers: dict[str, tuple[Tensor, Tensor | None]]
        layers = {"representation": (2 * binarise(self.logits(net, vectors)) - 1, None)}
        return layers | ({"real": (vectors, None)} if self.model == "real-binary" else {})

    # Using ------------------------------------------------------------------------------------------------------------

    def encode_plan(self, source: Any) -> list[np.ndarray]:
        """Documents in order, about 20,000 words at once."""
        ends = source.windows.offsets[1:]
        return np.split(np.arange(len(source)), np.flatnonzero(np.diff(ends // WORDS_AT_ONCE)) + 1)

    def encode(self, net: Any, batch: dict[str, Any], real: bool = False, epochs: int | None = None) -> Tensor:
        """Fit vectors of new documents: their logits (b, bits), or with `real` the vectors themselves."""
        rows, width = len(batch["lengths"]), self._width
        vectors = torch.zeros(rows, width, device=batch["word"].device)
        with torch.autocast(vectors.device.type, enabled=False):
            if len(batch["word"]):
                vectors = self._infer(net, batch, vectors, self.inference_epochs if epochs is None else epochs)
            return vectors if real else self.logits(net, vectors)

    @torch.enable_grad()
    def _infer(self, net: Any, batch: dict[str, Tensor], vectors: Tensor, epochs: int) -> Tensor:
        """Descend the loss of the words in `vectors` (b, width) alone, with Adam and steps that fall to 0."""
        size = SAMPLE if self.model == "dm" else len(self.vocabulary_)
        chances = inclusion_probabilities(torch.from_numpy(self.vocabulary_.noise("unigram")), size)
        negatives = draw_negatives(chances, torch.Generator().manual_seed(0)).to(vectors.device)
        logs = chances.log().float().to(vectors.device)
        vectors.requires_grad_()
        descent = torch.optim.Adam([vectors], lr=INFERENCE_LR)
        for epoch in range(epochs):
            codes = self.code(self.logits(net, vectors))
            loss = self._prediction(net, codes, batch["document"], batch, negatives, logs)
            # the sum over words: what a document gets does not depend on how many others are here
            (vectors.grad,) = torch.autograd.grad(loss * len(batch["word"]), vectors)
            descent.param_groups[0]["lr"] = INFERENCE_LR * (1 - epoch / epochs)
            descent.step()
        return vectors.detach()

    def transform(
        self, X: Any, *, columns: dict[str, str] | None = None, packed: bool = False, epochs: int | None = None
    ) -> np.ndarray:
        """Codes of texts, bool (n, bits), or uint8 (n, bits / 8) if `packed`.

        Words stay as they were learned. Equal texts have equal codes, whatever they come with.

        Parameters
        ----------
        X, columns : as in `fit`
        packed : eight bits a byte, see `nolabel.ops.pack_bits`
        epochs : passes over the words of each text, instead of `inference_epochs`

        Raises
        ------
        ValueError : texts without a known word, unless ``on_empty="zero"``; bits that are no multiple of 8, if `packed`
        """
        self.require_fitted()
        if packed and self.bits % 8:
            raise ValueError(f"packed codes need bits that are a multiple of 8, got bits={self.bits}")
        codes = self.transform_source(self.open_one(X, columns), epochs=_passes(epochs)) > 0
        return pack_bits(codes) if packed else codes

    def transform_real(self, X: Any, *, columns: dict[str, str] | None = None, epochs: int | None = None) -> np.ndarray:
        """Real vectors of texts, float32 (n, real_dim), of ``real-binary``: to rank a short list again by cosine."""
        self.require_fitted()
        if self.model != "real-binary":
            raise ValueError(f"only model='real-binary' has real vectors, this is {self.model!r}")
        return self.transform_source(self.open_one(X, columns), real=True, epochs=_passes(epochs))

    def search_rows(self, X: Any, *, query: bool = False) -> dict[str, Any]:
        """What `nolabel.search.Index` compares: packed codes, and real vectors where there are any."""
        codes = {"binary": self.transform(X, packed=True)}
        return codes | ({"dense": self.transform_real(X)} if self.model == "real-binary" else {})

    @torch.no_grad()
    def codes_of(self, real: np.ndarray) -> np.ndarray:
        """The codes, bool (n, bits), of vectors that `transform_real` returned."""
        self.require_fitted()
        if self.model != "real-binary" or np.ndim(real) != 2 or np.shape(real)[1] != self._width:
            came = f"shape {np.shape(real)} of model={self.model!r}"
            raise ValueError(f"real must be (n, {self._width}) vectors of model='real-binary', got {came}")
        net: Any = self.net_
        vectors = torch.as_tensor(np.asarray(real, np.float32), device=net.projection.weight.device)
        return self.logits(net, vectors).cpu().numpy() > 0

    @property
    def codes_(self) -> np.ndarray:
        self.require_fitted()
        net: Any = self.net_
        with torch.no_grad():
            codes: np.ndarray = self.logits(net, net.documents.weight).cpu().numpy() > 0
        codes[self.empty_] = False
        return codes

    @property
    def real_(self) -> np.ndarray:
        self.require_fitted()
        if self.model != "real-binary":
            raise AttributeError(f"only model='real-binary' has real vectors, this is {self.model!r}")
        net: Any = self.net_
        vectors: np.ndarray = net.documents.weight.detach().cpu().numpy().copy()
        vectors[self.empty_] = 0.0
        return vectors

    @property
    def _width(self) -> int:
        """Of a document's own vector."""
        return (self.real_dim or 100) if self.model == "real-binary" else self.bits

    def _check(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"model must be one of {', '.join(MODELS)}, got {self.model!r}")
        if self.on_empty not in ("error", "zero"):
            raise ValueError(f"on_empty must be 'error' or 'zero', got {self.on_empty!r}")
        if self.real_dim is not None and self.model != "real-binary":
            raise ValueError(
                f"real_dim belongs to model='real-binary', got real_dim={self.real_dim} with {self.model!r}"
            )
        whole = {"bits": 1, "unigrams": 1, "bigrams": 0, "min_count": 1, "negatives": 1, "window": 1, "word_dim": 1,
                 "inference_epochs": 1} | ({} if self.real_dim is None else {"real_dim": 1})  # fmt: skip
        for name, least in whole.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if not 0 <= self.balance < math.inf:
            raise ValueError(f"balance must be a number of at least 0, got {self.balance!r}")


def _passes(epochs: int | None) -> int | None:
    if epochs is not None and (isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1):
        raise ValueError(f"epochs must be a whole number of at least 1, got {epochs!r}")
    return epochs
