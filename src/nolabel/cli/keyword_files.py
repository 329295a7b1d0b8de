"""Files of topics and their keywords: YAML or JSON, a label and its list of words."""

import json
from pathlib import Path
from typing import Any


def read_keywords(path: Path) -> dict[str, list[str]]:
    """Labels and keywords of a .yaml, .yml or .json file.

    Raises
    ------
    FileNotFoundError : no such file
    ValueError : another kind of file, one that cannot be read, a label that comes twice
    """
    if not path.is_file():
        raise FileNotFoundError(f"--keywords: no file at {path}")
    readers = {".yaml": _yaml, ".yml": _yaml, ".json": _json}
    if path.suffix.lower() not in readers:
        raise ValueError(f"--keywords: a .yaml or .json file was expected, got {path}")
    try:
        found = readers[path.suffix.lower()](path.read_text(encoding="utf-8"))
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"--keywords: {path}: {reason}") from None
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise ValueError(f"--keywords: {path} holds a {kind}; expected label: [word, word, ...] for each topic")
    return found


def _distinct(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dict of pairs; a key that comes twice is a ValueError, where the libraries would keep the last."""
    made: dict[Any, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the label {key!r} comes twice")
        made[key] = value
    return made


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_distinct)


def _yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        return _distinct([(loader.construct_object(k), loader.construct_object(v, deep=True)) for k, v in node.value])

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        return yaml.load(text, Loader)  # a SafeLoader: plain values alone
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except TypeError as error:  # a label that is a list or a mapping
        raise ValueError(str(error)) from None
