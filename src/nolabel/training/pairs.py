"""What every system that learns from images and texts shares: reading both, the two encoders, a text drawn each epoch."""

from typing import Any

import numpy as np
from torch import nn

from nolabel.training.batches import Rows, epoch_plan
from nolabel.training.image import ImageLearner
from nolabel.training.text import TextLearner

IMAGE, TEXT = "image", "text"


class TextSide(TextLearner):
    """The tokeniser, the lengths and the encoder of the texts. It is never fitted by itself."""

    def __init__(self, encoder: str, vocabulary_size: int, max_length: int, pooling: str) -> None:
        self.encoder = encoder
        self.vocabulary_size = vocabulary_size
        self.max_length = max_length
        self._pooling = pooling

    @property
    def pooling(self) -> str:
        return self._pooling

    def tokeniser_for(self, table: Any) -> Any:
        """The tokeniser at hand, or one learned from the texts of a table."""
        self._check()
        return self._tokeniser(table, (TEXT,))


class PairLearner(ImageLearner):
    """A `Learner` for images with texts. ``net.encoder`` is the encoder of images, ``net.text_encoder`` that of texts.

    The column ``text`` holds a text a row, or a list of texts, of which each epoch draws one. Rows without a text are counted
    and left out of `fit`. `transform` takes images alone.

    A subclass has among its constructor arguments, beside those of `ImageLearner`,

    * ``text_encoder``: ``bert-tiny``, ``bert-1x128``, ... from random weights; ``hf:`` or ``st:`` and a name
    * ``vocabulary_size``: word pieces learned from the texts; of no effect where the encoder brings a tokeniser
    * ``max_length``: tokens a text is cut to

    Attributes
    ----------
    tokeniser_ : the tokeniser, as the JSON text of the `tokenizers` library
    """

    columns = (IMAGE, TEXT)
    transform_columns = (IMAGE,)
    text_encoder: str
    vocabulary_size: int
    max_length: int
    #: Of a text encoder from scratch.
    text_dropout: float = 0.1
    #: Whether `fit` draws single sentences instead of whole texts.
    sentences: bool = False

    tokeniser_: str

    @property
    def text_pooling(self) -> str:
        """How a text encoder from scratch makes one vector of a text."""
        return "mean"

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        from nolabel.data import read
        from nolabel.data.image_texts import ImagesWithTexts, texts_of_cells
        from nolabel.data.tokens import TokenSource

        self.check()
        needed = needed or self.columns
        if needed == (IMAGE,):
            return super().open_table(data, columns, needed)
        table, side = read(data, columns=columns), self.text_side()
        if needed == (TEXT,):
            return TokenSource(table, (TEXT,), side.tokeniser_for(table), side.limits((TEXT,)))
        texts, skipped = texts_of_cells(table, TEXT, self.sentences)
        images = super().open_table(table, None, (IMAGE,))
        flat = read({TEXT: [text for row in images.rows for text in texts[row]]})
        silent = {skip.row for skip in skipped}
        return ImagesWithTexts(
            images,
            [texts[row] for row in images.rows],
            side.tokeniser_for(flat),
            side.limits((TEXT,))[0],
            skipped=[*skipped, *(skip for skip in images.skipped if skip.row not in silent)],
        )

    def check(self) -> None:
        """Raise where the arguments do not fit, before any data is read."""

    def text_side(self) -> TextSide:
        """The side of the texts, as far as it is known."""
        side = TextSide(self.text_encoder, self.vocabulary_size, self.max_length, self.text_pooling)
        if hasattr(self, "tokeniser_"):
            side.tokeniser_ = self.tokeniser_
        if hasattr(self, "text_description_"):
            side.encoder_description_ = self.text_description_
        return side

    def prepare(self, source: Any, folder: Any) -> None:
        self.tokeniser_ = source.tokeniser

    def make_text_encoder(self) -> Any:
        """The encoder for the texts at hand; a saved run makes a pre-trained one again without its files."""
        side = self.text_side()
        encoder: nn.Module = side.make_encoder(dropout=self.text_dropout)
        if hasattr(side, "encoder_description_"):
            self.text_description_ = side.encoder_description_
        return encoder

    def plan(self, source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        return [source.drawn(rows, rng) for rows in epoch_plan(source, batch_size, rng)]
