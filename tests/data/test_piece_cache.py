import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from nolabel.data import train_wordpiece
from nolabel.data.piece_cache import PieceCache

TEXTS = ["The cat sat_on the mat.", "cats://and.dogs/?q=1&r=%20", "Ein Hündchen saß da.", "a-b-c 123 [x]"]
CASED = train_wordpiece(TEXTS * 2, 200, lowercase=False)
PLAIN = train_wordpiece(TEXTS * 2, 150)


def by_library(tokeniser, texts):
    return [each.ids for each in tokeniser.encode_batch(list(texts), add_special_tokens=False)]


def found(cache, texts):
    ids, counts = cache(texts)
    assert counts.shape == (len(texts),)
    return [part.tolist() for part in np.split(ids, counts.cumsum()[:-1])]


odd = st.sampled_from(
    ["[MASK]", "[PAD] x", "a\x00b", "tab\there", "line\nbreak", "\x7fend", "ünï", "中文 mixed", "", " ", "z" * 200]
)
texts = st.lists(
    st.one_of(st.text(max_size=40), st.from_regex(r"[ -~]{0,60}", fullmatch=True), odd), min_size=1, max_size=8
)


@pytest.mark.parametrize("tokeniser", [PLAIN, CASED], ids=["lower case", "cased"])
@settings(max_examples=150, deadline=None)
@given(given_texts=texts)
def test_ids_are_the_library_s(tokeniser, given_texts):
    assert found(PieceCache(tokeniser), given_texts) == by_library(tokeniser, given_texts)


def test_what_is_remembered_stays_right():
    cache = PieceCache(PLAIN)
    for _ in range(3):
        assert found(cache, TEXTS) == by_library(PLAIN, TEXTS)
    seen = len(cache.numbers)
    found(cache, TEXTS)
    assert len(cache.numbers) == seen


def test_it_forgets_when_it_is_full(monkeypatch):
    monkeypatch.setattr("nolabel.data.piece_cache._WORDS", 5)
    cache = PieceCache(PLAIN)
    for text in ("cats and dogs sat on a mat", "cat 123 b", "cats and dogs sat on a mat"):
        assert found(cache, [text, text]) == by_library(PLAIN, [text, text])
    assert len(cache.numbers) <= 12


def test_other_tokenisers_go_through_the_library():
    tokeniser = Tokenizer(models.WordLevel({"[UNK]": 0, "cat": 1, "Cat": 2}, unk_token="[UNK]"))
    tokeniser.pre_tokenizer = pre_tokenizers.Whitespace()
    assert not PieceCache(tokeniser).by_word
    assert found(PieceCache(tokeniser), ["cat Cat dog", ""]) == [[1, 2, 0], []]
