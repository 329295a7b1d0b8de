import json
import sys
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import nolabel
from nolabel.cluster import Lbl2Vec

TINY = {"vector_size": 24, "window": 5, "epochs": 40, "min_count": 2, "sample": 0.0, "min_docs": 20}


def make(made, **settings):
    return Lbl2Vec(settings.pop("keywords", made.keywords), **{**TINY, **settings})


@pytest.fixture(scope="module")
def fitted(made):
    return make(made).fit(made.texts)


def unit(z):
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


def test_topics_are_found_from_three_keywords_each(fitted, made):
    assert (fitted.predict() == made.truth).mean() > 0.9
    scores = fitted.decision_function()
    assert scores.shape == (240, 3)
    assert scores.min() >= -1
    assert scores.max() <= 1
    with_keyword = [
        any(word in text.lower() for words in made.keywords.values() for word in words) for text in made.texts
    ]
    rest = ~np.array(with_keyword)
    assert rest.sum() > 10
    assert (fitted.predict()[rest] == made.truth[rest]).mean() > 0.8  # no keyword in them at all


def test_each_step_recomputed(fitted, made):
    number = {word: i for i, word in enumerate(fitted.words_)}
    u, v = fitted.word_vectors_, fitted.doc_vectors_
    for i, label in enumerate(fitted.labels_):
        k = np.mean([u[number[w]] / np.linalg.norm(u[number[w]]) for w in made.keywords[label]], axis=0)
        np.testing.assert_allclose(fitted.keyword_vectors_[i], k, rtol=1e-5)
        similarity = [v[d] @ k / np.linalg.norm(v[d]) / np.linalg.norm(k) for d in range(len(v))]
        nearest = np.argsort(similarity)[::-1][:20]
        assert fitted.candidates_[i].tolist() == nearest.tolist()
        c = v[nearest].mean(axis=0)  # of the raw vectors
        np.testing.assert_allclose(fitted.label_vectors_[i], c, rtol=1e-5)
        assert not np.allclose(unit(c[None]), unit(unit(v[nearest]).mean(axis=0)[None]), atol=1e-4)
        expected = [v[d] @ c / np.linalg.norm(v[d]) / np.linalg.norm(c) for d in range(len(v))]
        np.testing.assert_allclose(fitted.decision_function()[:, i], expected, atol=1e-5)
    best = [fitted.labels_[i] for i in fitted.decision_function().argmax(axis=1)]
    assert fitted.predict().tolist() == best


def test_the_authors_default_is_the_single_nearest_document(fitted, made):
    one = make(made, min_docs=1).fit(made.texts)
    for i, rows in enumerate(one.candidates_):
        assert rows.tolist() == fitted.candidates_[i][:1].tolist()
        assert np.array_equal(one.label_vectors_[i], one.doc_vectors_[rows[0]])


def test_threshold_offset_and_most_documents(made):
    near = make(made, min_docs=1, threshold_offset=0.3).fit(made.texts)
    similarity = unit(near.doc_vectors_) @ unit(near.keyword_vectors_).T
    for i, rows in enumerate(near.candidates_):
        assert set(rows) == set(np.flatnonzero(similarity[:, i] > similarity[:, i].max() - 0.3))
        assert len(rows) > 1
    few = make(made, min_docs=1, max_docs=3, similarity_threshold=-1.0).fit(made.texts)
    assert [len(rows) for rows in few.candidates_] == [3, 3, 3]


def test_outliers_are_left_out_by_the_local_outlier_factor(made):
    from sklearn.neighbors import LocalOutlierFactor

    strange = [*made.texts, "apple pear plum " * 300]  # the keywords over and over: a vector far longer than the others
    whole = make(made, min_docs=40, epochs=20).fit(strange)
    cleaned = make(made, min_docs=40, epochs=20, clean_outliers=True).fit(strange)
    assert 240 in whole.candidates_[0]
    assert 240 not in cleaned.candidates_[0]
    for kept, rows in zip(cleaned.candidates_, whole.candidates_):
        found = LocalOutlierFactor(n_neighbors=20).fit_predict(whole.doc_vectors_[rows])
        assert kept.tolist() == rows[found == 1].tolist()
    assert not np.array_equal(cleaned.label_vectors_[0], whole.label_vectors_[0])


