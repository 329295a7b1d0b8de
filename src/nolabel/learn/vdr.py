"""VDR: search in a space whose dimensions are words, so that every score can be read.

Two encoders, one for queries and one for passages, give each text a weight for every word of the vocabulary, also for words
that it does not contain:

    v_w = elu1p( max over tokens t of LayerNorm(h_t) . e_w + b_w ),    elu1p(x) = x + 1 if x >= 0 else exp(x),

with the encoder's own word vectors e. A vector is made sparse by keeping its largest weights and the words of the text. Pairs
of a query and its passage have to find each other in the batch, from the sparse query and from its bare bag of words b:

    L = ( S(v_q^s, v_p) + S(b_q, v_p) ) / 2,

S the symmetric softmax over the batch. The contribution of word w to a score is v_qw v_pw.

Zhou, Li, Shang, Jiang, Liu & Chen, "Retrieval-based disentangled representation learning with natural language supervision",
ICLR 2024, arXiv:2212.07699. Differences: the maximum leaves out padding, start and end, so that a vector depends on its text
alone; a bias b, -3 at first, keeps the first inner products small; a passage that comes twice in a batch is no negative.
"""

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from scipy.sparse import csr_array, vstack
from torch import Tensor, nn
from torch.optim import Optimizer

from nolabel.data.text_pairs import NEGATIVE, PASSAGE, QUERY, PairSource
from nolabel.data.tokenisers import read_tokeniser
from nolabel.data.tokens import TokenSource
from nolabel.learn.ranking import depth_within, ranking_score, texts_to_find
from nolabel.learn.vocabulary_space import (
    ALL,
    TextTower,
    arrays_of,
    checked_topk,
    contributions,
    csr_of,
    places_of,
    ranked,
    require_words,
    sample,
    strongest,
    vocabulary,
    without_decay,
)
from nolabel.objectives.in_batch import false_negatives
from nolabel.objectives.vocabulary import sparsified, vocabulary_contrast, word_bag
from nolabel.training import TextLearner, Training, gather
from nolabel.training.batches import Rows, Some
from nolabel.training.text import first_text
from nolabel.views.tokens import delete

SIDES = (QUERY, PASSAGE)
#: Rows whose vectors are dense at a time.
BLOCK = 1024


