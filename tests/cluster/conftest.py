from types import SimpleNamespace

import numpy as np
import pytest

TOPICS = {
    "fruit": "apple pear plum cherry grape melon lemon peach mango fig berry orchard",
    "weather": "rain snow wind storm cloud frost hail fog thunder sunshine drizzle breeze",
    "music": "piano violin guitar drum flute choir melody rhythm opera concert song harp",
}
COMMON = "the a and of in with is was for on"


@pytest.fixture(scope="session")
def made():
    """240 short texts of three topics, their topics, and three keywords of each: few, and not in every text."""
    rng = np.random.default_rng(0)
    words = {label: line.split(" ") for label, line in TOPICS.items()}
    labels, common = list(words), COMMON.split(" ")
    texts, truth = [], []
    for _ in range(240):
        label, other = labels[rng.integers(3)], labels[rng.integers(3)]
        chosen = [*rng.choice(words[label], 7), rng.choice(words[other]), *rng.choice(common, 6)]
        texts.append(" ".join(rng.permutation(chosen)).capitalize() + ".")
        truth.append(label)
    return SimpleNamespace(
        texts=texts, truth=np.array(truth, dtype=object), keywords={label: words[label][:3] for label in labels}
    )
