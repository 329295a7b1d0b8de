"""Function words: in every text, and about nothing."""

from collections.abc import Collection

# Determiners, pronouns, prepositions, conjunctions, auxiliaries and the commonest adverbs; no noun, no other verb. The last
# line is what a tokeniser leaves of ``it's``, ``don't``, ``we'll``.
ENGLISH = frozenset(
    """
    a an the this that these those each every either neither some any no none all both another other others such
    same own i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself
    she her hers herself it its itself they them their theirs themselves one who whom whose which what whoever
    whatever about above across after against along among around as at before behind below beneath beside
    besides between beyond by down during except for from in inside into near of off on onto out outside over
    per since through throughout to toward towards under until up upon via with within without and but or nor so
    yet if because although though while whereas whether than unless am is are was were be been being do does
    did done doing have has had having can cannot could may might must shall should will would not also too very
    much many more most less least few rather quite just only even still already ever never always often then
    there here thus hence therefore however when where why how again once now s t d m o ll re ve don doesn didn
    isn aren wasn weren hasn haven hadn won wouldn shouldn couldn mustn
    """.split()  # noqa: SIM905 (easier to read)
)


def stop_words(words: str | Collection[str] | None) -> frozenset[str]:
    """The words that ``english`` stands for, a collection as it is, or none.

    Raises
    ------
    ValueError
        Another language.
    TypeError
        Not a collection of words.

    >>> "the" in stop_words("english"), "system" in stop_words("english"), stop_words(None)
    (True, False, frozenset())
    """
    if words is None:
        return frozenset()
    if isinstance(words, str):
        if words != "english":
            raise ValueError(f"stop_words must be 'english', a collection of words or None, got {words!r}")
        return ENGLISH
    if not isinstance(words, Collection) or not all(isinstance(word, str) for word in words):
        raise TypeError(f"stop_words must be 'english', a collection of words or None, got {type(words).__name__}")
    return frozenset(words)
