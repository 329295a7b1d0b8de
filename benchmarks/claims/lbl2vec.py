"""Lbl2Vec on AG News and 20 Newsgroups: topics from keywords alone, against counting them and against latent semantics."""

from collections.abc import Callable

import numpy as np

from benchmarks.claims.engine import Claim, Gate, Measures
from nolabel.cluster import Lbl2Vec
from nolabel.cluster.candidates import candidates, cosine, inliers, unit
from nolabel.data import load

#: Written from the names of the classes, before any document was looked at.
NEWS = {
    "World": "world government president minister election war military troops peace nations iraq israel palestinian nuclear "
    "diplomatic treaty terrorism rebels parliament country",
    "Sports": "sports game team player coach season league championship match football baseball basketball tennis golf olympic "
    "soccer cup win race score",
    "Business": "business company market stocks shares profit earnings investors economy bank trade prices sales oil dollar "
    "merger industry financial quarter revenue",
    "Sci/Tech": "science technology computer software internet web microsoft scientists research space nasa phone video virus "
    "security online network users digital data",
}
GROUPS = {
    "alt.atheism": "atheism atheist atheists agnostic disbelief secular belief religion god",
    "comp.graphics": "graphics image images rendering polygon 3d animation gif jpeg pixel",
    "comp.os.ms-windows.misc": "windows microsoft dos driver drivers program manager ini desktop",
    "comp.sys.ibm.pc.hardware": "pc ibm motherboard bios controller ide scsi isa bus 486 card",
    "comp.sys.mac.hardware": "mac macintosh apple powerbook quadra centris nubus simm",
    "comp.windows.x": "x11 xterm xlib motif widget server client display window",
    "misc.forsale": "sale sell selling offer offers shipping price asking condition",
    "rec.autos": "car cars auto automobile engine driving dealer tires ford toyota honda",
    "rec.motorcycles": "motorcycle motorcycles bike bikes riding rider helmet harley yamaha",
    "rec.sport.baseball": "baseball pitcher inning innings batting hitter catcher bat runs league",
    "rec.sport.hockey": "hockey nhl goalie puck ice playoff playoffs stanley skating",
    "sci.crypt": "encryption cryptography cryptographic cipher key keys decrypt privacy algorithm",
    "sci.electronics": "electronics circuit circuits voltage resistor transistor amplifier current wire",
    "sci.med": "medical medicine doctor disease patients treatment drug symptoms health",
    "sci.space": "space nasa orbit shuttle satellite launch moon astronaut rocket",
    "soc.religion.christian": "christian christians christianity christ jesus church bible faith sin",
    "talk.politics.guns": "gun guns firearm firearms weapon weapons rifle handgun nra",
    "talk.politics.mideast": "israel israeli arab arabs palestinian lebanon turkey iran iraq mideast",
    "talk.politics.misc": "politics political government president congress tax taxes law policy",
    "talk.religion.misc": "religion religions religious spiritual scripture moral belief god",
}
SETTINGS = {"vector_size": 100, "window": 15, "epochs": 15, "min_count": 3, "sample": 1e-4, "negative": 5}
GROUP_SETTINGS = {**SETTINGS, "window": 10, "epochs": 10}
GROUP_WORDS = 200  # of a posting


def lists(table: dict[str, str]) -> dict[str, list[str]]:
    return {label: words.split() for label, words in table.items()}


def judged(similarity: np.ndarray, truth: np.ndarray, where: str) -> dict[str, float]:
    """Accuracy of the most similar label and mean area under the curve of each label's similarity, per cent."""
    from sklearn.metrics import roc_auc_score

    areas = [roc_auc_score(truth == label, similarity[:, label]) for label in range(similarity.shape[1])]
    accuracy = float((similarity.argmax(axis=1) == truth).mean())
    return {f"{where} accuracy": 100 * accuracy, f"{where} AUC": 100 * float(np.mean(areas))}


def counted(texts: list[str], keywords: dict[str, list[str]]) -> np.ndarray:
    """Occurrences of each label's keywords, (n, labels); argmax takes the first of equal ones."""
    from sklearn.feature_extraction.text import CountVectorizer

    vocabulary = sorted({word for words in keywords.values() for word in words})
    counts = CountVectorizer(vocabulary=vocabulary, token_pattern=r"\w+").transform(texts)
    member = np.array([[word in words for words in keywords.values()] for word in vocabulary], dtype=float)
    return counts @ member


