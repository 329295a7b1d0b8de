"""Questions about a page, answered by a piece of its text.

The question goes ahead of each window, ``[start] question [end] subtree [end]``, its tokens without a place in the tree. Two
logits a token, for the begin and the end of the answer, are learned on top of a `DomLM`; where a window does not hold the
answer, both are to point at the start token. With s and e the log-probabilities of begin and end, an answer that stands in
several places of a window costs

    -log sum_places exp(s_begin + e_end),

and the best span over all windows is the answer, by logits less those of the start token.

Deng, Shiralkar, Lockard, Huang & Sun, "DOM-LM: learning generalizable representations for HTML documents", 2022,
arXiv:2201.10608; the sum over places: Clark & Gardner, ACL 2018, arXiv:1710.10723.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from nolabel.data.dom_builder import seen
from nolabel.data.dom_tokens import TEXT, framed_windows
from nolabel.learn.dom_heads import PageHead, require_as_many
from nolabel.learn.dom_lm import DomLM, outputs, page_states
from nolabel.training import Training

if TYPE_CHECKING:
    from nolabel.data.dom import Page
    from nolabel.data.dom_tokens import PageTokens, WindowSource


class Answer(NamedTuple):
    """A piece of a page's text, the node it stands in, and its logit against there being no answer."""

    text: str
    xpath: str
    score: float


