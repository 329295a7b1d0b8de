"""What is left of forgotten samples: how far embeddings moved, whether answers agree, what a membership attack finds."""

from typing import Any

import numpy as np
import torch

from nolabel.assess.membership import membership_inference
from nolabel.assess.neighbours import neighbour_overlap
from nolabel.objectives.forgetting import turned

#: Rows among which neighbours are looked for, and how many.
ROWS, NEIGHBOURS = 2000, 10
#: Fewer rows than these on either side tell an attack nothing.
LEAST = 20

Outputs = dict[str, dict[str, np.ndarray]]


def digests(source: Any) -> list[bytes]:
    """The content of every row of a source, hashed."""
    import xxhash

    found = []
    for start in range(0, len(source), 256):
        batch = source.batch(np.arange(start, min(start + 256, len(source))))
        rows = batch["image" if "image" in batch else "input"].numpy()
        found += [xxhash.xxh3_128_digest(np.ascontiguousarray(row).tobytes()) for row in rows]
    return found


def shared_rows(retain: Any, forget: Any) -> np.ndarray:
    """Positions of the rows of `retain` that are also in `forget`, value for value."""
    known = set(digests(forget))
    return np.array([at for at, digest in enumerate(digests(retain)) if digest in known], dtype=np.int64)


def drift(new: np.ndarray, old: np.ndarray) -> float:
    """Mean of 1 - cos between the embeddings (n, d) of the same rows after and before."""
    return float(turned(torch.from_numpy(new), torch.from_numpy(old)).mean())


def evidence(before: Outputs, after: Outputs, codes: np.ndarray | None = None, *, seed: int = 0) -> dict[str, Any]:
    """Compare a model before and after forgetting.

    Parameters
    ----------
    before, after : of `retain`, `forget` and perhaps `test` the `embeddings` (n, d), and the `probabilities` (n, k) if the model
        tells classes. `test` are samples that it never learned from
    codes : (m,) true classes of `test`
    seed : of the attacks and of the rows among which neighbours are compared

    Returns
    -------
    dict of

    * by set: `rows`; `drift`, mean 1 - cos of new to old embeddings; `agreement`, share of rows called the same as before;
      `neighbours`, the share of ten nearest neighbours, within the set, that are the same
    * `membership`: `before` and `after`, each of two attacks. `learned from or not` is trained on retained against test
      rows; its `suspects_called` are the forgotten ones, to be compared with `strangers_called`. `forgotten or unseen` is trained
      to tell the forgotten from the test rows; its `accuracy` is best at 0.5. Left out without test rows or classes
    * `accuracy` on test rows, `before` and `after`, if `codes` are known
    """
    found: dict[str, Any] = {}
    for name in before:
        old, new = before[name], after[name]
        row: dict[str, Any] = {"rows": len(old["embeddings"]), "drift": drift(new["embeddings"], old["embeddings"])}
        if "probabilities" in old:
            row["agreement"] = float(np.mean(old["probabilities"].argmax(1) == new["probabilities"].argmax(1)))
        some = np.sort(np.random.default_rng(seed).permutation(row["rows"])[:ROWS])
        if len(some) > NEIGHBOURS:
            row["neighbours"] = neighbour_overlap(old["embeddings"][some], new["embeddings"][some], NEIGHBOURS)
        found[name] = row
    if "test" not in before or "probabilities" not in before["test"]:
        return found
    states = {"before": before, "after": after}
    found["membership"] = {
        when: attacks({name: part["probabilities"] for name, part in state.items()}, seed)
        for when, state in states.items()
    }
    if codes is not None:
        found["accuracy"] = {
            when: float(np.mean(state["test"]["probabilities"].argmax(1) == codes)) for when, state in states.items()
        }
    return found


def attacks(probabilities: dict[str, np.ndarray], seed: int = 0) -> dict[str, Any]:
    """Both attacks on a model's probabilities of `retain`, `forget` and `test`; None where there are too few rows."""
    retain, forget, test = (probabilities[name] for name in ("retain", "forget", "test"))
    able = {"learned from or not": min(len(retain), len(test)), "forgotten or unseen": min(len(forget), len(test))}
    given: dict[str, tuple[Any, ...]] = {
        "learned from or not": (retain, test, forget),
        "forgotten or unseen": (forget, test),
    }
    return {
        name: membership_inference(*given[name], random_state=seed).to_dict() if rows >= LEAST else None
        for name, rows in able.items()
    }