def latent(keywords: dict[str, list[str]], fitted: list[str], others: list[list[str]], seed: int) -> list[np.ndarray]:
    """Cosines of documents with the mean of the unit vectors of the keywords, after TF-IDF and an SVD to 100 dimensions."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    weights = TfidfVectorizer(min_df=3, sublinear_tf=True, token_pattern=r"\w+").fit(fitted)
    reduced = TruncatedSVD(100, random_state=seed).fit(weights.transform(fitted))

    def vectors(texts: list[str]) -> np.ndarray:
        return reduced.transform(weights.transform(texts))

    means = np.stack([unit(vectors(words)).mean(axis=0) for words in keywords.values()])
    return [cosine(vectors(texts), means) for texts in others]


def by_rule(model: Lbl2Vec, documents: np.ndarray, clean: bool = False, **rule: float) -> np.ndarray:
    """Cosines of documents with label vectors made by another rule in the space of a fitted model."""
    near = cosine(model.doc_vectors_, model.keyword_vectors_)
    chosen = [candidates(column, **rule) for column in near.T]
    chosen = [rows[inliers(model.doc_vectors_[rows])] if clean else rows for rows in chosen]
    return cosine(documents, np.stack([model.doc_vectors_[rows].mean(axis=0) for rows in chosen]))


def news() -> dict[str, tuple[list[str], np.ndarray]]:
    """Texts and classes of AG News by split, raw and tokenised parts alike."""
    found = {}
    for split in ("train", "test"):
        table = load("ag_news", split=split)
        texts = [f"{title} {text}" for title, text in zip(table["title"], table["text"])]
        found[split] = texts, np.array([list(NEWS).index(name) for name in table["label_name"]])
    return found


def groups() -> dict[str, tuple[list[str], np.ndarray]]:
    """The first words of the bodies of 20 Newsgroups by split, without subjects and without those of under 3 words."""
    found = {}
    for split in ("train", "test"):
        table = load("newsgroups20", split=split)
        kept = [
            (body.split(), name) for body, name in zip(table["body"], table["label_name"]) if len(body.split()) >= 3
        ]
        texts = [" ".join(words[:GROUP_WORDS]) for words, _ in kept]
        found[split] = texts, np.array([list(GROUPS).index(name) for _, name in kept])
    return found


def add(values: Measures, arm: str, measures: dict[str, float]) -> None:
    values.setdefault(arm, {}).update(measures)


def run(seed: int) -> Measures:
    values: Measures = {}
    keywords, parts = lists(NEWS), news()
    texts, truth = parts["test"]
    model = Lbl2Vec(keywords, random_state=seed, min_docs=50, **SETTINGS).fit(texts)
    documents = model.transform()
    add(values, COUNTING, judged(counted(texts, keywords), truth, "AG"))
    add(values, LATENT, judged(latent(keywords, texts, [texts], seed)[0], truth, "AG"))
    add(values, DIRECT, judged(cosine(documents, model.keyword_vectors_), truth, "AG"))
    add(values, FULL, judged(model.decision_function(), truth, "AG"))
    add(values, WIDE, judged(by_rule(model, documents, min_docs=200), truth, "AG"))
    add(values, CLEANED, judged(by_rule(model, documents, clean=True, min_docs=200), truth, "AG"))
    add(values, OFFSET, judged(by_rule(model, documents, min_docs=50, offset=0.2), truth, "AG"))
    add(values, SINGLE, judged(by_rule(model, documents, min_docs=1), truth, "AG"))
    sample = np.random.default_rng(seed).permutation(len(texts))[:1000]
    again = model.transform([texts[i] for i in sample])
    add(
        values,
        FULL,
        {"AG cosine, inferred to trained": 100 * float((unit(again) * unit(documents[sample])).sum(1).mean())},
    )

    model = Lbl2Vec(keywords, random_state=seed, min_docs=50, **SETTINGS).fit(parts["train"][0])
    unseen(values, model, parts, "AG", seed)
    parts = groups()
    model = Lbl2Vec(lists(GROUPS), random_state=seed, min_docs=50, **GROUP_SETTINGS).fit(parts["train"][0])
    unseen(values, model, parts, "20NG", seed)
    return values


def unseen(
    values: Measures, model: Lbl2Vec, parts: dict[str, tuple[list[str], np.ndarray]], data: str, seed: int
) -> None:
    """Measures of a model of the training texts on them and on the test texts."""
    (train, train_truth), (test, test_truth) = parts["train"], parts["test"]
    seen, new = latent(model.keywords, train, [train, test], seed)
    add(values, LATENT, judged(seen, train_truth, f"{data} train") | judged(new, test_truth, f"{data} unseen"))
    for texts, truth, where in ((train, train_truth, "train"), (test, test_truth, "unseen")):
        documents = model.transform() if where == "train" else model.transform(texts)
        add(values, COUNTING, judged(counted(texts, model.keywords), truth, f"{data} {where}"))
        add(values, DIRECT, judged(cosine(documents, model.keyword_vectors_), truth, f"{data} {where}"))
        add(values, FULL, judged(cosine(documents, model.label_vectors_), truth, f"{data} {where}"))


COUNTING, LATENT, DIRECT = "keyword counting", "TF-IDF + SVD(100)", "keyword vector itself"
FULL, WIDE, CLEANED = "Lbl2Vec, 50 documents", "Lbl2Vec, 200 documents", "Lbl2Vec, 200 documents, cleaned"
OFFSET, SINGLE = "Lbl2Vec, offset 0.2", "Lbl2Vec, 1 document"


def less(arm: str, other: str, name: str = "AG accuracy") -> Callable[[Measures], float]:
    return lambda v: v[arm][name] - v[other][name]


def worst(name: str) -> Callable[[Measures], float]:
    """The label vectors of 50 and of 200 documents against the keyword vector: the smaller gain."""
    return lambda v: min(v[arm][name] for arm in (FULL, WIDE)) - v[DIRECT][name]


def in_this_seed(v: Measures) -> float:
    gains = less(FULL, COUNTING)(v) >= 15, less(FULL, LATENT)(v) >= 6, v[FULL]["AG AUC"] >= 90
    return float(all(gains))


CLAIM = Claim(
    name="lbl2vec",
    paper="Schopf, Braun & Matthes, WEBIST 2021, arXiv:2210.06023",
    claim="Keywords and no label sort documents into topics better than counting keywords or latent semantics do.",
    data="AG News, the 7,600 official test texts; besides, 14,219 training texts with the test texts unseen; 20 Newsgroups, the "
    "first 200 words of the bodies",
    metric="accuracy of the most similar label and mean one-against-rest AUC, per cent",
    run=run,
    gates=(
        Gate("AG: 50 documents - keyword counting, points", 15.0, less(FULL, COUNTING)),
        Gate("AG: 50 documents - TF-IDF + SVD, points", 6.0, less(FULL, LATENT)),
        Gate("AG: AUC, 50 documents", 90.0, lambda v: v[FULL]["AG AUC"]),
        Gate("AG: share of seeds in which these three hold", 1.0, in_this_seed),
        Gate("AG: AUC, 50 or 200 documents - keyword vector itself", 0.0, worst("AG AUC")),
        Gate("AG: accuracy, 50 or 200 documents - keyword vector itself", -1.0, worst("AG accuracy")),
        Gate("AG: 50 documents - 1 document, points", 4.0, less(FULL, SINGLE)),
    ),
    reports=(
        Gate("AG: 200 documents, cleaned - 200 documents, points", 0.0, less(CLEANED, WIDE)),
        Gate("AG: cosine of inferred to trained vectors, per cent", 80.0, lambda v: v[FULL]["AG cosine, inferred to trained"]),
        Gate("AG unseen - TF-IDF + SVD, points", 6.0, less(FULL, LATENT, "AG unseen accuracy")),
        Gate("20NG train - TF-IDF + SVD, points", 6.0, less(FULL, LATENT, "20NG train accuracy")),
        Gate("20NG unseen - TF-IDF + SVD, points", 6.0, less(FULL, LATENT, "20NG unseen accuracy")),
        Gate("20NG unseen - keyword vector itself, points", 0.0, less(FULL, DIRECT, "20NG unseen accuracy")),
    ),
    settings={"AG News": str(SETTINGS), "20 Newsgroups": str(GROUP_SETTINGS), "keywords": "20 a class; 8 to 11 a group"},
    note="Keywords are the same in all arms and were written from the names of the classes, some of which are among them; the "
    "authors use a list of their own. Vectors come of negative sampling alone; the authors add hierarchical softmax.",
)  # fmt: skip