class QuestionWindows:
    """Every window of a page once for each question about it; none where an answer is asked for that no window holds whole.

    Parameters
    ----------
    source : windows of the different pages
    page_of : for each question the number of its page
    questions : token ids of each question
    spans : for each question the (first, last) numbers of the answer's tokens in its page, at each place; empty: not asked for

    Attributes
    ----------
    rows : int64 (n, 2) question and window of each row
    cut : questions whose answer stands in a node that is longer than a window, in no window whole
    """

    def __init__(
        self,
        source: WindowSource,
        page_of: Sequence[int],
        questions: Sequence[Sequence[int]],
        spans: Sequence[Sequence[tuple[int, int]]],
    ) -> None:
        from nolabel.data import fingerprint

        self.source, self.questions = source, questions
        pages = np.array([number for number, _ in source.windows])
        per_page = [np.flatnonzero(pages == number) for number in range(len(source.pages))]
        pairs = [(question, int(window)) for question, page in enumerate(page_of) for window in per_page[page]]
        found = [self._within(window, spans[question]) for question, window in pairs]
        held = {question for (question, _), places in zip(pairs, found) if places}
        lost = {question for question, places in enumerate(spans) if places} - held
        self.cut = len(lost)
        kept = [row for row, (question, _) in enumerate(pairs) if question not in lost]
        self.rows = np.array([pairs[row] for row in kept], np.int64).reshape(-1, 2)
        self.spans = [found[row] for row in kept]
        self.labelled = np.array([bool(found) for found in self.spans])
        reserved = np.array([len(question) + 1 for question in questions])
        self.lengths = {"html": source.lengths["html"][self.rows[:, 1]] + reserved[self.rows[:, 0]]}
        self.skipped = source.skipped
        content = [list(map(list, questions)), list(page_of), [list(map(list, found)) for found in spans]]
        self.fingerprint = fingerprint([source.fingerprint, content])

    def __len__(self) -> int:
        return len(self.rows)

    def _within(self, window: int, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """The spans that lie in a window, as positions among its tokens."""
        if not spans:
            return []
        places = self.source.window(window).places
        begins = np.searchsorted(places, [first for first, _ in spans])
        return [
            (int(at), int(at) + last - first)
            for at, (first, last) in zip(begins, spans)
            if at + last - first < len(places) and places[at] == first and places[at + last - first] == last
        ]

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        """As of the windows, with ``span``: int64 (b, places, 2) positions of the answer, (0, 0) for none, -1 for padding."""
        asked = [self.questions[question] for question in self.rows[rows, 0]]
        windows = [self.source.window(int(window)) for window in self.rows[rows, 1]]
        batch = framed_windows(windows, np.asarray(rows), self.source.special, asked)
        found = [
            [(a + len(q) + 2, b + len(q) + 2) for a, b in self.spans[row]] or [(0, 0)] for row, q in zip(rows, asked)
        ]
        padded = np.full((len(rows), max(map(len, found)), 2), -1, np.int64)
        for row, spans in enumerate(found):
            padded[row, : len(spans)] = spans
        return {**batch, "span": torch.from_numpy(padded)}


def answer_places(page: Page, tokens: PageTokens, text: str, node: int | None = None) -> list[tuple[int, int]]:
    """Where an answer stands as whole words of nodes' own texts: the numbers of its first and last token, at each place.

    Parameters
    ----------
    text : with single spaces
    node : look only there
    """
    pattern = re.compile(rf"(?<!\w){re.escape(text)}(?!\w)")
    found = []
    for at in range(len(page)) if node is None else [node]:
        if text not in page.texts[at]:
            continue
        begin, end = int(tokens.starts[at]), int(tokens.starts[at] + tokens.counts[at])
        spans = tokens.spans[begin:end]
        for match in pattern.finditer(page.texts[at]):
            inside = np.flatnonzero((spans[:, 0] >= match.start()) & (spans[:, 1] <= match.end()))
            whole = len(inside) and spans[inside[0], 0] == match.start() and spans[inside[-1], 1] == match.end()
            if whole:
                found.append((begin + int(inside[0]), begin + int(inside[-1])))
    return found


class HtmlQA(PageHead):
    """Answer questions about pages by a piece of their text, learned from pages, questions and answers.

    Use it where questions vary; for a fixed list of attributes `AttributeExtractor` is simpler and reads a page once.

    Parameters
    ----------
    domlm : a `DomLM`; one that is not fitted learns from the pages of `fit` first
    question_tokens : tokens a question is cut to
    answer_tokens : tokens an answer has at most
    negatives : windows without the answer for each one with, in training
    training : how long and on what to train

    Attributes
    ----------
    cut_ : questions from which nothing was learned: a node longer than a window cuts their answer off

    Raises
    ------
    ValueError : pages without tags or body; ``answers[i]: ...`` for one that is not in the own text of a node of its page

    Examples
    --------
    >>> pages = [f"<h1>Soup</h1><p>by cook{i}<p>for {i} people" for i in range(20)] * 2
    >>> questions = ["who wrote it?"] * 20 + ["for how many?"] * 20
    >>> answers = [f"cook{i}" for i in range(20)] + [f"{i} people" for i in range(20)]
    >>> model = DomLM("bert-1x32", vocabulary_size=120, training=Training(steps=2, batch_size=4)).fit(pages)
    >>> answering = HtmlQA(model, training=Training(steps=100, lr=0.005)).fit(pages, questions, answers)
    >>> [answer.text for answer in answering.predict(pages[3:4], ["who wrote it?"])]
    ['cook3']
    """

    columns = ("html", "question", "answer")
    cut_: int

    def __init__(
        self,
        domlm: DomLM,
        *,
        question_tokens: int = 24,
        answer_tokens: int = 30,
        negatives: float = 1.0,
        training: Training | None = None,
    ) -> None:
        self.domlm = domlm
        self.question_tokens = question_tokens
        self.answer_tokens = answer_tokens
        self.negatives = negatives
        self.training = training

    def fit(
        self,
        X: Any,
        questions: Sequence[str],
        answers: Sequence[Any],
        *,
        columns: dict[str, str] | None = None,
        **options: Any,
    ) -> Self:
        """Learn from pages, a question about each, and its answer.

        Parameters
        ----------
        X : list of HTML, or a table with the column ``html``; a page comes as often as there are questions about it
        questions : one for each page
        answers : for each the text, or (XPath, text) where the same text also stands elsewhere and means something else
        columns, options : as in `Learner.fit`
        """
        self._check()
        pages = self.begin(X, columns)
        require_as_many(pages, questions, "questions")
        require_as_many(pages, answers, "answers")
        require_questions(questions)
        self.learn_language(pages)
        source, page_of = self._opened(pages)
        spans = []
        for index, (number, answer) in enumerate(zip(page_of, answers)):
            page, tokens = source.pages[number], source.tokens[number]
            spans.append(_places(page, tokens, answer, index))
        asked = QuestionWindows(source, page_of, self._question_ids(questions, source), spans)
        if not asked.labelled.any():
            raise ValueError("answers: no window holds a whole answer: raise max_tokens of the DomLM")
        if asked.cut:
            warnings.warn(f"{asked.cut} of {len(spans)} answers are in no window whole: left out", stacklevel=2)
        return self.fit_source(asked, **options)

    def prepare(self, source: Any, folder: Any) -> None:
        super().prepare(source, folder)
        self.cut_ = source.cut

    def _check(self) -> None:
        for name in ("question_tokens", "answer_tokens"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        longest = getattr(self.domlm, "max_tokens", self.question_tokens + 5)
        if self.question_tokens + 4 > longest:
            raise ValueError(f"question_tokens={self.question_tokens} leaves no room for a page in {longest} tokens")

    def _opened(self, pages: list[Page]) -> tuple[WindowSource, list[int]]:
        """Windows of the different pages, and for each page given its number among these."""
        number: dict[int, int] = {}
        page_of = [number.setdefault(id(page), len(number)) for page in pages]
        different = list({id(page): page for page in pages}.values())
        return self.language_model.windows(different, reserved=self.question_tokens + 1), page_of

    def _question_ids(self, questions: Sequence[str], source: WindowSource) -> list[list[int]]:
        from nolabel.data.tokenisers import read_tokeniser

        tokeniser = read_tokeniser(source.tokeniser)
        encodings = tokeniser.encode_batch(list(questions), add_special_tokens=False)
        return [encoding.ids[: self.question_tokens] for encoding in encodings]

    def build(self, example: dict[str, Any]) -> nn.Module:
        net = self.make_net()
        net.ends = nn.Linear(net.encoder.dim, 2)
        return net

    def loss(self, net: Any, views: dict[str, Any]) -> Tensor:
        begin, end = _logits(net, views).log_softmax(dim=1).unbind(dim=2)  # (b, l) each
        spans = views["span"].clamp_min(0)
        each = begin.gather(1, spans[..., 0]) + end.gather(1, spans[..., 1])  # (b, places)
        return -each.masked_fill(views["span"][..., 0] < 0, -torch.inf).logsumexp(dim=1).mean()

    def predict(self, X: Any, questions: Sequence[str], *, columns: dict[str, str] | None = None) -> list[Answer]:
        """The best answer to each question about each page; a score below 0 says that there is rather none."""
        self.require_fitted()
        pages = self.language_model.pages(X, columns)
        require_as_many(pages, questions, "questions")
        require_questions(questions)
        source, page_of = self._opened(pages)
        asked = QuestionWindows(source, page_of, self._question_ids(questions, source), [()] * len(questions))
        best: list[tuple[float, int, int]] = [(-np.inf, 0, 0)] * len(questions)
        for rows, logits in outputs(self, asked, _logits):
            for row, scores in zip(rows, logits):
                question, window = asked.rows[row]
                ahead = len(asked.questions[question]) + 2
                found = self._best(scores, source, int(window), ahead)
                best[question] = max(best[question], found)
        return [_answer(source.pages[number], source.tokens[number], *found) for number, found in zip(page_of, best)]

    def _best(self, logits: np.ndarray, source: WindowSource, row: int, ahead: int) -> tuple[float, int, int]:
        """The best span within one node of a window: score, first and last token among those of the page."""
        window = source.window(row)
        length = len(window.tokens)
        begin, end = logits[ahead : ahead + length].T
        best = (-np.inf, 0, 0)
        for extra in range(min(self.answer_tokens, length)):
            scores = begin[: length - extra] + end[extra:]
            scores = np.where(window.nodes[: length - extra] == window.nodes[extra:], scores, -np.inf)
            at = int(scores.argmax())
            score = float(scores[at] - logits[0].sum())
            best = max(best, (score, int(window.places[at]), int(window.places[at + extra])))
        return best


def require_questions(questions: Sequence[Any]) -> None:
    """Raise unless every question is a text that holds something."""
    for index, question in enumerate(questions):
        if not isinstance(question, str) or not question.strip():
            raise ValueError(f"questions[{index}]: expected a question, got {question!r}")


def _logits(net: Any, batch: dict[str, Any]) -> Tensor:
    """Of begin and end, (b, l, 2): only own text of nodes and the start token can be pointed at."""
    logits: Tensor = net.ends(net.dropout(page_states(net, batch))).float()
    allowed = batch["kind"] == TEXT
    allowed[:, 0] = True
    return logits.masked_fill(~allowed.unsqueeze(2), -1e9)


def _places(page: Page, tokens: PageTokens, answer: Any, index: int) -> list[tuple[int, int]]:
    """Where the answer to question `index` stands."""
    node = None
    if not isinstance(answer, str):
        if not (isinstance(answer, Sequence) and len(answer) == 2 and all(isinstance(part, str) for part in answer)):
            raise TypeError(f"answers[{index}]: expected a text or (XPath, text), got {answer!r}")
        try:
            (node,) = page.nodes_at(answer[:1])
        except ValueError as error:
            raise ValueError(f"answers[{index}]: {error}") from None
        answer = answer[1]
    text = " ".join(seen(answer).split())
    found = answer_places(page, tokens, text, node) if text else []
    if not found:
        where = "any node's own text" if node is None else f"the own text of {page.xpath(node)}"
        raise ValueError(f"answers[{index}]: {text[:60]!r} does not stand in {where} of its page")
    return found


def _answer(page: Page, tokens: PageTokens, score: float, first: int, last: int) -> Answer:
    if score == -np.inf:
        return Answer("", "", score)  # a page without any text
    node = int(np.searchsorted(tokens.starts, first, side="right")) - 1
    text = page.texts[node][tokens.spans[first, 0] : tokens.spans[last, 1]]
    return Answer(text.strip(), page.xpath(node), score)
