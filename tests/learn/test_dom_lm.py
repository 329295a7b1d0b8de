"""DOM-LM and what is fine-tuned on it: attributes, pairs, questions."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from nolabel.data.dom import parse_html
from nolabel.learn import AttributeExtractor, DomLM, HtmlQA, OpenIE
from nolabel.learn.dom_lm import page_states
from nolabel.training import Training

WORDS = ("soup", "stew", "bread", "salad", "cake", "pie", "rice", "fish", "egg", "bean")


def page(seed):
    """A recipe whose title and ingredients are the same words: only their places tell them apart."""
    rng = np.random.default_rng(seed)
    title, *rest = rng.choice(WORDS, 6)
    items = "".join(f"<li>{word}" for word in rest[:4])
    return f"<body><div class=top><h2>{title}</h2></div><div><ul>{items}</ul><p>{rest[4]}</p></div></body>"


PAGES = [page(seed) for seed in range(60)]


def training(**settings):
    return Training(**{"steps": 60, "batch_size": 16, "lr": 3e-3, "precision": "32-true", **settings})


def model(**params):
    settings = {"vocabulary_size": 120, "max_tokens": 48, "stride": 24, "attributes": (), "training": training()}
    return DomLM("bert-1x32", **{**settings, **params})


@pytest.fixture(scope="module")
def fitted():
    return model().fit(PAGES)


def first(learner, name):
    return next(row[name] for row in learner.history_ if name in row)


def last(learner, name):
    return next(row[name] for row in learner.history_[::-1] if name in row)


def test_both_losses_fall(fitted):
    for name in ("token", "node"):
        assert last(fitted, name) < first(fitted, name) - 0.3
    assert fitted.cut_ == 0


def test_shares_switch_objectives_off():
    assert "node" not in model(mask_node=0.0, training=training(steps=2)).fit(PAGES).history_[-2]
    assert "token" not in model(mask_token=0.0, training=training(steps=2)).fit(PAGES).history_[-2]


def test_hidden_nodes_are_hidden_whole_and_in_half_of_the_windows(fitted):
    batch = fitted.open_table(PAGES[:32], None).batch(np.arange(16))
    views = fitted.views(batch, torch.Generator().manual_seed(0))
    assert int(views["by_node"].sum()) == 8
    hidden = views["targets"] >= 0
    assert torch.equal(views["targets"][hidden], batch["html"]["tokens"][hidden])
    assert torch.equal(views["html"]["tokens"][~hidden], batch["html"]["tokens"][~hidden])
    for row in torch.nonzero(views["by_node"].flatten()).flatten().tolist():
        nodes = batch["node"][row]
        for node in nodes[hidden[row]].unique().tolist():
            own = (nodes == node) & (batch["kind"][row] == batch["kind"][row][hidden[row] & (nodes == node)][0])
            assert hidden[row][own].all()


def test_tree_tells_places_apart(fitted):
    """States depend on where in the tree tokens stand, and without the tables they do not."""
    batch = fitted.open_table(PAGES[:4], None).batch(np.arange(4))
    moved = {**batch, "tree": batch["tree"].roll(2, dims=1)}
    plain = model(tree=False, training=training(steps=2)).fit(PAGES)
    with torch.no_grad():
        assert not torch.allclose(page_states(fitted.net_, batch), page_states(fitted.net_, moved), atol=1e-3)
        assert torch.equal(page_states(plain.net_, batch), page_states(plain.net_, moved))


def test_levels(fitted):
    pages, nodes, tokens = (fitted.transform(PAGES[:5], level=level) for level in ("page", "node", "token"))
    assert pages.shape == (5, 32)
    assert pages.dtype == np.float32
    tree = parse_html(PAGES[0])
    assert [xpath for xpath, _ in nodes[0]] == [tree.xpath(i) for i in range(len(tree))]
    for (xpath, vector), (same, states) in zip(
        nodes[0], sorted(tokens[0], key=lambda pair: [x for x, _ in nodes[0]].index(pair[0]))
    ):
        assert xpath == same
        np.testing.assert_allclose(states.mean(axis=0), vector, atol=1e-4)  # one window holds the page
    with pytest.raises(ValueError, match="level must be one of page, node, token, got 'word'"):
        fitted.transform(PAGES[:1], level="word")


def test_pages_do_not_depend_on_company(fitted):
    z = fitted.transform(PAGES)
    np.testing.assert_allclose(fitted.transform(PAGES[::-1]), z[::-1], atol=1e-5)


def test_saved_and_repeated(fitted, tmp_path):
    fitted.save(tmp_path / "run")
    loaded = DomLM.load(tmp_path / "run")
    assert np.array_equal(loaded.transform(PAGES[:9]), fitted.transform(PAGES[:9]))
    assert np.array_equal(clone(fitted).fit(PAGES).transform(PAGES[:9]), fitted.transform(PAGES[:9]))


def test_attributes_of_new_pages_are_found(fitted, tmp_path):
    labels = [{"/html/body/div[1]/h2": "title"} | {f"/html/body/div[2]/ul/li[{i}]": "item" for i in range(1, 5)}] * 60
    learner = AttributeExtractor(fitted, training=training(steps=80, lr=0.01)).fit(PAGES, labels)
    assert learner.classes_.tolist() == ["item", "title"]
    new = [page(seed) for seed in range(100, 120)]
    found = learner.predict(new)
    right = [[text for _, text, _ in each["title"]] == [parse_html(html).texts[2]] for each, html in zip(found, new)]
    assert np.mean(right) > 0.9
    assert np.mean([len(each["item"]) == 4 for each in found]) > 0.9
    learner.save(tmp_path / "run")
    assert AttributeExtractor.load(tmp_path / "run").predict(new) == found


def test_pairs_of_new_pages_are_found(fitted):
    def table(seed):
        words = np.random.default_rng(seed).choice(WORDS, 4)
        return "<table>" + "".join(f"<tr><th>{k}<td>{v}" for k, v in words.reshape(2, 2)) + "</table>", words

    pages, words = zip(*(table(seed) for seed in range(60)))
    row = "/html/body/table/tr[{}]/{}"
    labels = [[(row.format(i, "th"), row.format(i, "td")) for i in (1, 2)]] * 60
    own = model().fit(list(pages))
    found = (
        OpenIE(own, training=training(steps=80, lr=0.01)).fit(list(pages[:40]), labels[:40]).predict(list(pages[40:]))
    )
    right = [[(p.key, p.value) for p in each] == [tuple(w[:2]), tuple(w[2:])] for each, w in zip(found, words[40:])]
    assert np.mean(right) > 0.8


def test_questions_about_new_pages_are_answered(fitted):
    titles = [parse_html(html).texts[2] for html in PAGES]
    learner = HtmlQA(fitted, question_tokens=8, training=training(steps=120, lr=0.01))
    answers = [("/html/body/div[1]/h2", title) for title in titles]
    learner.fit(PAGES[:45], ["what is it called"] * 45, answers[:45])
    found = [answer.text for answer in learner.predict(PAGES[45:], ["what is it called"] * 15)]
    assert np.mean(np.array(found) == titles[45:]) > 0.8


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"stride": 60}, "stride must be at most max_tokens, 48, got 60"),
        ({"stride": 0}, "stride must be a whole number of at least 1"),
        ({"max_tokens": 2, "stride": 1}, "max_tokens must be a whole number of at least 3, got 2"),
        ({"mask_token": 1.0}, r"mask_token must be a share in \[0, 1\)"),
        ({"mask_token": 0.0, "mask_node": 0.0}, "nothing would be learned"),
    ],
)
def test_bad_arguments(params, message):
    with pytest.raises(ValueError, match=message):
        model(**params).fit(PAGES)


def test_bad_pages_and_labels(fitted):
    with pytest.raises(ValueError, match=r"html\[1\]: expected a page, found no tag"):
        model().fit([PAGES[0], "no page"])
    with pytest.raises(ValueError, match=r"html\[2\]: the body is empty"):
        model().fit([*PAGES[:2], "<body></body>"])
    with pytest.raises(TypeError, match="expected a list of pages, got a single one"):
        model().fit(PAGES[0])
    with pytest.raises(ValueError, match=r"labels\[0\]: .*h7"):
        AttributeExtractor(fitted).fit(PAGES[:2], [{"/html/body/h7": "title"}, {}])
    with pytest.raises(ValueError, match="labels: expected 2, one a page, got 1"):
        AttributeExtractor(fitted).fit(PAGES[:2], [{}])
    with pytest.raises(ValueError, match="no node of any page has an attribute"):
        AttributeExtractor(fitted).fit(PAGES[:2], [{}, {}])
    with pytest.raises(ValueError, match=r"answers\[0\]: 'nowhere' does not stand in"):
        HtmlQA(fitted, question_tokens=8).fit(PAGES[:1], ["what"], ["nowhere"])
    with pytest.raises(TypeError, match="domlm must be a DomLM, got str"):
        OpenIE("bert-tiny").fit(PAGES[:1], [[]])


def test_a_node_longer_than_a_window_is_cut_and_counted():
    long = "<p>" + " ".join(WORDS * 20) + "</p>"
    with pytest.warns(UserWarning, match="1 nodes are longer than a window and were cut"):
        found = model(training=training(steps=2)).fit([*PAGES, long])
    assert found.cut_ == 1


def test_rows_of_a_table_without_a_page_are_left_out(fitted):
    table = {"html": [PAGES[0], "no page", PAGES[1]], "path": list("abc")}
    with pytest.warns(UserWarning, match="1 of 3 pages were skipped, first b: expected a page"):
        z = fitted.transform(table)
    np.testing.assert_allclose(z, fitted.transform(PAGES[:2]), atol=1e-6)
    with pytest.warns(UserWarning, match="pages were skipped"):
        learned = model(training=training(steps=2)).fit({"html": [*PAGES, ""]})
    assert learned.transform([parse_html(PAGES[0])]).shape == (1, 32)
    with (
        pytest.warns(UserWarning, match="pages were skipped"),
        pytest.raises(ValueError, match=r"html\[1\]: .*leave such rows out"),
    ):
        AttributeExtractor(fitted).fit(table, [{}] * 3)


def test_a_page_is_the_mean_of_its_tokens(fitted):
    long = PAGES[0].replace("</ul>", "".join(f"<li>{word} {word}" for word in WORDS * 3) + "</ul>")  # several windows
    assert len(fitted.open_table([long], None)) > 1
    nodes = fitted.transform([long], level="node")[0]
    counts = fitted.open_table([long], None).tokens[0].counts
    expected = np.average([vector for _, vector in nodes], axis=0, weights=counts)
    np.testing.assert_allclose(fitted.transform([long])[0], expected, atol=1e-5)


def test_a_page_nested_deeper_than_python_recurses(fitted):
    deep = "<div>" * 5000 + "soup" + "</div>" * 5000
    assert np.isfinite(fitted.transform([deep, PAGES[0]])).all()
    assert model(training=training(steps=2)).fit([*PAGES, deep]).cut_ == 0


LABELS = [{"/html/body/div[1]/h2": "title"} | {f"/html/body/div[2]/ul/li[{i}]": "item" for i in range(1, 5)}] * 60


def test_rare_attributes_weigh_more(fitted):
    """n nodes: 60 titles, 240 items, and body, two div, ul and p of each page, which are nothing."""
    learner = AttributeExtractor(fitted, training=training(steps=2)).fit(PAGES, LABELS)
    np.testing.assert_allclose(learner.class_weights_, [1.0, (300 / 240) ** 0.5, (300 / 60) ** 0.5])
    assert learner.single_ == ["title"]
    alike = AttributeExtractor(fitted, balance=0.0, training=training(steps=2)).fit(PAGES, LABELS)
    assert alike.class_weights_ == [1.0, 1.0, 1.0]
    for balance in (-0.1, 1.5):
        with pytest.raises(ValueError, match=r"balance must lie in \[0, 1\]"):
            AttributeExtractor(fitted, balance=balance).fit(PAGES, LABELS)


def test_what_is_marked_none_counts_neither_way(fitted):
    """The gradient of a window does not see a node whose label is None."""
    marked = [labels | {"/html/body/div[2]/p": None} for labels in LABELS]
    learner = AttributeExtractor(fitted, training=training(steps=2))
    learner.fit(PAGES, marked)
    np.testing.assert_allclose(learner.class_weights_, [1.0, 1.0, 2.0])  # 240 nothing, 240 items, 60 titles


def test_heads_take_a_language_model_that_is_still_to_be_fitted(tmp_path):
    learner = AttributeExtractor(model(training=training(steps=2)), training=training(steps=2)).fit(PAGES, LABELS)
    assert not learner.domlm._learned()
    assert learner.transform(PAGES[:3]).shape == (3, 32)
    learner.save(tmp_path / "run")
    loaded = AttributeExtractor.load(tmp_path / "run")
    assert loaded.predict(PAGES[:3]) == learner.predict(PAGES[:3])
    again = clone(learner).fit(PAGES, LABELS)
    assert again.predict(PAGES[:3]) == learner.predict(PAGES[:3])


def test_labels_are_looked_at_before_anything_is_learned(monkeypatch):
    monkeypatch.setattr(DomLM, "fit", lambda *args, **options: pytest.fail("learned first"))
    with pytest.raises(ValueError, match=r"labels\[0\]: .*h7"):
        AttributeExtractor(model()).fit(PAGES[:1], [{"/html/body/h7": "title"}])
    with pytest.raises(ValueError, match=r"labels\[0\]: .*h7"):
        OpenIE(model()).fit(PAGES[:1], [[("/html/body/h7", "/html/body/div[1]/h2")]])
    with pytest.raises(ValueError, match=r"questions\[0\]: expected a question, got ' '"):
        HtmlQA(model()).fit(PAGES[:1], [" "], ["soup"])


def test_fine_tuning_leaves_the_language_model_alone(fitted):
    before = {name: value.clone() for name, value in fitted.net_.state_dict().items()}
    learner = AttributeExtractor(fitted, training=training(steps=3)).fit(PAGES, LABELS)
    assert all(torch.equal(value, before[name]) for name, value in fitted.net_.state_dict().items())
    words = learner.net_.encoder.words.weight
    assert not torch.equal(words, fitted.net_.encoder.words.weight)


def test_an_answer_that_no_window_holds_is_counted(fitted):
    """A node longer than a window is cut; an answer behind the cut cannot be learned."""
    long = "<p>" + " ".join(WORDS * 8) + " zebra</p>"
    learner = HtmlQA(fitted, question_tokens=8, training=training(steps=2))
    titles = [("/html/body/div[1]/h2", parse_html(html).texts[2]) for html in PAGES[:20]]
    with pytest.warns(UserWarning, match="1 of 21 answers are in no window whole: left out"):
        learner.fit([*PAGES[:20], long], ["what"] * 21, [*titles, "zebra"])
    assert learner.cut_ == 1
    with pytest.raises(ValueError, match="no window holds a whole answer: raise max_tokens"):
        HtmlQA(fitted, question_tokens=8).fit([long], ["what"], ["zebra"])


def test_both_nodes_of_a_pair_have_to_fit_a_window(fitted):
    far = f"<h1>soup</h1><ul>{''.join(f'<li>{word} {word} {word}' for word in WORDS * 4)}</ul><p>egg</p>"
    pair = [("/html/body/h1", "/html/body/p")]
    with pytest.raises(ValueError, match="no window holds both nodes of a pair: raise max_tokens"):
        OpenIE(fitted).fit([far], [pair])
    with pytest.raises(ValueError, match=r"labels\[0\]: /html/body/ul has no text of its own"):
        OpenIE(fitted).fit([far], [[("/html/body/ul", "/html/body/p")]])
    near = [[("/html/body/div[1]/h2", "/html/body/div[2]/p")]] * 20
    with pytest.warns(UserWarning, match="1 of 21 pairs lie too far apart for a window"):
        assert OpenIE(fitted, training=training(steps=2)).fit([*PAGES[:20], far], [*near, pair]).apart_ == 1
