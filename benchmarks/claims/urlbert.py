"""URLBERT's three terms against fewer of them at an equal number of forward passes; three tasks on one encoder or on three."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.metrics import f1_score, roc_auc_score

from benchmarks.claims.engine import Claim, Gate, Measures
from nolabel.data import load
from nolabel.data.urls import normalise_url, registered_domain, split_by_domain
from nolabel.learn import MultiTaskUrlClassifier, UrlClassifier, UrlEncoder
from nolabel.learn.url_labels import character_baseline
from nolabel.objectives.adversarial import mean_norm, scaled
from nolabel.training import Training
from nolabel.training.batches import within_budget

ENCODER, WORDS, LENGTH = "bert-2x128", 2000, 48
CORPUS, LABELLED, TESTED, OTHERS = 30_000, 500, 4000, 1500
PASSES, BATCH, RATE = 880, 32, 1e-3
#: Arms: weights of MLM, VAT and contrast, and by what the passes are divided: those of a step; in the last arm more, to tell what
#: the terms do from what fewer steps do.
ARMS: dict[str, tuple[tuple[float, float, float], int]] = {
    "MLM": ((1.0, 0.0, 0.0), 1),
    "MLM + VAT": ((1.0, 1.0, 0.0), 4),
    "MLM + VAT + contrast": ((1.0, 1.0, 0.5), 11),
    "MLM, 80 steps": ((1.0, 0.0, 0.0), 11),
}
WHOLE, SHORT = "MLM + VAT + contrast", "MLM, 80 steps"
LOST = "accuracy lost to noise"
TUNING = Training(epochs=15, batch_size=32)
TASK_ROWS, TASK_TESTED, TASK_EPOCHS = 1000, 1500, 10


def some(rng: np.random.Generator, rows: Any, n: int) -> np.ndarray:
    return np.asarray(rng.permutation(rows)[:n])


def threats(
    rng: np.random.Generator, seed: int
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, dict[str, list[str]]]:
    """URLs, whether each is phishing or malicious, rows to learn from and to test, and benign URLs of other lists."""
    table = load("urls_threat")
    source = np.asarray(table["source"])
    all_urls = np.array(list(map(normalise_url, table["url"])), object)
    urls, first = np.unique(all_urls[source != "search-legit"].astype(str), return_index=True)
    labels = np.asarray(table["label"])[source != "search-legit"][first]
    train, test = split_by_domain(urls.tolist(), 0.3, labels.tolist(), random_state=seed)
    seen = {registered_domain(url) for url in urls[train]}
    lists = {
        "search results": all_urls[source == "search-legit"].tolist(),
        "test lists": [normalise_url(url) for url in load("url_categories", taxonomy="testlists")["url"]],
        "links of pages": [normalise_url(url) for url in load("web_links")["url"]],
    }
    others = {}
    for name, values in lists.items():
        unseen = sorted({url for url in values if registered_domain(url) not in seen})
        others[name] = some(rng, np.array(unseen, object), OTHERS).tolist()
    return urls.tolist(), (labels != "benign").astype(int), train, test, others


def noisy(classifier: UrlClassifier, urls: Sequence[str], radius: float, seed: int) -> np.ndarray:
    """Told labels where each token has noise of a length of `radius` mean norms, in a random direction."""
    net: Any = classifier.net_
    source = classifier.open_one(list(urls), None)
    found = np.zeros(len(source), np.int64)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for rows in within_budget(source.lengths["url"], 4096):
            text = source.batch(rows)["url"]
            embeddings = net.encoder.words(text["tokens"])
            noise = scaled(torch.randn(embeddings.shape, generator=generator), text["mask"], radius)
            moved = embeddings + mean_norm(embeddings, text["mask"]) * noise
            states = net.encoder.states(None, text["mask"], moved)
            found[rows] = net.heads[0](net.encoder.pool(states, text["mask"])).argmax(dim=1).numpy()
    return found


def judged(probabilities: np.ndarray, y: np.ndarray, others: dict[str, np.ndarray]) -> dict[str, float]:
    """AUC and F1 on unseen domains, AUC against benign URLs of other lists, and false alarms on these; per cent."""
    told = probabilities > 0.5
    rest = np.concatenate(list(others.values()))
    against = np.concatenate([probabilities[y == 1], rest])
    found = {
        "AUC": 100 * roc_auc_score(y, probabilities),
        "F1 of the rarer": 100 * f1_score(y, told, pos_label=int(y.mean() < 0.5)),
        "AUC, other benign": 100 * roc_auc_score(np.arange(len(against)) < (y == 1).sum(), against),
    }
    return found | {f"false alarms, {name}": 100 * float((p > 0.5).mean()) for name, p in others.items()}


def encoder(arm: str, corpus: list[str], seed: int) -> UrlEncoder:
    """The encoder of an arm; untrained without one."""
    weights, passes = ARMS.get(arm, ((1.0, 0.0, 0.0), 1))
    budget = {"steps": PASSES // passes, "lr": RATE} if arm in ARMS else {"steps": 1, "lr": 1e-12}
    return UrlEncoder(
        ENCODER,
        mlm_weight=weights[0],
        vat_weight=weights[1],
        contrastive_weight=weights[2],
        vocabulary_size=WORDS,
        max_length=LENGTH,
        training=Training(batch_size=BATCH, random_state=seed, stop_on_collapse=False, **budget),  # type: ignore[arg-type]
    ).fit(corpus)


def few_labels(seed: int) -> tuple[Measures, UrlEncoder, tuple[Any, ...]]:
    """All arms with few labels, the encoder of all terms, and the task."""
    rng = np.random.default_rng(seed)
    urls, y, train, test, others = threats(rng, seed)
    corpus = [urls[row] for row in train] + [normalise_url(url) for url in load("web_links")["url"]]
    corpus = some(rng, np.array(corpus, object), CORPUS).tolist()
    few, tested = some(rng, train, LABELLED), some(rng, test, TESTED)
    known, asked = [urls[row] for row in few], [urls[row] for row in tested]
    baseline = character_baseline().fit(known, y[few])
    probability = lambda model, some: model.predict_proba(some)[:, 1]  # noqa: E731
    arms: Measures = {
        "character n-grams": judged(
            probability(baseline, asked),
            y[tested],
            {name: probability(baseline, values) for name, values in others.items()},
        )
    }
    whole: UrlEncoder | None = None
    for arm in ("random weights", *ARMS):
        model = encoder(arm, corpus, seed)
        classifier = UrlClassifier(model, training=TUNING.set_params(random_state=seed)).fit(known, y[few])
        found = probability(classifier, asked)
        arms[arm] = judged(found, y[tested], {name: probability(classifier, values) for name, values in others.items()})
        clean = 100 * float(((found > 0.5) == y[tested]).mean())
        arms[arm]["accuracy"] = clean
        arms[arm][LOST] = clean - 100 * float((noisy(classifier, asked, 1.0, seed) == y[tested]).mean())
        whole = model if arm == WHOLE else whole
    assert whole is not None
    return arms, whole, (urls, y, train, test)


def tasks(rng: np.random.Generator, seed: int, threat: tuple[Any, ...]) -> dict[str, tuple[Any, Any, Any, Any]]:
    """URLs and labels to learn from and to test, by task; no registered domain (of ads: no page's host) is in both."""
    urls, y, train, test = threat
    parts = {"phishing": (urls, y.tolist(), train, test)}
    topics = load("url_categories", taxonomy="testlists")
    values, names = list(map(normalise_url, topics["url"])), list(topics["category"])
    parts["topic"] = (values, names, *split_by_domain(values, 0.3, names, random_state=seed))
    resources = load("page_resource_urls")
    ads = [int(label != "benign") for label in resources["label"]]
    hosts = list(resources["page_host"])
    parts["ad"] = (
        list(map(normalise_url, resources["url"])),
        ads,
        *split_by_domain(hosts, 0.3, ads, random_state=seed),
    )
    found = {}
    for name, (texts, labels, learn, held) in parts.items():
        a, b = some(rng, learn, TASK_ROWS), some(rng, held, TASK_TESTED)
        b = b[np.isin([str(labels[row]) for row in b], [str(labels[row]) for row in a])]
        found[name] = tuple([values[row] for row in rows] for rows in (a, b) for values in (texts, labels))
    return found


def several_tasks(seed: int, model: UrlEncoder, threat: tuple[Any, ...]) -> Measures:
    """Macro F1 of each task: alone, together on one encoder, and by character n-grams."""
    parts = tasks(np.random.default_rng(seed + 100), seed, threat)
    settings = Training(epochs=TASK_EPOCHS, batch_size=32, random_state=seed)
    together = MultiTaskUrlClassifier(model, training=settings).fit({name: p[:2] for name, p in parts.items()})
    arms: Measures = {"alone": {}, "together": {}, "character n-grams, 1,000 labels": {}}
    for name, (known, labels, asked, truth) in parts.items():
        alone = UrlClassifier(model, training=settings).fit(known, labels)
        told = {
            "alone": alone.predict(asked),
            "together": together.predict(asked, task=name),
            "character n-grams, 1,000 labels": character_baseline().fit(known, labels).predict(asked),
        }
        for arm, values in told.items():
            arms[arm][f"macro F1, {name}"] = 100 * f1_score(truth, values, average="macro")
    return arms


def run(seed: int) -> Measures:
    arms, model, threat = few_labels(seed)
    return arms | several_tasks(seed, model, threat)


def difference(a: str, b: str, measure: str) -> Any:
    return lambda v: v[a][measure] - v[b][measure]


def least_gain(values: Measures) -> float:
    return min(values[arm]["AUC"] - values["random weights"]["AUC"] for arm in ARMS if arm != SHORT)


def most_lost(values: Measures) -> float:
    return max(values["alone"][task] - values["together"][task] for task in values["alone"])


CLAIM = Claim(
    name="urlbert",
    paper="Li et al., 2024, arXiv:2402.11495",
    claim="Learning from unlabelled URLs, with noise that must not matter, tells phishing with few labels; one encoder serves "
    "several tasks as well as one each.",
    data="URLs without scheme and www., split by registered domain: 30,000 unlabelled (of the training part, and links of "
    "pages); phishing or malicious against benign, 500 labelled, 4,000 tested; benign URLs of three other lists on domains not "
    "seen. Tasks: this one, 30 topics, advertising (split by page), 1,000 labelled each",
    metric="AUC, F1 of the rarer class, false alarms, accuracy lost to noise of one mean norm a token, macro F1; per cent",
    run=run,
    gates=(
        Gate("AUC: least gain of the three over random weights, points", 2.0, least_gain),
        Gate("accuracy lost to noise: MLM - MLM + VAT, points", 0.0, difference("MLM", "MLM + VAT", LOST)),
        Gate("accuracy lost to noise: MLM - all terms, points", 0.0, difference("MLM", WHOLE, LOST)),
        Gate("macro F1: together - alone, worst task, points", -1.0, lambda v: -most_lost(v)),
    ),
    reports=(
        Gate("AUC: all terms - MLM, at 80 steps each, points", 0.0, difference(WHOLE, SHORT, "AUC")),
        Gate("accuracy lost to noise: MLM - all terms, at 80 steps each, points", 0.0, difference(SHORT, WHOLE, LOST)),
        Gate("AUC: all terms - MLM, points", 0.0, difference(WHOLE, "MLM", "AUC")),
        Gate("AUC, other benign: all terms - MLM, points", 0.0, difference(WHOLE, "MLM", "AUC, other benign")),
        Gate("AUC: all terms - character n-grams, points", 0.0, difference(WHOLE, "character n-grams", "AUC")),
        Gate("AUC, other benign: all terms - character n-grams, points", 0.0,
             difference(WHOLE, "character n-grams", "AUC, other benign")),
    ),
    settings={"encoder": f"{ENCODER} from random weights, {WORDS} word pieces, {LENGTH} tokens",
              "pre-training": f"{PASSES} forward passes of {BATCH} URLs an arm: 880, 220 and 80 steps, rate {RATE}",
              "fine-tuning": "15 epochs of 500 URLs in batches of 32, the best on held-out domains; 10 epochs of the tasks"},
    seeds=(1, 2, 3),
    note="Passes, epochs and rate were chosen with seed 0, which is not among those measured; the margins were fixed before. "
    "Benign URLs in the labelled set come from 310 hosts of one list, phishing and malicious ones from others: a classifier "
    "may tell the lists apart, and all of them call many ordinary URLs of other lists bad. Fine-tuned from random weights the "
    "encoder is so near the ceiling that two points are not there to gain; of the three terms masked tokens alone gain.",
)  # fmt: skip
