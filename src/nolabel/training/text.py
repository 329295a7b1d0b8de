"""What every system that learns from texts shares: reading, the tokeniser, the encoder, and batches of like lengths."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nolabel.training.batches import Rows, bucketed, within_budget
from nolabel.training.learner import Learner
from nolabel.views.tokens import delete

#: Share of tokens that the second view of the health report lacks.
MISSING = 0.1
#: Tokens, padding among them, of a batch that is only encoded.
BUDGET = 4096


class TextLearner(Learner):
    """A `Learner` for texts. ``net.encoder`` is a `nolabel.encoders.text.TextEncoder`.

    A subclass has among its constructor arguments

    * ``encoder``: ``bert-tiny``, ``bert-mini``, ``bert-3x128``, ... trained from scratch; ``hf:`` or ``st:`` with a name or
      folder for a model that exists; it then brings its own tokeniser
    * ``vocabulary_size``: word pieces learned from the texts; of no effect where the encoder brings a tokeniser
    * ``max_length``: tokens a text is cut to
    * ``lowercase`` (optional): whether capitals are dropped

    Attributes
    ----------
    tokeniser_ : the tokeniser, as the JSON text of the `tokenizers` library
    """

    columns = ("text",)
    encoder: str
    vocabulary_size: int
    max_length: int
    lowercase: bool = True
    recipe = {"optimiser": "adamw", "lr": 5e-4, "weight_decay": 0.01, "warmup": 0.1, "clip": 1.0, "batch_size": 128}  # noqa: RUF012

    tokeniser_: str

    #: Whether the vectors are the pooled output of ``net.encoder``, and may be used without this library.
    exportable: bool = True

    @property
    def unit(self) -> bool:
        """Whether `encode` scales what the encoder gives to length 1."""
        return False

    @property
    def pooling(self) -> str:
        """How an encoder from scratch makes one vector of a text."""
        return "mean"

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        from nolabel.data import read
        from nolabel.data.tokens import TokenSource

        needed = needed or self.columns
        self._check()
        table = read(data, columns=columns)
        return TokenSource(table, needed, self._tokeniser(table, needed), self.limits(needed))

    def limits(self, needed: tuple[str, ...]) -> list[int]:
        """Tokens to which each of the `needed` columns is cut."""
        if not self._brings_tokeniser:
            return [self.max_length] * len(needed)
        known = getattr(self, "encoder_description_", None)
        longest = self._pretrained()[0].max_length if known is None else known["max_length"]
        return [min(self.max_length, longest)] * len(needed)

    def _check(self) -> None:
        """The arguments that all systems for texts have."""
        if not isinstance(self.encoder, str):
            raise TypeError(f"encoder must be a name, got {type(self.encoder).__name__}")
        for name, least in (("vocabulary_size", 6), ("max_length", 3)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")

    @property
    def _brings_tokeniser(self) -> bool:
        from nolabel.encoders.text import is_pretrained

        return is_pretrained(self.encoder)

    def _pretrained(self) -> Any:
        """The existing encoder and its tokeniser, read once; a saved run makes the encoder again without its files."""
        from nolabel.encoders.text import described, pretrained

        known = getattr(self, "encoder_description_", None)
        if known is not None and not hasattr(self, "_read"):
            return described(known), None
        if getattr(self, "_read", (None,))[0] != self.encoder:
            self._read = (self.encoder, *pretrained(self.encoder))
        return self._read[1:]

    def _tokeniser(self, table: Any, needed: tuple[str, ...]) -> Any:
        """That of a fitted learner, of the existing encoder, or a new one learned from the texts."""
        from nolabel.data.tokenisers import read_tokeniser, train_wordpiece
        from nolabel.data.tokens import usable_texts

        if hasattr(self, "tokeniser_"):
            return read_tokeniser(self.tokeniser_)
        if self._brings_tokeniser:
            return self._pretrained()[1]
        rows, _ = usable_texts(table, needed)
        kept = table.select(rows)

        def texts() -> Iterator[str]:
            for start in range(0, len(kept), 4096):
                part = kept[start : start + 4096]
                for name in needed:
                    yield from part[name]

        return train_wordpiece(texts(), self.vocabulary_size, lowercase=self.lowercase)

    def prepare(self, source: Any, folder: Any) -> None:
        self.tokeniser_ = source.tokeniser

    def make_encoder(self, *, dropout: float = 0.1) -> Any:
        """The encoder for the texts at hand."""
        import copy

        from nolabel.data.tokenisers import read_tokeniser, special_ids
        from nolabel.encoders.text import from_scratch

        if self._brings_tokeniser:
            encoder = copy.deepcopy(self._pretrained()[0])
            self.encoder_description_ = encoder.description
            return encoder
        tokeniser = read_tokeniser(self.tokeniser_)
        return from_scratch(
            self.encoder,
            vocabulary_size=tokeniser.get_vocab_size(),
            max_length=max(self.limits(self.columns)),
            dropout=dropout,
            pad=special_ids(tokeniser).pad,
            pooling=self.pooling,
        )

    def plan(self, source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        return list(bucketed(lengths(source), batch_size, rng))

    def encode_plan(self, source: Any) -> list[np.ndarray]:
        return within_budget(lengths(source), BUDGET)

    def encode(self, net: nn.Module, batch: dict[str, Any]) -> Tensor:
        """Pooled vectors (b, dim) of the first text column of a batch."""
        text = first_text(batch)
        encoder: Any = net.encoder
        vectors: Tensor = encoder(text["tokens"], text["mask"])
        return vectors

    def judge(
        self, net: nn.Module, batch: dict[str, Any], generator: torch.Generator
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """The vectors of the texts and of the same texts without a tenth of their tokens."""
        name, text = next((name, part) for name, part in batch.items() if isinstance(part, dict))
        seen = delete(text["tokens"], text["mask"], MISSING, generator)
        other = {**batch, name: {"tokens": seen.tokens, "mask": seen.mask}}
        return {"representation": (self.encode(net, batch), self.encode(net, other))}


def first_text(batch: dict[str, Any]) -> dict[str, Tensor]:
    """The first text column of a batch."""
    return next(part for part in batch.values() if isinstance(part, dict) and "tokens" in part)


def lengths(source: Any) -> np.ndarray:
    """The longest text of each row, in tokens."""
    if hasattr(source, "source"):  # some rows of another source
        return lengths(source.source)[source.rows]
    return np.maximum.reduce(list(source.lengths.values()))
