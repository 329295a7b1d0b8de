"""The words that tell a cluster of texts from the others."""

from collections.abc import Sequence

import numpy as np

READ_ROWS = 20_000
CHARACTERS = 2_000  # of each text: the beginning says what it is about


def typical_words(texts: Sequence[str], clusters: np.ndarray, count: int = 4) -> dict[int, list[str]]:
    """For each cluster the `count` words whose mean TF-IDF in it lies highest above their mean in all texts.

    Words of English that carry no meaning, numbers and words of a single text are left out.

    >>> typical_words(["red wine", "white wine", "fast cars", "old cars"], np.array([0, 0, 1, 1]), count=1)
    {0: ['wine'], 1: ['cars']}
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    reader = TfidfVectorizer(stop_words="english", min_df=2, max_features=20_000, token_pattern=r"(?u)\b[^\W\d_]{2,}\b")
    labels = np.unique(clusters).tolist()
    try:
        weights = reader.fit_transform([text[:CHARACTERS] for text in texts])
    except ValueError:  # no word occurs twice
        return {label: [] for label in labels}
    words, overall = reader.get_feature_names_out(), np.asarray(weights.mean(axis=0)).ravel()
    found = {}
    for label in labels:
        above = np.asarray(weights[np.flatnonzero(clusters == label)].mean(axis=0)).ravel() - overall
        best = np.argsort(-above, kind="stable")[:count]
        found[label] = [str(words[i]) for i in best if above[i] > 0]
    return found
