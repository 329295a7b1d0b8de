"""A text encoder that exists already, used as it is: a name in, a function from texts to vectors out."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from nolabel.training.batches import within_budget
from nolabel.training.text import BUDGET


class SentenceEncoder:
    """Vectors of texts by ``hf:`` or ``st:`` and a name or folder, in float32 on the CPU.

    Attributes
    ----------
    max_seq_length : tokens it reads of a text
    dim : width of a vector

    Raises
    ------
    FileNotFoundError, ValueError : as `nolabel.encoders.text.pretrained`
    """

    def __init__(self, spec: str) -> None:
        from nolabel.encoders.text import is_pretrained, pretrained

        if not is_pretrained(spec):
            raise ValueError(f"encoder: expected hf: or st: and a name or folder, got {spec!r}")
        self.encoder, self.tokeniser = pretrained(spec)
        self.encoder.eval()
        self.max_seq_length, self.dim = self.encoder.max_length, self.encoder.dim

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors (n, dim), float32. ValueError names the first text that holds nothing."""
        from nolabel.data import read
        from nolabel.data.tokens import TokenSource

        empty = [row for row, text in enumerate(texts) if not text.strip()]
        if empty:
            raise ValueError(f"texts: the text at position {empty[0]} is empty")
        source = TokenSource(read({"text": list(texts)}), ("text",), self.tokeniser, self.max_seq_length)
        vectors = np.empty((len(source), self.dim), np.float32)
        for rows in within_budget(source.lengths["text"], BUDGET):
            batch = source.batch(rows)["text"]
            vectors[rows] = self.encoder(batch["tokens"], batch["mask"]).numpy()
        return vectors


@lru_cache(maxsize=2)
def sentence_encoder(spec: str) -> SentenceEncoder:
    """The encoder of this name, read once."""
    return SentenceEncoder(spec)
