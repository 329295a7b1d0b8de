"""What the claims about retrieval share: BM25 with stemming, fused scores, and collections with judgements."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer

from nolabel.data import load

COLLECTIONS = ("cranfield", "cisi", "npl", "medline")


def bm25(documents: Sequence[str], queries: Sequence[str]) -> np.ndarray:
    """Scores (queries, documents) of BM25 as `bm25s` comes (Lucene's, k1 1.5, b 0.75): English stop words out, stemmed."""
    import bm25s
    from Stemmer import Stemmer

    stemmer = Stemmer("english")
    found = bm25s.BM25()
    found.index(
        bm25s.tokenize(list(documents), stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False
    )
    asked = bm25s.tokenize(list(queries), stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)
    return np.stack([found.get_scores(words) if words else np.zeros(len(documents)) for words in asked]).astype(
        np.float32
    )


def fused(words: np.ndarray, vectors: np.ndarray, weight: float) -> np.ndarray:
    """Scores of BM25 plus `weight` times those of vectors, each standardised over the documents of a query."""
    first, second = (
        (s - s.mean(axis=1, keepdims=True)) / (s.std(axis=1, keepdims=True) + 1e-9) for s in (words, vectors)
    )
    return first + weight * second


def best(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions (queries, k) of the highest scores, best first, equal ones in order."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def collection(name: str) -> tuple[list[str], list[str], list[dict[int, float]]]:
    """Documents, judged queries, and for each query the grades of documents by position; grade 0 is not relevant."""
    documents, queries, judged = (
        load(part, collection=name).to_pandas() for part in ("ir_docs", "ir_queries", "ir_qrels")
    )
    documents["whole"] = (documents.title.fillna("") + " " + documents.text.fillna("")).str.strip()
    documents = documents[documents.whole != ""]  # Cranfield has two documents without a word
    place = {key: row for row, key in enumerate(documents.doc_id)}
    grades: dict[str, dict[int, float]] = {}
    for query, document, grade in zip(judged.query_id, judged.doc_id, judged.grade, strict=True):
        if grade > 0 and document in place:
            grades.setdefault(query, {})[place[document]] = float(grade)
    asked = queries[queries.query_id.isin(grades)]
    return documents.whole.tolist(), asked.text.tolist(), [grades[query] for query in asked.query_id]


def squad(near: float = 0.2, distractors: int = 2000, random_state: int = 0) -> tuple[dict[str, list[str]], Any]:
    """Pairs to learn from, and questions about articles that none of these is from.

    Training passages of an article that is also tested, or nearer to a tested passage than `near` (TF-IDF cosine), are left
    out: 3 articles share a title, and the untitled passages could be of any.

    Returns
    -------
    columns ``query`` and ``passage``; (questions, passages, positions that answer each question, how many were left out)
    """
    passages, questions = (load(f"squad_{part}").to_pandas() for part in ("passages", "questions"))
    tested = passages[passages.source == "squad-dev-xq"]
    other = passages[passages.source != "squad-dev-xq"]
    words = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit(passages.text)
    cosine = (words.transform(other.text) @ words.transform(tested.text).T).max(axis=1).toarray().ravel()
    apart = other[(cosine <= near) & ~other.title.isin(set(tested.title))]
    text = dict(zip(apart.passage_id, apart.text, strict=True))
    learned = questions[questions.passage_id.isin(text)]
    pairs = {"query": learned.question.tolist(), "passage": [text[key] for key in learned.passage_id]}
    more = apart[apart.source == "squad-b"].sample(distractors, random_state=random_state)
    pool = pd.concat([tested, more])
    same: dict[str, set[int]] = {}  # passages that differ in case and punctuation alone are equally right
    plain = pool.text.str.lower().str.replace(r"[\W_]+", "", regex=True)
    for row, key in enumerate(plain):
        same.setdefault(key, set()).add(row)
    right = {key: same[bare] for key, bare in zip(pool.passage_id, plain, strict=True)}
    asked = questions[questions.source == "squad-dev-xq"]
    answers = [right[key] for key in asked.passage_id]
    return pairs, (asked.question.tolist(), pool.text.tolist(), answers, len(other) - len(apart))
