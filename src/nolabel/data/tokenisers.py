"""Word-piece tokenisers: trained on the texts at hand, always the same for the same texts, or read from a model's files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4
_ROLES = (("[PAD]", "<pad>"), ("[UNK]", "<unk>"), ("[CLS]", "<s>"), ("[SEP]", "</s>"), ("[MASK]", "<mask>"))
_LEARNED_FROM = 40_000_000  # characters; more hardly changes a vocabulary of some thousand pieces
_LETTERS = 1000  # the most frequent ones; rarer ones become unknown


@dataclass(frozen=True)
class SpecialIds:
    """Ids of a tokeniser's special tokens; ``mask`` is -1 where it has none."""

    pad: int
    unknown: int
    start: int
    end: int
    mask: int

    @property
    def all(self) -> tuple[int, ...]:
        return tuple(i for i in (self.pad, self.unknown, self.start, self.end, self.mask) if i >= 0)


def special_ids(tokeniser: Tokenizer) -> SpecialIds:
    """The special tokens of a BERT-like or RoBERTa-like tokeniser.

    Raises
    ------
    ValueError
        Where the padding, the start or the end token is missing.
    """
    found = []
    for names in _ROLES:
        ids = [tokeniser.token_to_id(name) for name in names]
        found.append(next((i for i in ids if i is not None), -1))
    if min(found[0], found[2], found[3]) < 0:
        raise ValueError("tokeniser: expected [PAD], [CLS] and [SEP] (or <pad>, <s> and </s>) in its vocabulary")
    return SpecialIds(*found)


def train_wordpiece(texts: Iterable[str], vocabulary_size: int = 8000, *, lowercase: bool = True) -> Tokenizer:
    """Learn a word-piece vocabulary (Schuster & Nakajima, ICASSP 2012; as in BERT, Devlin et al., arXiv:1810.04805).

    Words are split at white space and around every punctuation mark, then into the learned pieces. The same texts give the
    same vocabulary with the same ids, in any process.

    Parameters
    ----------
    texts : strings; about the first 40 million characters are looked at
    vocabulary_size : pieces at most, the five special tokens among them
    lowercase : whether capitals and accents are dropped

    Raises
    ------
    ValueError
        Where the vocabulary cannot hold the letters that occur, each at the start of a word and inside one.

    Examples
    --------
    >>> tokeniser = train_wordpiece(["a cat sat", "cats sat on a mat"] * 3, 40)
    >>> tokeniser.encode("a cat").tokens
    ['[CLS]', 'a', 'cat', '[SEP]']
    """
    from tokenizers import Tokenizer, models, trainers

    sample = list(_first(texts, _LEARNED_FROM))
    blank = _dressed(Tokenizer(models.WordPiece(unk_token=SPECIAL[1])), lowercase)
    assert blank.normalizer is not None
    counts: Counter[str] = Counter()
    for text in sample:
        counts.update(blank.normalizer.normalize_str(text))
    letters = sorted(letter for letter, _ in counts.most_common(_LETTERS) if not letter.isspace())
    least = len(SPECIAL) + 2 * len(letters)
    if vocabulary_size < least:
        raise ValueError(
            f"vocabulary_size must be at least {least} for the {len(letters)} different characters of these texts "
            f"(each at the start of a word and inside one) and {len(SPECIAL)} special tokens, got {vocabulary_size}"
        )
    # The library numbers the letters inside words in an order that changes from run to run; named beforehand they are fixed.
    seeds = [f"##{letter}" for letter in letters]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary_size, special_tokens=[*SPECIAL, *seeds], initial_alphabet=letters, limit_alphabet=_LETTERS,
        show_progress=False,
    )  # fmt: skip
    blank.train_from_iterator(sample, trainer)
    pieces = [piece for piece, _ in sorted(blank.get_vocab().items(), key=lambda item: item[1])]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return _dressed(Tokenizer(models.WordPiece(vocabulary, unk_token=SPECIAL[1])), lowercase)


def _dressed(tokeniser: Tokenizer, lowercase: bool) -> Tokenizer:
    """With what comes before and after the pieces: control characters away, words split, [CLS] and [SEP] around."""
    from tokenizers import decoders, normalizers, pre_tokenizers, processors

    tokeniser.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokeniser.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokeniser.decoder = decoders.WordPiece()
    tokeniser.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    if tokeniser.get_vocab_size():
        tokeniser.add_special_tokens(list(SPECIAL))
    return tokeniser


def _first(texts: Iterable[str], characters: int) -> Iterable[str]:
    """Texts until so many characters are seen; of one huge text, a part."""
    left = characters
    for text in texts:
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return


def read_tokeniser(saved: str) -> Tokenizer:
    """A tokeniser from the JSON text that ``Tokenizer.to_str()`` writes, with its own padding and cutting switched off."""
    from tokenizers import Tokenizer

    tokeniser = Tokenizer.from_str(saved)
    tokeniser.no_padding()
    tokeniser.no_truncation()
    return tokeniser