class VDR(TextLearner):
    """Learn to search from pairs of queries and passages, with vectors of words that say why something was found.

    Use it where answers have to be explained or an inverted index is at hand. With some thousands of pairs and random weights it
    ranks far better than dense vectors of the same body, for words in common count from the first step, but not as well as
    BM25. `transform_sparse` gives what `nolabel.search.Index` takes as sparse vectors.

    Parameters
    ----------
    encoder : ``bert-tiny``, ... from random weights, or ``hf:`` / ``st:`` and a name; both sides begin from the same one
    topk : weights of a sparse vector beside those of the text's own words (the paper: 768 of 29,523)
    objective : ``vdr``, or ``svdr``: both sides are made sparse in turn, and passages have bags of words too
    bag_of_words : whether bags of words are learned from at all
    contrastive_mask : words that a batch lacks are dealt out to its rows, and all others learn to leave them alone
    normalise : unit vectors; take a `temperature` such as 0.05 with it
    temperature : of the softmax
    allow_empty : whether a text may have no word of the vocabulary
    vocabulary_size : word pieces learned from the texts; of no effect where the encoder brings a tokeniser
    query_length, passage_length : tokens that a text is cut to, start and end among them
    training : how long and on what to train

    Attributes
    ----------
    words_ : the words, as pieces: one dimension each
    indexed_ : the sparse vectors of the indexed passages, as the arrays of a CSR matrix

    Notes
    -----
    `fit` takes a table with the columns ``query`` and ``passage``, a row a pair, and perhaps ``negative``: a passage, or a list
    of passages, that does not answer; one of them joins the batch with each query. ``nolabel.data.text_pairs.pair_columns``
    makes it from lists. `transform` reads the column ``text``.

    Examples
    --------
    >>> found = [(c, t) for c in ("red", "blue", "green") for t in ("apple", "sky", "leaf", "sea", "rose", "car")]
    >>> pairs = {"query": [f"{c} {t}" for c, t in found], "passage": [f"a {t}, {c}" for c, t in found]}
    >>> vdr = VDR("bert-1x32", topk=4, vocabulary_size=90, training=Training(steps=5)).fit(pairs)
    >>> ids, scores = vdr.index(pairs["passage"]).search(["blue sea"], k=1)
    >>> pairs["passage"][ids[0, 0]], vdr.transform_sparse(["a rose"]).shape[1] == len(vdr.words_)
    ('a sea, blue', True)
    """

    columns = (QUERY, PASSAGE)
    transform_columns = ("text",)
    exportable = False  # its vectors are weights of words, not pooled states
    words_: list[str]
    word_ids_: np.ndarray
    indexed_: dict[str, np.ndarray]

    def __init__(
        self,
        encoder: str = "bert-tiny",
        *,
        topk: int = 128,
        objective: str = "vdr",
        bag_of_words: bool = True,
        contrastive_mask: bool = False,
        normalise: bool = False,
        temperature: float = 1.0,
        allow_empty: bool = False,
        vocabulary_size: int = 8000,
        query_length: int = 32,
        passage_length: int = 128,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.topk = topk
        self.objective = objective
        self.bag_of_words = bag_of_words
        self.contrastive_mask = contrastive_mask
        self.normalise = normalise
        self.temperature = temperature
        self.allow_empty = allow_empty
        self.vocabulary_size = vocabulary_size
        self.query_length = query_length
        self.passage_length = passage_length
        self.training = training

    @property
    def max_length(self) -> int:
        """The longer of both sides."""
        return max(self.query_length, self.passage_length)

    @property
    def recipe(self) -> dict[str, Any]:
        """The paper's, for a model that exists; from random weights a higher rate. Tied word vectors never decay."""
        lr = 2e-5 if self._brings_tokeniser else 1e-3
        return {"optimiser": "adamw", "lr": lr, "weight_decay": 0.0, "warmup": 0.05, "clip": 2.0, "batch_size": 64}

    # Reading ----------------------------------------------------------------------------------------------------------

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        from nolabel.data import read

        self._check()
        if (needed or self.columns) != self.columns:
            return self._side(data, columns, PASSAGE)
        table = read(data, columns=columns)
        negatives = (NEGATIVE,) if NEGATIVE in table.column_names else ()
        table = table.select_columns([name for name in (*self.columns, *negatives) if name in table.column_names])
        return PairSource(table, self._tokeniser(table, self.columns), self.limits(self.columns))

    def limits(self, needed: tuple[str, ...]) -> list[int]:
        lengths = {QUERY: self.query_length, PASSAGE: self.passage_length}
        longest = super().limits(("text",))[0]
        return [min(lengths.get(name, self.passage_length), longest) for name in needed]

    def _side(self, data: Any, columns: dict[str, str] | None, side: str) -> Any:
        """Texts as queries or as passages."""
        from nolabel.data import read

        self._known_side(side)
        table = read(data, columns=columns)
        source = TokenSource(table, ("text",), read_tokeniser(self.tokeniser_), self.limits((side,))[0])
        if not self.allow_empty:
            require_words("text", source, "text", self.word_ids_, source.rows)
        return source

    def prepare(self, source: Any, folder: Any) -> None:
        super().prepare(source, folder)
        tokeniser = read_tokeniser(self.tokeniser_)
        self.words_, self.word_ids_ = vocabulary(tokeniser)
        checked_topk(None, self.topk, len(self.words_), True)
        if not self.allow_empty:
            require_words(QUERY, source.queries, QUERY, self.word_ids_, source.rows)
            require_words(PASSAGE, source.passages, PASSAGE, self.word_ids_, source.passages.rows)

    def plan(self, source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        batches = super().plan(source, batch_size, rng)
        if not any(len(found) for found in source.hard):
            return batches
        return [source.with_negatives(rows, rng) for rows in batches]

    # Learning ---------------------------------------------------------------------------------------------------------

    def build(self, example: dict[str, Any]) -> nn.Module:
        net: Any = nn.Module()
        net.query = TextTower(self.make_encoder(), self.word_ids_)
        net.passage = copy.deepcopy(net.query)
        places = places_of(self.word_ids_, read_tokeniser(self.tokeniser_).get_vocab_size())
        net.register_buffer("places", torch.from_numpy(places), persistent=False)
        net.register_buffer("sample", sample(len(self.words_)), persistent=False)
        return net

    def optimisers(self, net: Any, settings: Training) -> dict[str, Optimizer]:
        """The word vectors are outputs too and never decay."""
        made = super().optimisers(net, settings)
        without_decay(made["main"], [tower.encoder.words.weight for tower in (net.query, net.passage)])
        return made

    def loss(self, net: Any, batch: dict[str, Any]) -> dict[str, Tensor]:
        b, numbers = len(batch["row"]), batch["passages"]
        queries, passages = (self._weights(net, batch[side], side) for side in SIDES)  # (b, v), (m, v)
        query_bag, passage_bag = (word_bag(batch[side]["tokens"], net.places, len(self.words_)) for side in SIDES)

        def of_all(rows: Tensor) -> Tensor:
            """Of all ranks, first what answers and then the further negatives."""
            return torch.cat([gather(rows[:b]), gather(rows[b:])]) if len(rows) > b else gather(rows)

        return vocabulary_contrast(
            gather(queries),
            of_all(passages),
            gather(query_bag.float()) > 0,
            of_all(passage_bag.float()) > 0,
            topk=self.topk,
            semi=self.objective == "svdr",
            lexical=self.bag_of_words,
            contrastive_mask=self.contrastive_mask,
            unit=self.normalise,
            temperature=self.temperature,
            ignored=false_negatives(gather(batch["queries"]), of_all(numbers)),
        )

    def _weights(self, net: Any, text: dict[str, Tensor], side: str, part: Any = ALL) -> Tensor:
        """Weights of the words (b, v), dense, or of a `part` of them."""
        weights: Tensor = getattr(net, side)(text["tokens"], text["mask"], part)
        return nn.functional.normalize(weights, dim=1) if self.normalise else weights

    def encode(
        self, net: Any, batch: dict[str, Any], side: str = PASSAGE, topk: int | None = None, keep_lexical: bool = True
    ) -> Tensor:
        """Weights (b, words) of a batch: all of them with ``topk=None``, else 0 but for some."""
        text = first_text(batch)
        weights = self._weights(net, text, side)
        if topk is None:
            return weights
        bag = word_bag(text["tokens"], net.places, len(self.words_)) if keep_lexical else None
        return sparsified(weights, bag, topk)

    def judge(
        self, net: Any, batch: dict[str, Any], generator: torch.Generator
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Vectors of passages and queries, and of the same with a tenth of the tokens missing: a sample of their dimensions."""
        layers: dict[str, tuple[Tensor, Tensor | None]] = {}
        for layer, side in (("representation", PASSAGE), ("queries", QUERY)):
            text = {name: rows[: len(batch["row"])] for name, rows in batch[side].items()}
            seen = delete(text["tokens"], text["mask"], 0.1, generator)
            both = text, {"tokens": seen.tokens, "mask": seen.mask}
            first, second = (self._weights(net, one, side, net.sample) for one in both)
            layers[layer] = first, second
        return layers

    # Encoding ---------------------------------------------------------------------------------------------------------

    def transform(self, X: Any, *, columns: dict[str, str] | None = None, side: str = PASSAGE) -> np.ndarray:
        """Weights of all words, dense float32 (n, words), above 0 everywhere; for many texts see `transform_sparse`.

        Parameters
        ----------
        X, columns : texts, or a table with the column ``text``
        side : ``passage`` or ``query``
        """
        self.require_fitted()
        return self.transform_source(self._side(X, columns, side), side=side)

    def transform_sparse(
        self,
        X: Any,
        *,
        columns: dict[str, str] | None = None,
        side: str = PASSAGE,
        topk: int | None = None,
        keep_lexical: bool = True,
    ) -> csr_array:
        """Sparse weights (n, words), float32.

        Parameters
        ----------
        X, columns, side : as in `transform`
        topk : weights that stay in each row; ``None``: as in training; 0: those of the text's own words alone
        keep_lexical : whether the words of the text stay, however small their weights
        """
        self.require_fitted()
        kept = checked_topk(topk, self.topk, len(self.words_), keep_lexical)
        source = self._side(X, columns, side)
        blocks = [np.arange(start, min(start + BLOCK, len(source))) for start in range(0, len(source), BLOCK)]
        options = {"side": side, "topk": kept, "keep_lexical": keep_lexical}
        return vstack(
            [csr_array(self.transform_source(Some(source, rows), **options)) for rows in blocks], format="csr"
        )

    # Searching and explaining -----------------------------------------------------------------------------------------

    def search_rows(self, X: Any, *, query: bool = False) -> dict[str, Any]:
        """What `nolabel.search.Index` compares: sparse vectors over `words_`."""
        return {"sparse": self.transform_sparse(X, side=QUERY if query else PASSAGE)}

    def index(self, passages: Sequence[str]) -> Self:
        """Encode passages for `search`, in memory; `nolabel.search.Index` keeps them on disk, beside other modes."""
        self.indexed_ = arrays_of(self.transform_sparse({"text": texts_to_find("passages", passages)}))
        return self

    def search(self, queries: Sequence[str], k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Positions (q, k) of the k indexed passages with the highest scores, best first, and the scores (q, k).

        Raises
        ------
        ValueError : before `index`, k below 1 or above the number of passages, an empty query
        TypeError : queries that are not texts
        """
        passages = self._indexed()
        k = depth_within(k, passages.shape[0])
        asked = self.transform_sparse({"text": texts_to_find("queries", queries)}, side=QUERY)
        return ranked(asked, passages, k)

    def score(self, queries: Sequence[str], relevant: Sequence[Any], metric: str = "recall@10") -> float:
        """How well `search` ranks the passages that are relevant to each query.

        Parameters
        ----------
        queries : texts
        relevant : for each query a position, a collection of positions, or a dict from position to grade
        metric : ``recall``, ``hit_rate``, ``mrr``, ``map`` or ``ndcg`` and a depth: ``ndcg@10``
        """
        passages = self._indexed().shape[0]
        return ranking_score(lambda k: self.search(queries, k)[0], relevant, metric, passages)

    def explain(self, query: str, passage: str, k: int = 10) -> list[tuple[str, float]]:
        """The k words that add most to the score of a passage, and what they add; all words together are the score."""
        of_query = self.transform_sparse({"text": texts_to_find("query", [query])}, side=QUERY)
        of_passage = self.transform_sparse({"text": texts_to_find("passage", [passage])})
        return contributions(self.words_, of_query, of_passage, k)

    def describe(self, text: str, k: int = 10, *, side: str = PASSAGE, new: bool = False) -> list[tuple[str, float]]:
        """The k words with the largest weights, and these; with `new`, of the words that the text does not contain."""
        weights = self.transform({"text": texts_to_find("text", [text])}, side=side)[0]
        if new:
            said = read_tokeniser(self.tokeniser_).encode(text).ids
            weights = np.where(np.isin(self.word_ids_, said), 0.0, weights)
        return strongest(self.words_, weights, k)

    def _indexed(self) -> csr_array:
        self.require_fitted()
        if not hasattr(self, "indexed_"):
            raise ValueError("nothing to search: call index(passages) first")
        return csr_of(self.indexed_, len(self.words_))

    def _known_side(self, side: str) -> None:
        if side not in SIDES:
            raise ValueError(f"side must be {' or '.join(SIDES)}, got {side!r}")

    def _check(self) -> None:
        for name in ("query_length", "passage_length"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 3:
                raise ValueError(f"{name} must be a whole number of at least 3, got {value!r}")
        super()._check()
        if self.objective not in ("vdr", "svdr"):
            raise ValueError(f"objective must be 'vdr' or 'svdr', got {self.objective!r}")
        if isinstance(self.topk, bool) or not isinstance(self.topk, int) or self.topk < 0:
            raise ValueError(f"topk must be a whole number of at least 0, got {self.topk!r}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
