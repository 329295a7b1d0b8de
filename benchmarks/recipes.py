"""What the claim on DOM-LM measures: recipe pages, the values that stand on them, scores a page, and hand-made features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nolabel.data import load
from nolabel.data.dom import Page, parse_html
from nolabel.data.dom_labels import NodeLabels, match_nodes

ATTRIBUTES = ("title", "author", "ingredient", "instruction")
#: Attributes of which a page has one value: the most probable node is taken; of the others all nodes that are named so.
SINGLE = ("title", "author")
WORDS = 150


@dataclass(frozen=True)
class Recipe:
    """A page, what is known to stand on it, and which of that is the whole text of some node."""

    site: str
    html: str
    page: Page
    matched: NodeLabels
    expected: dict[str, set[str]]


def recipes(rows: Any) -> list[Recipe]:
    """The recipes of a table's rows."""
    found = []
    for row in rows:
        values = {
            "title": row["title"],
            "author": row["author"],
            "ingredient": row["ingredients"],
            "instruction": row["instructions"],
        }
        values = {name: value if value is not None else "" for name, value in values.items()}
        page = parse_html(row["html"])
        texts = {page.full_text(node) for node in texted(page)}
        lists = {name: [value] if isinstance(value, str) else list(value) for name, value in values.items()}
        expected = {name: {" ".join(value.split()) for value in given} & texts for name, given in lists.items()}
        found.append(Recipe(row["site"], row["html"], page, match_nodes(page, values), expected))
    return found


def split(seed: int, test_sites: int, *, english: bool = True) -> tuple[list[Any], list[Any]]:
    """Rows of English pages of sites to learn from, in random order of sites, and of other sites to test on."""
    table = load("recipe_pages")
    rows = [row for row in table if (row["language"] or "").startswith("en") == english]
    sites = np.random.default_rng(seed).permutation(sorted({row["site"] for row in rows}))
    order = {site: place for place, site in enumerate(sites)}
    rows.sort(key=lambda row: order[row["site"]])
    return [row for row in rows if order[row["site"]] >= test_sites], [
        row for row in rows if order[row["site"]] < test_sites
    ]


def texted(page: Page) -> np.ndarray:
    """The nodes with text in them."""
    return np.flatnonzero(page.spans[:, 1] > page.spans[:, 0])


def page_f1(recipes: Sequence[Recipe], probabilities: Sequence[np.ndarray], classes: Sequence[str]) -> dict[str, float]:
    """F1 in per cent of the texts of each attribute, a page at a time and averaged over the pages that have some.

    Parameters
    ----------
    probabilities : for each page (nodes, 1 + classes)
    classes : attributes in the order of the columns after the first
    """
    scores: dict[str, list[float]] = {name: [] for name in ATTRIBUTES}
    for recipe, p in zip(recipes, probabilities, strict=True):
        nodes = texted(recipe.page)
        best = p[nodes].argmax(axis=1)
        for name, expected in recipe.expected.items():
            if not expected:
                continue
            column = 1 + list(classes).index(name)
            chosen = nodes[[p[nodes, column].argmax()]] if name in SINGLE else nodes[best == column]
            told = {recipe.page.full_text(int(node)) for node in chosen}
            scores[name].append(2 * len(told & expected) / (len(told) + len(expected)))
    means = {name: 100 * float(np.mean(values)) for name, values in scores.items()}
    return {"F1": float(np.mean(list(means.values()))), **means}


