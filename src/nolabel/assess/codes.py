"""How well binary codes use their bits, without labels."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nolabel.assess.inputs import as_embeddings

#: A logit this far from 0 has almost no gradient (2 % of its sigmoid's steepest): the bit is frozen.
SATURATED = 4.0
#: A bit with one value in more than this share of the rows says next to nothing.
DEAD = 0.99


@dataclass(frozen=True)
class CodeReport:
    """What `code_report` found.

    Attributes
    ----------
    rows, bits : shape of the codes
    saturated : share of logits beyond 4 on either side
    dead_bits : bits with one value in more than 99 % of the rows
    bit_entropy : mean over bits of the entropy of their values, in bits: 1 where both are equally frequent
    different : share of rows with a code that no other row has
    """

    rows: int
    bits: int
    saturated: float
    dead_bits: int
    bit_entropy: float
    different: float

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{'codes':18}{self.rows} x {self.bits} bits",
                f"{'dead bits':18}{self.dead_bits}",
                f"{'bit entropy':18}{self.bit_entropy:.3f} of 1",
                f"{'saturated':18}{self.saturated:.0%}",
                f"{'different codes':18}{self.different:.0%}",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


def code_report(logits: Any) -> CodeReport:
    """Say how codes use their bits: dead ones, frozen ones, and codes that several rows share.

    Parameters
    ----------
    logits : (n, bits) floats; a bit is 1 where its logit is above 0.

    Raises
    ------
    TypeError
        Not floats.
    ValueError
        Not a matrix with rows, NaN or infinity.

    >>> code_report(np.array([[5.0, 1.0], [-5.0, 1.0], [-1.0, 1.0], [-1.0, 1.0]])).dead_bits
    1
    """
    x = as_embeddings(logits, "logits", at_least=1)
    codes = x > 0
    share = codes.mean(axis=0)
    entropy = np.zeros_like(share)
    for p in (share, 1 - share):
        entropy -= np.where(p > 0, p * np.log2(np.maximum(p, 1e-12)), 0.0)
    _, counts = np.unique(np.packbits(codes, axis=1), axis=0, return_counts=True)
    return CodeReport(
        rows=len(x),
        bits=x.shape[1],
        saturated=float((np.abs(x) > SATURATED).mean()),
        dead_bits=int((np.maximum(share, 1 - share) > DEAD).sum()),
        bit_entropy=float(entropy.mean()),
        different=float((counts == 1).sum() / len(x)),
    )