def test_capitals_do_not_matter_and_a_keyword_twice_counts_once(fitted, made):
    loud = {label: [word.upper() for word in words] + words[:1] for label, words in made.keywords.items()}
    assert np.array_equal(make(made, keywords=loud).fit(made.texts).label_vectors_, fitted.label_vectors_)


def test_order_of_labels_does_not_matter(fitted, made):
    turned = make(made, keywords=dict(reversed(made.keywords.items()))).fit(made.texts)
    assert np.array_equal(turned.decision_function(), fitted.decision_function()[:, ::-1])
    assert turned.predict().tolist() == fitted.predict().tolist()


def test_a_keyword_of_several_words_is_their_mean_and_that_is_said(made):
    keywords = {**made.keywords, "fruit": ["apple pear unheard", "plum"]}
    with pytest.warns(UserWarning, match="several words are read as the mean.*'apple pear unheard'"):
        model = make(made, keywords=keywords).fit(made.texts)
    u = unit(model.word_vectors_)
    apple, pear, plum = (u[model.words_.index(word)] for word in ("apple", "pear", "plum"))
    np.testing.assert_allclose(model.keyword_vectors_[0], ((apple + pear) / 2 + plum) / 2, rtol=1e-5)
    assert model.unknown_keywords_["fruit"] == []


def test_unknown_keywords_are_said_and_kept(made):
    keywords = {**made.keywords, "fruit": ["apple", "durian"]}
    with pytest.warns(UserWarning, match="1 keywords do not occur min_count=2 times: 'durian'"):
        model = make(made, keywords=keywords).fit(made.texts)
    assert model.unknown_keywords_ == {"fruit": ["durian"], "weather": [], "music": []}


def test_new_documents(fitted, made):
    new = ["A mango, a fig and a berry!", "thunder and hail", "the choir and the harp"]
    assert fitted.predict(new).tolist() == ["fruit", "weather", "music"]
    assert np.array_equal(fitted.decision_function(new), fitted.decision_function(new))
    np.testing.assert_allclose(fitted.decision_function(new[1:2]), fitted.decision_function(new)[1:2], atol=1e-5)


def test_inferred_vectors_of_the_training_documents_are_near_the_stored_ones(fitted, made):
    found = fitted.transform(made.texts)
    assert (unit(found) * unit(fitted.transform())).sum(axis=1).mean() > 0.8
    assert (fitted.predict(made.texts) == fitted.predict()).mean() > 0.9


def test_rank(fitted):
    rows, similarities = fitted.rank("music", 5)
    column = fitted.decision_function()[:, 2]
    assert rows.tolist() == np.argsort(-column, kind="stable")[:5].tolist()
    np.testing.assert_allclose(similarities, column[rows], atol=1e-6)
    assert fitted.rank("music", 2, ["apple", "choir harp song", "song apple"]).rows.tolist() == [1, 2]
    assert len(fitted.rank("music", 9999).rows) == 240
    with pytest.raises(
        ValueError, match=r"'fruit', 'weather', 'music' was expected, got 'musik' \(did you mean 'music'"
    ):
        fitted.rank("musik")
    with pytest.raises(ValueError, match="k: an integer at least 1"):
        fitted.rank("music", 0)


def test_words_near_a_label(fitted):
    found = fitted.words_near("music", 8)
    assert {"choir", "opera", "song", "harp", "melody"} & {word for word, _ in found}
    assert [value for _, value in found] == sorted((value for _, value in found), reverse=True)


def test_thresholds(fitted):
    scores, labels = fitted.decision_function(), fitted.labels_
    high = float(np.median(scores.max(axis=1)))
    found = fitted.predict(threshold=high)
    assert [label is None for label in found] == (scores.max(axis=1) < high).tolist()
    never = fitted.predict(threshold={"fruit": 1.0})  # the others have none
    assert "fruit" not in never
    second = scores[:, 1:].argmax(axis=1)
    assert never.tolist() == [labels[1 + i] for i in second]
    with pytest.raises(ValueError, match="threshold must be a number in"):
        fitted.predict(threshold=1.5)
    with pytest.raises(ValueError, match="threshold: 'fruits' is none of the labels"):
        fitted.predict(threshold={"fruits": 0.5})


