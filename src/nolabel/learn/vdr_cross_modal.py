"""VDR across modalities: images and captions in one space whose dimensions are words.

The text tower is that of `nolabel.learn.vdr`; the image tower scores every patch of an image against a vector for each
word and takes the maximum over patches,

    v_w = elu1p( max over patches p of LayerNorm(h_p) . e_w + b_w ),

so that a picture is described by words although nobody labelled it with any. Vectors have length 1 and scores are
cosines, divided by a temperature that is learned. Captions are the sparse side, images the dense one:

    L = ( S(v_text^s, v_image) + S(b_text, v_image) ) / 2.

Zhou, Li, Shang, Jiang, Liu & Chen, "Retrieval-based disentangled representation learning with natural language supervision",
ICLR 2024, arXiv:2212.07699. Differences: small encoders from random weights; a bias b, -3 at first; captions of the same words
in a batch are no negatives of one another.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from scipy.sparse import csr_array, vstack
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.optim import Optimizer

from nolabel.data.tokenisers import read_tokeniser
from nolabel.data.tokens import TokenSource
from nolabel.encoders import LearnedTemperature
from nolabel.learn.ranking import depth_within, texts_to_find
from nolabel.learn.vocabulary_space import (
    ALL,
    PatchTower,
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
from nolabel.objectives.vocabulary import sparsified, vocabulary_contrast, word_bag
from nolabel.training import Clock, PairLearner, Training, gather
from nolabel.training.batches import Some
from nolabel.training.image import GENTLE
from nolabel.training.pairs import IMAGE, TEXT
from nolabel.views.tokens import delete

#: The temperature at first.
FIRST_TEMPERATURE = 0.07
#: Rows whose vectors are dense at a time.
BLOCK = 1024


def same_words(bags: Tensor) -> Tensor:
    """Which rows of bags (n, v) are equal: (n, n).

    >>> same_words(torch.tensor([[True, False], [True, True], [True, False]])).long().tolist()
    [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    """
    common = bags.float() @ bags.float().T
    sizes = common.diagonal()
    return (common == sizes.unsqueeze(1)) & (common == sizes.unsqueeze(0))


class CrossModalVDR(PairLearner):
    """Learn from images and their captions to search images by text, and to name what an image shows.

    Use it where captions say in plain words what is to be seen. What no caption mentions gets no word.

    Parameters
    ----------
    encoder : of images, a name or ``nn.Module``; the places of its last map are the patches, so a fine map says more
    text_encoder : ``bert-tiny``, ``bert-1x128``, ... from random weights, or ``hf:`` / ``st:`` and a name
    topk : weights of a sparse vector beside those of a caption's own words
    objective : ``vdr``, or ``svdr``: images are made sparse in turn
    bag_of_words : whether bags of words are learned from at all
    contrastive_mask : words that a batch lacks are dealt out to its captions, and all other images learn to leave them alone
    allow_empty : whether a caption may have no word of the vocabulary
    vocabulary_size : word pieces learned from the captions; dimensions are those of ASCII letters and digits
    max_length : tokens that a caption is cut to
    image_size : side of the images the network sees; ``None`` chooses by the data
    training : how long and on what to train

    Attributes
    ----------
    words_ : the words, as pieces: one dimension each
    temperature_ : what was learned
    indexed_ : the sparse vectors of the indexed images, as the arrays of a CSR matrix

    Notes
    -----
    `fit` takes a table with the columns ``image`` and ``text``, such as ``{"image": images, "text": captions}``.

    Examples
    --------
    >>> images = np.random.default_rng(0).random((32, 3, 16, 16))
    >>> captions = ["a red shoe", "a blue bag", "one green shirt", "the black dress"] * 8
    >>> settings = Training(steps=2, batch_size=16)
    >>> vdr = CrossModalVDR("resnet8-x0.125-map4", text_encoder="bert-1x32", vocabulary_size=120, topk=4, training=settings)
    >>> vdr.fit({"image": images, "text": captions}).index(images).search(["a shoe"], k=3)[0].shape
    (1, 3)
    """

    columns = (IMAGE, TEXT)
    transform_columns = (IMAGE,)
    recipe = {"optimiser": "adamw", "lr": 1e-3, "weight_decay": 0.0, "clip": 2.0, "batch_size": 128}  # noqa: RUF012

    words_: list[str]
    word_ids_: np.ndarray
    tokeniser_: str
    indexed_: dict[str, np.ndarray]

    def __init__(
        self,
        encoder: str | nn.Module = "resnet10-x0.5-map4",
        *,
        text_encoder: str = "bert-1x128",
        topk: int = 64,
        objective: str = "vdr",
        bag_of_words: bool = True,
        contrastive_mask: bool = False,
        allow_empty: bool = False,
        vocabulary_size: int = 8000,
        max_length: int = 48,
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.text_encoder = text_encoder
        self.topk = topk
        self.objective = objective
        self.bag_of_words = bag_of_words
        self.contrastive_mask = contrastive_mask
        self.allow_empty = allow_empty
        self.vocabulary_size = vocabulary_size
        self.max_length = max_length
        self.image_size = image_size
        self.training = training

    # Reading ----------------------------------------------------------------------------------------------------------

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        source = super().open_table(data, columns, needed)
        return self._required(source) if needed == (TEXT,) else source

    def _required(self, captions: TokenSource) -> TokenSource:
        if not self.allow_empty:
            require_words(TEXT, captions, TEXT, self.word_ids_, captions.rows)
        return captions

    def prepare(self, source: Any, folder: Any) -> None:
        super().prepare(source, folder)
        self.words_, self.word_ids_ = vocabulary(read_tokeniser(self.tokeniser_), plain=True)
        checked_topk(None, self.topk, len(self.words_), True)
        self._required(source.texts)

    # Learning ---------------------------------------------------------------------------------------------------------

    def build(self, example: dict[str, Any]) -> nn.Module:
        net: Any = nn.Module()
        net.encoder = self.make_encoder(example)
        if not net.encoder.channels:
            raise ValueError(f"encoder {self.encoder!r} has no feature maps, whose places are the patches")
        net.text = TextTower(self.make_text_encoder(), self.word_ids_)
        net.image = PatchTower(list(net.encoder.channels.values())[-1], len(self.words_))
        net.temperature = LearnedTemperature(FIRST_TEMPERATURE)
        places = places_of(self.word_ids_, read_tokeniser(self.tokeniser_).get_vocab_size())
        net.register_buffer("places", torch.from_numpy(places), persistent=False)
        net.register_buffer("sample", sample(len(self.words_)), persistent=False)
        return net

    def optimisers(self, net: Any, settings: Training) -> dict[str, Optimizer]:
        """The word vectors are outputs too and never decay."""
        made = super().optimisers(net, settings)
        without_decay(made["main"], [net.text.encoder.words.weight, net.image.words])
        return made

    def loss(self, net: Any, batch: dict[str, Any]) -> dict[str, Tensor]:
        images, texts = gather(self._of_images(net, batch[IMAGE])), gather(self._of_texts(net, batch[TEXT]))
        bags = gather(word_bag(batch[TEXT]["tokens"], net.places, len(self.words_)).float()) > 0
        return vocabulary_contrast(
            texts,
            images,
            bags,
            torch.zeros_like(bags),  # an image has no words
            topk=self.topk,
            semi=self.objective == "svdr",
            lexical=self.bag_of_words,
            lexical_passages=False,
            contrastive_mask=self.contrastive_mask,
            unit=True,
            temperature=net.temperature(),
            ignored=same_words(bags),
        )

    def after_step(self, net: Any, clock: Clock) -> None:
        net.temperature.clamp_()

    def finish(self, source: Any) -> None:
        net: Any = self.net_
        self.temperature_ = net.temperature().item()

    def _of_images(self, net: Any, images: Tensor, part: Any = ALL) -> Tensor:
        """Unit vectors (b, words) of uint8 images, of all words or of a `part` of them."""
        pixels = (images.float() / 255.0).contiguous(memory_format=torch.channels_last)
        *_, last = net.encoder.stages(pixels).values()
        return normalize(net.image(last, part), dim=1)

    def _of_texts(self, net: Any, text: dict[str, Tensor], part: Any = ALL) -> Tensor:
        """Unit vectors (b, words) of captions, of all words or of a `part` of them."""
        return normalize(net.text(text["tokens"], text["mask"], part), dim=1)

    def encode(
        self, net: Any, batch: dict[str, Any], side: str = IMAGE, topk: int | None = None, keep_lexical: bool = True
    ) -> Tensor:
        """Weights (b, words) of a batch: all of them with ``topk=None``, else 0 but for some."""
        if side == IMAGE:
            weights = self._of_images(net, batch[IMAGE])
            return weights if topk is None else sparsified(weights, None, topk)
        weights = self._of_texts(net, batch[TEXT])
        if topk is None:
            return weights
        bag = word_bag(batch[TEXT]["tokens"], net.places, len(self.words_)) if keep_lexical else None
        return sparsified(weights, bag, topk)

    def judge(
        self, net: Any, batch: dict[str, Any], generator: torch.Generator
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Vectors of images and captions, and of a mild view of each: a sample of their dimensions."""
        text, seen = batch[TEXT], GENTLE(batch[IMAGE], generator) * 255.0
        less = delete(text["tokens"], text["mask"], 0.1, generator)
        image, other = (self._of_images(net, each, net.sample) for each in (batch[IMAGE], seen))
        caption, short = (self._of_texts(net, each, net.sample) for each in (text, less._asdict()))
        return {"representation": (image, other), "captions": (caption, short)}

    # Encoding, searching, explaining ----------------------------------------------------------------------------------

    def transform(self, X: Any, *, columns: dict[str, str] | None = None, side: str = IMAGE) -> np.ndarray:
        """Unit vectors of weights of all words, dense float32 (n, words), above 0 everywhere.

        Parameters
        ----------
        X, columns : images, or with ``side="text"`` texts, or a table with such a column
        side : ``image`` or ``text``
        """
        return self.transform_source(self._side(X, columns, side), side=side)

    def transform_sparse(
        self,
        X: Any,
        *,
        columns: dict[str, str] | None = None,
        side: str = IMAGE,
        topk: int | None = None,
        keep_lexical: bool = True,
    ) -> csr_array:
        """Sparse weights (n, words), float32.

        Parameters
        ----------
        X, columns, side : as in `transform`
        topk : weights that stay in each row; ``None``: as in training; 0, for texts: those of their own words alone
        keep_lexical : whether the words of a text stay, however small their weights
        """
        self.require_fitted()
        kept = checked_topk(topk, self.topk, len(self.words_), keep_lexical and side == TEXT)
        source = self._side(X, columns, side)
        blocks = [np.arange(start, min(start + BLOCK, len(source))) for start in range(0, len(source), BLOCK)]
        options = {"side": side, "topk": kept, "keep_lexical": keep_lexical}
        return vstack(
            [csr_array(self.transform_source(Some(source, rows), **options)) for rows in blocks], format="csr"
        )

    def search_rows(self, X: Any, *, query: bool = False) -> dict[str, Any]:
        """What `nolabel.search.Index` compares: sparse vectors over `words_`, of images, or of texts to search by."""
        return {"sparse": self.transform_sparse(X, side=TEXT if query else IMAGE)}

    def index(self, images: Any) -> Self:
        """Encode images for `search`, in memory; `nolabel.search.Index` keeps them on disk."""
        self.indexed_ = arrays_of(self.transform_sparse(images))
        return self

    def search(self, queries: Sequence[str], k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Positions (q, k) of the k indexed images with the highest scores for each text, best first, and the scores (q, k)."""
        self.require_fitted()
        if not hasattr(self, "indexed_"):
            raise ValueError("nothing to search: call index(images) first")
        images = csr_of(self.indexed_, len(self.words_))
        k = depth_within(k, images.shape[0])
        return ranked(self.transform_sparse({TEXT: texts_to_find("queries", queries)}, side=TEXT), images, k)

    def explain(self, text: str, image: Any, k: int = 10) -> list[tuple[str, float]]:
        """The k words that add most to the score of an image (c, h, w) or (h, w), and what they add."""
        of_text = self.transform_sparse({TEXT: texts_to_find("text", [text])}, side=TEXT)
        return contributions(self.words_, of_text, self.transform_sparse(np.asarray(image)[None]), k)

    def describe(self, images: Any, k: int = 5) -> list[list[tuple[str, float]]]:
        """For each image the k words with the largest weights, and these."""
        return [strongest(self.words_, weights, k) for weights in self.transform(images)]

    def _side(self, X: Any, columns: dict[str, str] | None, side: str) -> Any:
        self.require_fitted()
        if side not in (IMAGE, TEXT):
            raise ValueError(f"side must be {IMAGE} or {TEXT}, got {side!r}")
        return self.open_table(X, columns, (side,))

    def check(self) -> None:
        if self.objective not in ("vdr", "svdr"):
            raise ValueError(f"objective must be 'vdr' or 'svdr', got {self.objective!r}")
        if isinstance(self.topk, bool) or not isinstance(self.topk, int) or self.topk < 1:
            raise ValueError(f"topk must be a whole number of at least 1, got {self.topk!r}")
