"""A text encoder that exists already, used as it is: a name in, a function from texts to vectors out."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from nolabel.ops.cpu_encoding import CpuEncoding
from nolabel.training.batches import within_budget

#: Tokens, padding among them, of a batch: what lies between its layers stays in a CPU's cache.
BUDGET = 2048
PRECISIONS = ("32-true", "bf16-mixed")


class SentenceEncoder:
    """Vectors of texts by ``hf:`` or ``st:`` and a name or folder, on the CPU.

    Parameters
    ----------
    spec : ``hf:`` or ``st:`` and a name or folder
    precision : ``32-true``, or ``bf16-mixed``, as in `nolabel.training.Training`: products in bfloat16, faster where the
        processor multiplies it; cosines of MiniLM's vectors to those of ``32-true`` are above 0.9999

    Attributes
    ----------
    max_seq_length : tokens it reads of a text
    dim : width of a vector

    Raises
    ------
    FileNotFoundError, ValueError : as `nolabel.encoders.text.pretrained`; ValueError for another precision
    """

    def __init__(self, spec: str, *, precision: str = "32-true") -> None:
        from nolabel.encoders.text import is_pretrained, pretrained

        if not is_pretrained(spec):
            raise ValueError(f"encoder: expected hf: or st: and a name or folder, got {spec!r}")
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        self.encoder, self.tokeniser = pretrained(spec)
        self.encoder.eval()
        self.precision = precision
        self.max_seq_length, self.dim = self.encoder.max_length, self.encoder.dim

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors (n, dim), float32. ValueError names the first text that holds nothing."""
        from nolabel.data import read
        from nolabel.data.tokens import TokenSource

        empty = [row for row, text in enumerate(texts) if not text.strip()]
        if empty:
            raise ValueError(f"texts: the text at position {empty[0]} is empty")
        source = TokenSource(read({"text": list(texts)}), ("text",), self.tokeniser, self.max_seq_length)
        vectors = np.empty((len(source), self.dim), np.float32)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16-mixed"), CpuEncoding():
            for rows in within_budget(source.lengths["text"], BUDGET):
                batch = source.batch(rows)["text"]
                vectors[rows] = self.encoder(batch["tokens"], batch["mask"]).float().numpy()
        return vectors


@lru_cache(maxsize=2)
def sentence_encoder(spec: str) -> SentenceEncoder:
    """The encoder of this name, read once."""
    return SentenceEncoder(spec)