def test_a_document_without_a_known_word_gets_no_topic(fitted, made):
    with pytest.warns(UserWarning, match="1 of 2 documents hold no word of the vocabulary, first row 1"):
        assert fitted.predict(["apple", "unheard words"]).tolist() == ["fruit", None]
    with pytest.warns(UserWarning, match="first row 0"):
        assert not fitted.decision_function(["unheard words"]).any()
    with pytest.warns(UserWarning, match="first row 240"):
        model = make(made, similarity_threshold=-1.0).fit([*made.texts, "unheard words"])
    assert model.predict()[240] is None
    assert all(240 not in rows for rows in model.candidates_)
    assert 240 not in model.rank("fruit", 999).rows


def test_seed(fitted, made):
    again = make(made).fit(made.texts)
    assert np.array_equal(again.decision_function(), fitted.decision_function())
    assert np.array_equal(again.fit(made.texts).decision_function(), fitted.decision_function())
    other = make(made, random_state=1).fit(made.texts)
    assert not np.array_equal(other.decision_function(), fitted.decision_function())


def test_save_and_load_without_gensim(fitted, made, tmp_path, monkeypatch):
    fitted.save(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.json", "model.safetensors"]
    for name in [name for name in sys.modules if name.split(".")[0] == "gensim"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gensim", None)
    loaded = nolabel.load(tmp_path / "run")
    assert type(loaded) is Lbl2Vec
    assert loaded.get_params() == fitted.get_params()
    new = ["A mango, a fig and a berry!", "thunder and hail"]
    assert np.array_equal(loaded.decision_function(new), fitted.decision_function(new))
    assert np.array_equal(loaded.decision_function(), fitted.decision_function())
    assert np.array_equal(loaded.predict(), fitted.predict())
    assert np.array_equal(loaded.rank("music").rows, fitted.rank("music").rows)
    assert loaded.unknown_keywords_ == fitted.unknown_keywords_
    assert json.loads((tmp_path / "run" / "config.json").read_text())["class"] == "nolabel.cluster.lbl2vec.Lbl2Vec"
    with pytest.raises(ImportError, match=r"pip install nolabel\[text\]"):
        make(made).fit(made.texts)


def test_clone_and_constructor(made):
    marks = {name: object() for name in Lbl2Vec._get_param_names()}
    assert vars(Lbl2Vec(**marks)) == marks
    model = make(made, window=7)
    copy = clone(model)
    assert copy is not model
    assert copy.get_params() == model.get_params()


def test_tables_series_and_files(fitted, made, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"body": made.texts, "year": 2000})
    expected = fitted.decision_function(made.texts[:5])
    assert np.array_equal(fitted.decision_function(frame[:5], columns={"text": "body"}), expected)
    assert np.array_equal(fitted.decision_function(frame["body"][:5]), expected)
    assert np.array_equal(fitted.decision_function(np.array(made.texts[:5])), expected)
    frame[:5].rename(columns={"body": "text"}).to_parquet(tmp_path / "docs.parquet")
    for path in (tmp_path / "docs.parquet", str(tmp_path / "docs.parquet")):
        assert np.array_equal(fitted.decision_function(path), expected)
    with pytest.raises(ValueError, match="docs: no column 'text'; the columns are body, year"):
        fitted.decision_function(frame)


def test_progress(made):
    seen = []
    model = make(made, epochs=3).fit(made.texts, progress=lambda *at: seen.append(at))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    seen.clear()
    model.decision_function(made.texts[:7], progress=lambda *at: seen.append(at))
    assert seen[-1] == (7, 7)


def test_sampling_that_leaves_nothing_to_learn_from_is_said(made):
    with pytest.warns(UserWarning, match="sample=0.0001 leaves .* words of a document in a pass"):
        make(made, sample=1e-4, epochs=1).fit(made.texts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(made, epochs=1).fit(made.texts)


def test_before_fit_and_after_a_failed_one(made, tmp_path):
    for name, given in (("predict", ()), ("decision_function", ()), ("transform", ()), ("rank", ("fruit",))):
        with pytest.raises(NotFittedError, match="this Lbl2Vec is not fitted"):
            getattr(make(made), name)(*given)
    with pytest.raises(NotFittedError):
        make(made).save(tmp_path / "run")
    failed = make(made, keywords={"common": ["the", "a"]})
    with pytest.warns(UserWarning, match="hold no word"), pytest.raises(ValueError, match="with known words"):
        failed.fit([*made.texts[:15], *(f"unheard{i}" for i in range(15))])
    with pytest.raises(NotFittedError):
        failed.predict()


GOOD = {"fruit": ["apple"], "weather": ["rain"]}
BAD = {
    "no dict": ({"keywords": ["apple"]}, TypeError, "keywords: a dict of label to list of keywords was expected, got list"),
    "no labels": ({"keywords": {}}, ValueError, "keywords: at least one label"),
    "empty list": ({"keywords": {**GOOD, "music": []}}, ValueError, "keywords: the list of 'music' is empty"),
    "one text": ({"keywords": {"fruit": "apple"}}, TypeError, "a list of keywords was expected for 'fruit', got 'apple'"),
    "a number": ({"keywords": {"fruit": ["apple", 3]}}, TypeError, "keywords: 3 of 'fruit' is a int"),
    "blank": ({"keywords": {"fruit": ["apple", " "]}}, ValueError, "keywords: a keyword of 'fruit' is blank"),
    "label no text": ({"keywords": {1: ["apple"]}}, TypeError, "labels must be texts, got 1"),
    "twice": ({"keywords": {**GOOD, "Fruit ": ["pear"]}}, ValueError, "labels 'fruit' and 'Fruit ' are one name"),
    "unknown": (
        {"keywords": {**GOOD, "music": ["pianos", "zzz"]}},
        ValueError,
        "none of 'pianos', 'zzz' of 'music' is among the .* words that occur min_count=2 times; .* are piano",
    ),
    "min_docs of 0": ({"min_docs": 0}, ValueError, "min_docs: an integer at least 1 was expected, got 0"),
    "max below min": ({"max_docs": 19}, ValueError, r"max_docs: an integer at least 20 was expected .*, got 19"),
    "threshold": ({"similarity_threshold": 1.1}, ValueError, r"similarity_threshold must be a number in \[-1, 1\], got 1.1"),
    "threshold NaN": ({"similarity_threshold": float("nan")}, ValueError, "similarity_threshold must be a number"),
    "offset": ({"threshold_offset": -0.1}, ValueError, r"threshold_offset must be a number in \[0, 2\], got -0.1"),
    "too rare": ({"min_count": 10_000}, ValueError, "no word occurs min_count=10000 times in 240 documents"),
    "few documents": ({"min_docs": 241}, ValueError, "at least min_docs=241 documents were expected, got 240"),
    "vector_size": ({"vector_size": 0}, ValueError, "vector_size: an integer at least 1"),
    "window": ({"window": 2.5}, ValueError, "window: an integer at least 1"),
    "epochs": ({"epochs": 0}, ValueError, "epochs: an integer at least 1"),
    "negative": ({"negative": 0}, ValueError, "negative: an integer at least 1"),
    "sample": ({"sample": 1.0}, ValueError, r"sample must be a frequency in \[0, 1\), got 1.0"),
    "lr": ({"lr": 0.0}, ValueError, "lr must be at least 0.0001"),
    "random_state": ({"random_state": None}, ValueError, "random_state: an integer"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_parameters(case, made):
    settings, error, message = BAD[case]
    with pytest.raises(error, match=message) as caught:
        make(made, **settings).fit(made.texts)
    assert "\n" not in str(caught.value)


BAD_DOCS = {
    "one text": ("an apple", TypeError, "docs: a list of texts was expected, got the one text 'an apple'"),
    "none": ([], ValueError, "docs: at least one document was expected"),
    "empty": (["apple"] * 30 + [" "], ValueError, r"docs: row 30 is empty \(1 of 31 such\)"),
    "missing": (["apple"] * 30 + [None], ValueError, "docs: row 30 is empty"),
    "no word": (["apple"] * 30 + ["?!"], ValueError, "docs: row 30 holds no word"),
    "a number": (["apple"] * 30 + [3], TypeError, "docs: texts were expected, row 30 is a int"),
    "a dict of numbers": ({"vector": np.zeros((3, 2))}, ValueError, "docs: no column 'text'"),
}


@pytest.mark.parametrize("case", BAD_DOCS)
def test_bad_documents(case, made, fitted):
    docs, error, message = BAD_DOCS[case]
    for call in (make(made, keywords=GOOD).fit, fitted.predict, fitted.decision_function, fitted.transform):
        with pytest.raises(error, match=message):
            call(docs)
