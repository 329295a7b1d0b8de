"""Several vectors a word, one for each of its senses, learned from raw text alone.

A word w has S sense vectors E[w, s]. Which sense is meant follows from the mean of the output vectors of the words
around, through which no gradient flows:

    p = softmax(D[w]^T mean_c O[c] + a[w]),   z = softmax((log p + g) / T),   h = sum_s z_s E[w, s],

with Gumbel noise g in training; h predicts each word around w by sampled softmax over O h + b. Everything learns by
gradients; nothing is clustered. In the first stage all words share one D and one a, there is no noise and T = 1, and
certainty costs (a negative weight of the entropy of p), so that all senses stay in use. In the second each word has its own,
which begin where the shared ones ended, and T falls from 1 to 1/2. Senses that the corpus hardly uses are pruned afterwards.

Grzegorczyk & Kurdziel, "Disambiguated skip-gram model", EMNLP 2018, D18-1174. Differences: Adam instead of SGD with
momentum; one noise draw for all words around an occurrence (one for each with `exclude_target`); frequent
words are thinned out as in word2vec; negatives of a step are all different, and shared.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nolabel.assess.senses import SenseReport, pruned, sense_report
from nolabel.data.sources import Skipped
from nolabel.data.stop_words import stop_words
from nolabel.data.vocabulary import Vocabulary
from nolabel.data.word_windows import WordLists, WordWindows
from nolabel.data.words import read_words, split_words
from nolabel.objectives.entropy import mean_entropy
from nolabel.objectives.sampled_softmax import draw_negatives, inclusion_probabilities, sampled_softmax
from nolabel.ops.gumbel_softmax import gumbel_softmax
from nolabel.training import Learner, Training
from nolabel.training.batches import Rows, shuffled
from nolabel.training.clock import Clock
from nolabel.training.ranks import world
from nolabel.training.row_adam import row_adam

#: Share of the second stage in which the temperature falls: one of the paper's three epochs.
COOLING = 1 / 3
#: Occurrences looked at together where nothing is learned.
AT_ONCE = 8192


class DisambiguatedSkipGram(Learner):
    """Learn a vector for each sense of a word, and tell in a context which sense is meant.

    Use it to induce senses without a dictionary from some millions of words. It finds topics better than fine shades of
    meaning; on small corpora, clustering the contexts of one plain skip-gram is as good or better.

    Parameters
    ----------
    n_senses : vectors a word; 5 in the paper
    dim : width of the vectors; 300 in the paper
    window : words on either side
    min_count : how often a word has to occur; 100 in the paper
    stop_words : words to leave out, or ``english``; ``None`` for none
    lowercase : drop capitals of texts; lists of words stay as they are
    subsample : words more frequent than this share are thinned out; 0 for never
    pretraining : share of the run that the first stage takes
    temperature : of the Gumbel-softmax at the beginning of the second stage and after a third of it
    gumbel : whether the second stage draws a sense; without, it mixes them by their probabilities
    entropy_weight : of the entropy of p in the two stages; below 0 rewards it
    exclude_target : take the predicted word out of the mean of its own context; slower
    negatives : words a step, drawn log-uniformly over the words by frequency
    prune : senses with less than this share of a word's occurrences are dropped
    training : how long and on what to train; `batch_size` counts occurrences

    Attributes
    ----------
    vocabulary_ : the words, by falling frequency
    sense_vectors_ : (words, senses, dim) float32
    priors_ : (words, senses) share of each sense, pruned ones 0; rows sum to 1
    report_ : `SenseReport`

    Examples
    --------
    >>> fruit = ["apple pie sweet juice", "juice sweet apple pie", "sweet pie juice apple"] * 20
    >>> firm = ["apple share profit market", "market profit apple share", "profit share market apple"] * 20
    >>> training = Training(epochs=60, lr=0.02, batch_size=64)
    >>> model = DisambiguatedSkipGram(2, dim=8, subsample=0, training=training).fit(fruit + firm)
    >>> labels = model.induce("apple", ["sweet pie", "market share", "juice", "profit"])
    >>> bool(labels[0] == labels[2] != labels[1] == labels[3])
    True
    """

    columns = ("text",)
    recipe = {"optimiser": "adam", "lr": 5e-3, "weight_decay": 0.0, "batch_size": 1024, "epochs": 6, "warmup": 0.0}  # noqa: RUF012

    vocabulary_: Vocabulary
    raw_priors_: np.ndarray
    report_: SenseReport

    def __init__(
        self,
        n_senses: int = 3,
        *,
        dim: int = 50,
        window: int = 5,
        min_count: int = 5,
        stop_words: Any = "english",
        lowercase: bool = True,
        subsample: float = 1e-3,
        pretraining: float = 0.25,
        temperature: tuple[float, float] = (1.0, 0.5),
        gumbel: bool = True,
        entropy_weight: tuple[float, float] = (-0.1, 0.0),
        exclude_target: bool = False,
        negatives: int = 64,
        prune: float = 0.05,
        training: Training | None = None,
    ) -> None:
        self.n_senses = n_senses
        self.dim = dim
        self.window = window
        self.min_count = min_count
        self.stop_words = stop_words
        self.lowercase = lowercase
        self.subsample = subsample
        self.pretraining = pretraining
        self.temperature = temperature
        self.gumbel = gumbel
        self.entropy_weight = entropy_weight
        self.exclude_target = exclude_target
        self.negatives = negatives
        self.prune = prune
        self.training = training

    # Reading ----------------------------------------------------------------------------------------------------------

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        """Occurrences of words to learn from; of a fitted model, whole texts to encode."""
        self._check()
        texts = read_words(data, columns=columns, lowercase=self.lowercase)
        fitted = hasattr(self, "vocabulary_")
        left_out = stop_words(self.stop_words)
        vocabulary = self.vocabulary_ if fitted else Vocabulary.of(texts, min_count=self.min_count, stop_words=left_out)
        ids, offsets = vocabulary.encode(texts)
        short = np.flatnonzero(np.diff(offsets) < (1 if fitted else 2))
        skipped = [Skipped(int(row), None, "fewer than 2 words of the vocabulary") for row in short]
        if len(short) == len(texts):
            raise ValueError(
                f"text: none of {len(texts)} texts has {'a word' if fitted else '2 words'} of the vocabulary"
            )
        windows = WordWindows(
            ids, offsets, before=self.window, after=self.window, vocabulary=vocabulary, skipped=skipped
        )
        return WordLists(windows) if fitted else windows

    def prepare(self, source: Any, folder: Any) -> None:
        if world() > 1:
            raise ValueError(
                "DisambiguatedSkipGram trains on one device, for in each of its stages a table of words stands still: set "
                f"training.devices and training.nodes to 1, got {world()} processes"
            )
        self.vocabulary_ = source.vocabulary

    def plan(self, source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        """The occurrences that are left after thinning out, in random order; those alone in their text predict nothing."""
        kept = source.thin(self.vocabulary_.keep_probabilities(self.subsample), rng)
        texts = source.documents[kept]
        kept = kept[np.bincount(texts, minlength=source.texts)[texts] > 1]
        return [kept[rows] for rows in shuffled(len(kept), min(batch_size, len(kept)), rng)] if len(kept) else []

    # Learning ---------------------------------------------------------------------------------------------------------

    def build(self, example: dict[str, Any]) -> nn.Module:
        words, senses, dim = len(self.vocabulary_), self.n_senses, self.dim
        net: Any = nn.Module()
        net.senses = nn.Embedding(words, senses * dim, sparse=True)
        nn.init.uniform_(net.senses.weight, -0.5 / (dim * senses), 0.5 / (dim * senses))
        net.outputs = nn.Embedding(words, dim, sparse=True)
        nn.init.normal_(net.outputs.weight, std=0.01)
        net.biases = nn.Embedding(words, 1, sparse=True)
        net.shared = nn.Embedding(1, senses * (dim + 1), sparse=True)  # D and a of the first stage
        net.own = nn.Embedding(words, senses * (dim + 1), sparse=True)  # what each word adds in the second
        for table in (net.biases, net.shared, net.own):
            nn.init.zeros_(table.weight)
        chances = inclusion_probabilities(torch.from_numpy(self.vocabulary_.noise("log-uniform")), self.negatives)
        net.register_buffer("chances", chances, persistent=False)
        net.second_stage, net.coolness = True, 1.0  # as a loaded network is used
        return net

    def optimisers(self, net: nn.Module, settings: Training) -> dict[str, Optimizer]:
        return row_adam(net, settings)

    def before_step(self, net: Any, clock: Clock) -> None:
        net.second_stage = clock.fraction >= self.pretraining
        passed = (clock.fraction - self.pretraining) / (1 - self.pretraining)
        net.coolness = min(max(passed / COOLING, 0.0), 1.0)

    def loss(self, net: Any, views: dict[str, Tensor]) -> dict[str, Tensor]:
        with torch.autocast(views["word"].device.type, enabled=False):
            context = views["context"]  # (b, c), -1 for none
            known = context >= 0
            rows = net.outputs(context.clamp(min=0))  # (b, c, d)
            logits = self._sense_logits(net, views["word"], self._contexts(rows.detach(), known))
            p = logits.softmax(dim=-1)  # (b, 1 or c, S)
            mixture = p
            if net.second_stage and self.gumbel:
                mixture = gumbel_softmax(logits, self._temperature(net))
            vectors = mixture @ net.senses(views["word"]).view(-1, self.n_senses, self.dim)  # (b, 1 or c, d)
            true = (rows * vectors).sum(dim=-1)[known] + net.biases(context[known])[:, 0]  # (n,)
            negatives = draw_negatives(net.chances)
            hidden = vectors[known] if self.exclude_target else vectors[:, 0]
            false = hidden @ net.outputs(negatives).T + net.biases(negatives)[:, 0]
            owner = None if self.exclude_target else known.nonzero()[:, 0]
            chances = net.chances.log().float()
            terms = {"prediction": sampled_softmax(true, false, context[known], negatives, chances, rows=owner)}
            weight = self.entropy_weight[int(net.second_stage)]
            if weight:
                terms["entropy"] = weight * mean_entropy(p)
        return terms

    def _temperature(self, net: Any) -> float:
        first, last = self.temperature
        return first + (last - first) * float(net.coolness)

    def _contexts(self, rows: Tensor, known: Tensor) -> Tensor:
        """Mean output vector of the words around: (b, 1, d), or (b, c, d) without the word that is to be predicted."""
        rows = rows * known[..., None]
        total, count = rows.sum(dim=1, keepdim=True), known.sum(dim=1)[:, None, None]
        if self.exclude_target:
            total, count = total - rows, count - 1
        return total / count.clamp(min=1)

    def _sense_logits(self, net: Any, words: Tensor, contexts: Tensor) -> Tensor:
        """D[w]^T context + a[w]: (b, k, S) for contexts (b, k, d)."""
        if net.second_stage:
            weights = net.shared.weight.detach() + net.own(words)
        else:
            weights = net.shared(torch.zeros_like(words[:1])).expand(len(words), -1)
        weights = weights.view(-1, self.n_senses, self.dim + 1)
        logits: Tensor = contexts @ weights[..., : self.dim].mT + weights[:, None, :, self.dim]
        return logits

    @torch.no_grad()
    def finish(self, source: Any) -> None:
        """Read the corpus once for how often each word has each sense."""
        net: Any = self.net_
        net.second_stage = True
        source.kept = None  # every word counts again
        sums = torch.zeros(len(self.vocabulary_), self.n_senses, dtype=torch.float64)
        certainty = 0.0
        for start in range(0, len(source), AT_ONCE):
            batch = source.batch(np.arange(start, min(start + AT_ONCE, len(source))))
            p = self._probabilities(net, batch).cpu()
            sums.index_add_(0, batch["word"], p.double())
            certainty += float(p.amax(dim=1).sum())
        self.raw_priors_ = (sums / sums.sum(dim=1, keepdim=True)).numpy().astype(np.float32)
        self.report_ = sense_report(
            self.sense_vectors_, self.raw_priors_, prune=self.prune, certainty=certainty / len(source)
        )
        if self.report_.collapsed:
            warnings.warn(
                f"the senses are hardly senses: the least used one has a share of {self.report_.least_prior:.3f}, the "
                f"largest cosine of two is {self.report_.cosine:.3f}; try a more negative entropy_weight[0] or longer training",
                stacklevel=2,
            )

    def _probabilities(self, net: Any, batch: dict[str, Tensor]) -> Tensor:
        """p(sense | word, context) of occurrences, without noise: (b, S). Without a context it is that of a mean of 0."""
        known = batch["context"] >= 0
        rows = net.outputs(batch["context"].clamp(min=0)) * known[..., None]
        mean = rows.sum(dim=1, keepdim=True) / known.sum(dim=1)[:, None, None].clamp(min=1)
        return self._sense_logits(net, batch["word"], mean)[:, 0].softmax(dim=1)

    def _expected(self, net: Any, batch: dict[str, Tensor], p: Tensor) -> Tensor:
        """Mean sense vector of occurrences under p: (b, d)."""
        return torch.einsum("bs,bsd->bd", p, net.senses(batch["word"]).view(-1, self.n_senses, self.dim))

    def judge(
        self, net: nn.Module, batch: dict[str, Any], generator: torch.Generator
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """The expected sense vectors of occurrences."""
        return {"representation": (self._expected(net, batch, self._probabilities(net, batch)), None)}

    # Using ------------------------------------------------------------------------------------------------------------

    @property
    def sense_vectors_(self) -> np.ndarray:
        net: Any = self.net_
        vectors: np.ndarray = net.senses.weight.detach().cpu().numpy()
        return vectors.reshape(-1, self.n_senses, self.dim)

    @property
    def priors_(self) -> np.ndarray:
        self.require_fitted()
        return pruned(self.raw_priors_, self.raw_priors_ >= self.prune)

    def disambiguate(self, word: str, context: str | Sequence[str]) -> np.ndarray:
        """Probability of each sense of a word among the words of a context of any length: (senses,), pruned ones 0.

        The word itself and words that are not known do not count; if nothing is left, the answer is the prior, with a
        warning.

        Raises
        ------
        KeyError : a word that is not in the vocabulary; the message names the nearest
        """
        return self.probabilities(word, [context])[0]

    def induce(self, word: str, contexts: Sequence[str | Sequence[str]]) -> np.ndarray:
        """The likeliest sense of a word in each context, int64 (n,). Errors and the lack of a context as in `disambiguate`."""
        return self.probabilities(word, contexts).argmax(axis=1)

    @torch.no_grad()
    def probabilities(self, word: str, contexts: Sequence[str | Sequence[str]]) -> np.ndarray:
        """Probability of each sense of a word in each context, (n, senses); errors and lack of context as in `disambiguate`."""
        self.require_fitted()
        number = self.vocabulary_.id_of(word)
        means = torch.from_numpy(self.context_vectors(contexts, without=word))[:, None]  # (n, 1, d)
        found = self._sense_logits(self.net_, torch.full((len(means),), number), means)[:, 0]
        p = found.softmax(dim=1).numpy()
        empty = np.isnan(p).any(axis=1)
        if empty.any():
            warnings.warn(
                f"{empty.sum()} of {len(contexts)} contexts of {word!r} have no known word: prior taken", stacklevel=3
            )
            p = np.where(empty[:, None], self.raw_priors_[number], p)
        return pruned(p, self.raw_priors_[number] >= self.prune)

    @torch.no_grad()
    def context_vectors(self, contexts: Sequence[str | Sequence[str]], *, without: str | None = None) -> np.ndarray:
        """Mean of the output vectors of the known words of each context but `without`: (n, dim), NaN where none is known."""
        self.require_fitted()
        if isinstance(contexts, str) or not isinstance(contexts, list | tuple | np.ndarray):
            raise TypeError(f"contexts must be a list of texts or of lists of words, got {type(contexts).__name__}")
        outputs: Any = self.net_.outputs
        means = []
        for context in contexts:
            if not isinstance(context, str | list | tuple):
                raise TypeError(f"a context must be a text or a list of words, got {type(context).__name__}")
            words = split_words(context, lowercase=self.lowercase) if isinstance(context, str) else context
            ids = [self.vocabulary_.index[w] for w in words if w != without and w in self.vocabulary_.index]
            means.append(outputs.weight[ids].mean(dim=0) if ids else torch.full((self.dim,), math.nan))
        return torch.stack(means).numpy() if means else np.zeros((0, self.dim), np.float32)

    def neighbours(self, word: str, sense: int, k: int = 10) -> list[tuple[str, int, float]]:
        """The senses of other words whose vectors have the largest cosine to this one: (word, sense, cosine), nearest first.

        Raises
        ------
        KeyError : a word that is not in the vocabulary
        ValueError : no such sense, or k below 1
        """
        self.require_fitted()
        number = self.vocabulary_.id_of(word)
        if isinstance(sense, bool) or not 0 <= sense < self.n_senses:
            raise ValueError(f"sense must be from 0 to {self.n_senses - 1}, got {sense!r}")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        unit = self.sense_vectors_ / np.maximum(np.linalg.norm(self.sense_vectors_, axis=2, keepdims=True), 1e-12)
        cosines = unit @ unit[number, sense]  # (words, senses)
        cosines[number] = -np.inf
        cosines[self.raw_priors_ < self.prune] = -np.inf
        best = np.argsort(-cosines, axis=None, kind="stable")[:k]
        found = [(int(i), int(s)) for i, s in zip(*np.unravel_index(best, cosines.shape))]
        return [(self.vocabulary_.words[i], s, float(cosines[i, s])) for i, s in found if cosines[i, s] > -np.inf]

    def encode(self, net: Any, batch: dict[str, Any], disambiguate: bool = True) -> Tensor:
        """Mean of the vectors of the words of each text: (b, dim)."""
        priors = torch.from_numpy(self.raw_priors_).to(batch["word"].device)[batch["word"]]
        with torch.autocast(batch["word"].device.type, enabled=False):
            p = self._probabilities(net, batch) if disambiguate else priors
            p = p * (priors >= self.prune)
            vectors = self._expected(net, batch, p / p.sum(dim=1, keepdim=True).clamp(min=1e-12))
        lengths = batch["lengths"][:, None].clamp(min=1)
        sums = torch.zeros(len(lengths), self.dim, device=vectors.device).index_add_(0, batch["document"], vectors)
        return sums / lengths

    def transform(self, X: Any, *, columns: dict[str, str] | None = None, disambiguate: bool = True) -> np.ndarray:
        """Vectors of texts, float32 (n, dim): the mean over words of their expected sense vectors.

        A text without a known word is a row of zeros, with one warning that counts them.

        Parameters
        ----------
        X, columns : as in `fit`
        disambiguate : expect by p(sense | word, context); else by the priors, whatever stands around
        """
        self.require_fitted()
        source = self.open_one(X, columns)
        if source.windows.skipped:
            first = source.windows.skipped[0].row
            warnings.warn(
                f"{len(source.windows.skipped)} of {len(source)} texts have no known word, first row {first}: zeros",
                stacklevel=2,
            )
        return self.transform_source(source, disambiguate=disambiguate)

    def _check(self) -> None:
        if self.n_senses == 1:
            raise ValueError("n_senses must be at least 2, got 1: for one vector a word use a plain skip-gram")
        whole = {"n_senses": 2, "dim": 1, "window": 1, "min_count": 1, "negatives": 1}
        for name, least in whole.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if len(self.temperature) != 2 or not all(t > 0 for t in self.temperature):
            raise ValueError(f"temperature must be two numbers above 0, first and last, got {self.temperature!r}")
        if len(self.entropy_weight) != 2 or not all(math.isfinite(w) for w in self.entropy_weight):
            raise ValueError(f"entropy_weight must be two numbers, of the two stages, got {self.entropy_weight!r}")
        if not 0 <= self.pretraining < 1:
            raise ValueError(f"pretraining is a share of the run and must lie in [0, 1), got {self.pretraining!r}")
        if not 0 <= self.prune < 1 / self.n_senses:
            raise ValueError(f"prune must lie in [0, 1/{self.n_senses}), or all senses could go, got {self.prune!r}")
        if not 0 <= self.subsample < math.inf:
            raise ValueError(f"subsample must be a number of at least 0, got {self.subsample!r}")