def hand_made(page: Page, words: Sequence[str]) -> np.ndarray:
    """What one would look at: (nodes, features) of place, tag, text and the words of class and id, also of the parent."""
    n = len(page)
    tags = sorted({"a", "article", "b", "body", "button", "dd", "div", "dl", "dt", "em", "figcaption", "h1", "h2", "h3", "h4",
                   "header", "img", "label", "li", "ol", "p", "section", "span", "strong", "td", "time", "tr", "ul"})  # fmt: skip
    code = {tag: number for number, tag in enumerate(tags, 1)}
    tag = np.array([code.get(name, 0) for name in page.tags])
    parent = np.maximum(page.parents, 0)
    own = np.array([len(text) for text in page.texts])
    full = [page.full_text(node) if page.spans[node, 1] - page.spans[node, 0] < 2000 else "" for node in range(n)]
    length = (page.spans[:, 1] - page.spans[:, 0]).astype(float)
    digits = np.array([sum(c.isdigit() for c in text) for text in full])
    capitals = np.array([sum(word[:1].isupper() for word in text.split()) for text in full])
    number = np.array([len(text.split()) for text in full])
    first = np.array([text[:1].isdigit() for text in full])
    last = np.array([text[-1:] in (".", "!", ":") for text in full])
    by = np.array([text.lower().startswith(("by ", "author")) for text in full])
    children = np.bincount(parent[1:], minlength=n)
    place = np.column_stack(
        [page.depths, page.siblings, children, page.ends - np.arange(n), np.arange(n) / n, np.arange(n)]
    )
    text = np.column_stack(
        [own, length, digits, digits / np.maximum(length, 1), capitals / np.maximum(number, 1), number, first, last, by]
    )
    names = [frozenset(page.name_text(node, ("class", "id")).lower().split()) for node in range(n)]
    bag = np.array([[word in have for word in words] for have in names], bool).reshape(n, len(words))
    above = parent[parent]
    return np.column_stack(
        [tag, tag[parent], tag[above], place, text, length[parent], children[parent], bag, bag[parent] | bag[above]]
    )


def frequent_words(recipes: Sequence[Recipe]) -> list[str]:
    """The words of class and id on most of the pages."""
    seen: dict[str, int] = {}
    for recipe in recipes:
        page = recipe.page
        for word in {
            word for node in range(len(page)) for word in page.name_text(node, ("class", "id")).lower().split()
        }:
            seen[word] = seen.get(word, 0) + 1
    return sorted(seen, key=lambda word: (-seen[word], word))[:WORDS]


def boosted(train: Sequence[Recipe], test: Sequence[Recipe], seed: int, attribute_words: bool) -> dict[str, float]:
    """Gradient boosting on the hand-made features; nodes that are nothing are drawn, 15 for each that is something."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    # words that say what a class means are few among the frequent ones: those of labelled nodes count too
    words = frequent_words(train) + label_words(train) if attribute_words else []
    rng = np.random.default_rng(seed)
    features, labels = [], []
    for recipe in train:
        page = recipe.page
        y = np.zeros(len(page), int)
        y[list(recipe.matched.labels)] = [1 + ATTRIBUTES.index(name) for name in recipe.matched.labels.values()]
        nothing = [node for node in texted(page) if y[node] == 0 and node not in recipe.matched.ambiguous]
        nothing = rng.permutation(nothing)[: max(60, 15 * int((y > 0).sum()))]
        rows = np.concatenate([np.flatnonzero(y), nothing]).astype(int)
        features.append(hand_made(page, words)[rows])
        labels.append(y[rows])
    model = HistGradientBoostingClassifier(
        random_state=seed,
        max_iter=100,
        learning_rate=0.05,
        max_leaf_nodes=8,
        min_samples_leaf=3,  # some attributes have a dozen labelled nodes
        l2_regularization=1.0,
        class_weight="balanced",
        categorical_features=[0, 1, 2],
    )
    model.fit(np.concatenate(features), np.concatenate(labels))
    found = []
    for recipe in test:
        p = np.zeros((len(recipe.page), 1 + len(ATTRIBUTES)))
        p[:, model.classes_] = model.predict_proba(hand_made(recipe.page, words))
        found.append(p)
    return page_f1(test, found, ATTRIBUTES)


def label_words(recipes: Sequence[Recipe]) -> list[str]:
    """The words of class and id that labelled nodes, their parents and grandparents have most often."""
    seen: dict[str, int] = {}
    for recipe in recipes:
        page = recipe.page
        for node in recipe.matched.labels:
            parent = max(int(page.parents[node]), 0)
            near = {node, parent, max(int(page.parents[parent]), 0)}
            for word in {word for place in near for word in page.name_text(place, ("class", "id")).lower().split()}:
                seen[word] = seen.get(word, 0) + 1
    return sorted(seen, key=lambda word: (-seen[word], word))[:WORDS]
