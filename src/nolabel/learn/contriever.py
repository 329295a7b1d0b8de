"""Contriever: search texts without a single query to learn from, by telling which crops come from one place.

A corpus is one stream of tokens, cut into chunks. Two crops of a chunk, each without a tenth of its tokens, are a query x
and a key y. With the encoder f and its moving average g, unit vectors q_i = f(x_i), k_i = g(y_i), and a queue of past keys u,

    L = -mean_i log( exp(q_i·k_i / t) / (exp(q_i·k_i / t) + sum_j exp(q_i·u_j / t)) ),

where g <- m g + (1 - m) f comes before the keys and the queue takes them in afterwards. ``contrast="inbatch"`` encodes both
crops with f and takes the other keys of the batch as negatives instead. With pairs of queries and passages, `fit_pairs` goes
on from there: negatives at random first, then those that the model itself mistakes for the answer.

Izacard, Caron, Hosseini, Riedel, Bojanowski, Joulin & Grave, "Unsupervised dense information retrieval with contrastive
learning", TMLR 2022, arXiv:2112.09118. Differences: vectors of unit length, without which a temperature of 0.05 explodes from
random weights; a cosine brings the rate down; sizes for small corpora.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.optim import Optimizer

from nolabel.data.chunks import ChunkSource
from nolabel.data.text_pairs import list_of_texts, pair_columns
from nolabel.data.tokenisers import read_tokeniser, special_ids
from nolabel.learn.fine_tuning import fine_tuned
from nolabel.learn.ranking import depth_within, ranking_score, texts_to_find
from nolabel.ops.info_nce import info_nce_losses
from nolabel.ops.neighbours import nearest
from nolabel.training import Clock, FeatureQueue, TextLearner, Training, ema_update, gather, target_copy
from nolabel.training.batches import Rows, bucketed, cycled
from nolabel.training.optimisers import parameter_groups
from nolabel.views.spans import exchange, inverse_cloze, mask_out, shuffle
from nolabel.views.tokens import Tokens, crop, delete

PERTURBATIONS = ("delete", "mask", "replace", "shuffle", "none")
#: Tokens that a text may have before it is cut into chunks.
WHOLE = 10**9
#: Keys of a queue whose size is left open, if the chunks are enough.
LONGEST_QUEUE = 2048


class Contriever(TextLearner):
    """Learn to search texts from the texts alone; with pairs of queries and answers, better still.

    Use it where words differ between questions and answers, together with BM25 rather than instead of it: trained for
    minutes on a small corpus it does not beat BM25, fused with it it may help. Chunks should be about as long as the texts to
    be found; positions beyond a chunk are never trained. With a queue the loss rises while the noise it
    begins with leaves it.

    Parameters
    ----------
    encoder : ``bert-tiny``, ``bert-1x96``, ... from random weights, or ``hf:`` / ``st:`` and a name (the paper: BERT-base)
    view : ``crop`` (two crops), or ``ict`` (a span and the rest of the chunk: the inverse cloze task)
    ratio_min, ratio_max : length of a crop or span as a share of its chunk (paper: 0.05 and 0.5)
    perturbation : what befalls tokens of a view: ``delete``, ``mask``, ``replace`` (by any other token), ``shuffle``, ``none``
    perturbation_probability : share of tokens it befalls
    chunk : tokens of a chunk (paper: 256)
    joined : cut the corpus as one stream, as in the paper; False: each text by itself, for short texts in random order
    contrast : ``inbatch``, or ``moco`` (queue and moving average: the paper), which needs more steps to be as good
    queue_size : keys remembered (paper: 131,072); cut to whole batches, and to half of the chunks, for a longer queue holds the
        other crops of a query's own chunk. ``None``: 2,048, or as many as may be
    momentum : of the moving average, in [0, 1) (paper: 0.9995)
    temperature : of the softmax
    normalise : unit vectors, scores are cosines; the paper's recipe, from pre-trained weights, leaves them as they are
    sources : column that says which corpus a text is from: a batch then holds one corpus only, or its negatives would be told by
        their corpus
    source_exponent : corpora are drawn in proportion to their tokens to this power; 0: equally often
    vocabulary_size : word pieces learned from the texts; of no effect where the encoder brings a tokeniser
    max_length : tokens a text is cut to by `transform`
    training : how long and on what to train; an epoch sees each chunk once

    Attributes
    ----------
    queue_ : keys remembered, 0 without a queue
    dropped_ : texts left out of the fit, empty or of a single token
    vectors_ : (n, d) of the indexed texts
    tuning_ : losses of `fit_pairs`, one list a round

    Examples
    --------
    >>> texts = ["the cat sat on the mat", "stocks fell on monday", "the dog sat on the rug", "shares rose on friday"] * 8
    >>> model = Contriever("bert-1x32", vocabulary_size=120, chunk=8, training=Training(steps=2)).fit(texts)
    >>> ids, scores = model.index(texts[:4]).search(["shares on monday"], k=2)
    >>> ids.shape, scores.shape
    ((1, 2), (1, 2))
    """

    def __init__(
        self,
        encoder: str = "bert-tiny",
        *,
        view: str = "crop",
        ratio_min: float = 0.1,
        ratio_max: float = 0.6,
        perturbation: str = "delete",
        perturbation_probability: float = 0.1,
        chunk: int = 64,
        joined: bool = True,
        contrast: str = "inbatch",
        queue_size: int | None = None,
        momentum: float = 0.99,
        temperature: float = 0.05,
        normalise: bool = True,
        sources: str | None = None,
        source_exponent: float = 0.0,
        vocabulary_size: int = 8000,
        max_length: int = 256,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.view = view
        self.ratio_min = ratio_min
        self.ratio_max = ratio_max
        self.perturbation = perturbation
        self.perturbation_probability = perturbation_probability
        self.chunk = chunk
        self.joined = joined
        self.contrast = contrast
        self.queue_size = queue_size
        self.momentum = momentum
        self.temperature = temperature
        self.normalise = normalise
        self.sources = sources
        self.source_exponent = source_exponent
        self.vocabulary_size = vocabulary_size
        self.max_length = max_length
        self.training = training

    @property
    def recipe(self) -> dict[str, Any]:
        """The paper's, for a model that exists; from random weights a higher rate."""
        lr = 5e-5 if self._brings_tokeniser else 2e-3
        return {"optimiser": "adamw", "lr": lr, "weight_decay": 0.01, "warmup": 0.05, "clip": 1.0, "batch_size": 128}

    @property
    def unit(self) -> bool:
        return self.normalise

    # Chunks -----------------------------------------------------------------------------------------------------------

    def open(self, data: Any, columns: dict[str, str] | None) -> Any:
        """The chunks to learn from."""
        from nolabel.data import read
        from nolabel.data.columns import require_column
        from nolabel.data.tokens import TokenSource

        self._check()
        table, groups = read(data, columns=columns), None
        if self.sources is not None:
            require_column(table, self.sources, "sources")
            named = np.array([str(name) for name in table[self.sources]])
            order = np.argsort(named, kind="stable")
            table, groups = table.select(order), np.unique(named[order], return_inverse=True)[1]
        texts = TokenSource(table, self.columns, self._tokeniser(table, self.columns), WHOLE)
        here = None if groups is None else groups[texts.rows]
        return ChunkSource(texts, self.chunk, groups=here, joined=self.joined)

    def prepare(self, source: Any, folder: Any) -> None:
        super().prepare(source, folder)
        self.dropped_, self.corpora_ = len(source.skipped), len(source.sizes)
        batch = self.training_.batch_size or 1
        chunks = np.bincount(source.group, minlength=self.corpora_)
        least = int(chunks[source.sizes > 0].min())
        if least < batch:
            raise ValueError(f"sources: a corpus has {least} chunks, fewer than training.batch_size={batch}: lower it")
        self.queue_ = self._queue_rows(batch, least) if self.contrast == "moco" else 0

    def _queue_rows(self, batch: int, chunks: int) -> int:
        """Keys to remember: whole batches, and no more than half of the chunks."""
        most = max(chunks // 2 // batch, 1) * batch
        rows = min(max((self.queue_size or LONGEST_QUEUE) // batch, 1) * batch, most)
        if self.queue_size is not None and rows != self.queue_size:
            why = f"whole batches of {batch}" + (f", at most half of the {chunks} chunks" if rows == most else "")
            warnings.warn(f"queue_size={self.queue_size} changed to {rows}: {why}", stacklevel=3)
        return rows

    def plan(self, source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        """Batches of one corpus each, of chunks whose borders were moved for this epoch."""
        shifts, batches = source.shifts(rng), len(source) // batch_size
        shares = source.sizes.clip(1).astype(float) ** self.source_exponent * (source.sizes > 0)
        found: list[np.ndarray] = []
        for group, number in enumerate(rng.multinomial(batches, shares / shares.sum())):
            members = np.flatnonzero(source.group == group)
            drawn = members[cycled(len(members), number * batch_size, rng)] if number else members[:0]
            found += [drawn[part] for part in bucketed(source.lengths["text"][drawn], batch_size, rng)]
        return [np.column_stack([found[i], shifts[found[i]]]) for i in rng.permutation(len(found))]

    # Learning ---------------------------------------------------------------------------------------------------------

    def build(self, example: dict[str, Any]) -> nn.Module:
        net: Any = nn.Module()
        net.encoder = self.make_encoder()
        longest = net.encoder.max_length
        if self.chunk + 2 > longest:
            raise ValueError(
                f"chunk must be at most {longest - 2}, for the encoder reads {longest} tokens with start and end, "
                f"got {self.chunk}: lower it or raise max_length"
            )
        tokeniser = read_tokeniser(self.tokeniser_)
        self._special = special_ids(tokeniser)
        self._ordinary = torch.from_numpy(np.setdiff1d(np.arange(tokeniser.get_vocab_size()), self._special.all))
        if self.perturbation == "mask" and self._special.mask < 0:
            raise ValueError("perturbation='mask' needs a tokeniser with a mask token")
        if self.contrast == "moco":
            net.target = target_copy(net.encoder)
            net.queues = nn.ModuleList(FeatureQueue(self.queue_, net.encoder.dim) for _ in range(self.corpora_))
            for queue in net.queues:
                queue.push(normalize(torch.randn(self.queue_, net.encoder.dim), dim=1))
        return net

    def optimisers(self, net: nn.Module, settings: Training) -> dict[str, Optimizer]:
        """The paper's AdamW; another optimiser if asked for."""
        if settings.optimiser != "adamw":
            return super().optimisers(net, settings)
        assert settings.lr is not None
        assert settings.weight_decay is not None
        groups = parameter_groups(net, settings.weight_decay)
        return {"main": torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.98), eps=1e-6, fused=True)}

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tokens, Tokens, int]:
        """Query, key, and the corpus they are from."""
        tokens, mask = batch["text"]["tokens"], batch["text"]["mask"]
        ratio, pad = (self.ratio_min, self.ratio_max), self._special.pad
        if self.view == "ict":
            query, key = inverse_cloze(tokens, mask, ratio, generator, pad=pad)
        else:
            query, key = (crop(tokens, mask, ratio, generator, pad=pad) for _ in range(2))
        return self._perturbed(query, generator), self._perturbed(key, generator), int(batch["group"][0])

    def _perturbed(self, seen: Tokens, generator: torch.Generator) -> Tokens:
        p, kind = self.perturbation_probability, self.perturbation
        if kind == "delete":
            return delete(*seen, p, generator, pad=self._special.pad)
        if kind == "mask":
            return mask_out(*seen, p, generator, mask_id=self._special.mask)
        if kind == "shuffle":
            return shuffle(*seen, p, generator)
        return exchange(*seen, p, generator, self._ordinary) if kind == "replace" else seen

    def before_step(self, net: Any, clock: Clock) -> None:
        if self.contrast == "moco":
            ema_update(net.target, net.encoder, self.momentum)

    def loss(self, net: Any, views: tuple[Tokens, Tokens, int]) -> Tensor:
        query, key, corpus = views
        q = self._vectors(net.encoder, query)  # (b, d)
        if self.contrast == "inbatch":
            k = self._vectors(net.encoder, key)
            return info_nce_losses(gather(q), gather(k), temperature=self.temperature).mean()
        with torch.no_grad():
            k = self._vectors(net.target, key)
        queue = net.queues[corpus]
        past = queue.rows.clone()  # the backward pass needs them as they are now
        queue.push(gather(k))
        return info_nce_losses(q, k, negatives=past, temperature=self.temperature).mean()

    def _vectors(self, encoder: Any, seen: Tokens) -> Tensor:
        vectors: Tensor = encoder(seen.tokens, seen.mask).float()
        return normalize(vectors, dim=1) if self.normalise else vectors

    def encode(self, net: nn.Module, batch: dict[str, Any]) -> Tensor:
        vectors = super().encode(net, batch).float()
        return normalize(vectors, dim=1) if self.normalise else vectors

    def fit_pairs(
        self,
        queries: Sequence[str],
        positives: Sequence[str],
        negatives: Any = None,
        *,
        corpus: Sequence[str] = (),
        hard_ratio: float = 0.1,
        training: Training | None = None,
    ) -> Self:
        """Go on learning from pairs of a query and the passage that answers it.

        Every query has one negative beside the other passages of its batch: with probability `hard_ratio` a hard one, else any
        passage. Without `negatives` there are two rounds, each from the weights at hand: one with negatives at random, and one
        with those that the first round's model ranks highest.

        Parameters
        ----------
        queries, positives : n texts each; positive i answers query i
        negatives : n texts that do not answer, or n lists of them, or a multiple of n
        corpus : further passages to draw and mine negatives from
        hard_ratio : in [0, 1]; 0: no second round
        training : how long; the default is 10 epochs of batches of 64 at a fifth of the rate of `fit`

        Raises
        ------
        NotFittedError : before `fit`
        ValueError, TypeError : numbers that do not fit, anything but texts, a ratio out of range
        """
        self.require_fitted()
        if not 0 <= hard_ratio <= 1:
            raise ValueError(f"hard_ratio must lie in [0, 1], got {hard_ratio}")
        columns = pair_columns(queries, positives, negatives)
        further = list_of_texts("corpus", corpus)
        tuned, losses = fine_tuned(self, columns, further, hard_ratio, training)
        net: Any = self.net_
        net.encoder.load_state_dict(tuned)
        self.tuning_ = losses
        self.__dict__.pop("vectors_", None)  # of the encoder as it was
        return self

    # Searching --------------------------------------------------------------------------------------------------------

    def index(self, documents: Sequence[str]) -> Self:
        """Encode documents for `search`, in memory; `nolabel.search.Index` keeps them on disk and searches many quickly."""
        self.require_fitted()
        self.vectors_ = self.transform({"text": texts_to_find("documents", documents)})
        return self

    def search(self, queries: Sequence[str], k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Positions (q, k) of the k indexed documents with the highest scores, best first, and the scores (q, k).

        Raises
        ------
        ValueError : before `index`, k below 1 or above the number of documents, an empty query
        TypeError : queries that are not texts
        """
        documents = self._indexed()
        k = depth_within(k, len(documents))
        asked = self.transform({"text": texts_to_find("queries", queries)})
        scores, ids = nearest(asked, documents, k, metric="dot")
        return ids, scores

    def score(self, queries: Sequence[str], relevant: Sequence[Any], metric: str = "recall@10") -> float:
        """How well `search` ranks the documents that are relevant to each query.

        Parameters
        ----------
        queries : texts
        relevant : for each query a position, a collection of positions, or a dict from position to grade
        metric : ``recall``, ``hit_rate``, ``mrr``, ``map`` or ``ndcg`` and a depth: ``ndcg@10``
        """
        documents = self._indexed()
        return ranking_score(lambda k: self.search(queries, k)[0], relevant, metric, len(documents))

    def _indexed(self) -> np.ndarray:
        self.require_fitted()
        if not hasattr(self, "vectors_"):
            raise ValueError("nothing to search: call index(documents) first")
        return self.vectors_

    def _check(self) -> None:
        super()._check()
        for name, known in (
            ("view", ("crop", "ict")),
            ("perturbation", PERTURBATIONS),
            ("contrast", ("moco", "inbatch")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if not 0 < self.ratio_min <= self.ratio_max <= 1:
            came = f"{self.ratio_min} and {self.ratio_max}"
            raise ValueError(f"ratio_min and ratio_max must be shares with 0 < ratio_min <= ratio_max <= 1, got {came}")
        if not 0 <= self.perturbation_probability < 1:
            raise ValueError(f"perturbation_probability must lie in [0, 1), got {self.perturbation_probability}")
        for name, least in (("chunk", 2), ("queue_size", 1)):
            value = least if name == "queue_size" and self.queue_size is None else getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
