"""What Python's standard library says of itself: some thousand short texts that every machine has."""

from __future__ import annotations

import ast
import builtins
import inspect
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset

_LEFT_OUT = ("test", "idlelib", "lib2to3", "site-packages", "turtledemo", "pydoc_data", "ensurepip")
_FEWEST_WORDS = 4


def docstrings() -> Dataset:
    """A table of public functions, classes and modules: ``name``, ``module`` and ``text``, each text once.

    The sources are parsed, not imported; of the built-in names those are read that the interpreter holds.
    """
    from nolabel.data.reading import read

    found: dict[str, tuple[str, str]] = {}
    for name, module, text in (*_of_builtins(), *_of_sources(Path(sysconfig.get_path("stdlib")))):
        text = inspect.cleandoc(text)
        if len(text.split()) >= _FEWEST_WORDS and not any(part.startswith("_") for part in name.split(".")):
            found.setdefault(text, (name, module))
    names, modules = zip(*found.values())
    return read({"name": list(names), "module": list(modules), "text": list(found)})


def _of_builtins() -> Iterator[tuple[str, str, str]]:
    for name, thing in sorted(vars(builtins).items()):
        inside = sorted(vars(thing).items()) if isinstance(thing, type) else []
        for key, value in [(name, thing), *((f"{name}.{member}", each) for member, each in inside)]:
            text = getattr(value, "__doc__", None)
            if isinstance(text, str):
                yield key, "builtins", text


def _of_sources(root: Path) -> Iterator[tuple[str, str, str]]:
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if any(part in _LEFT_OUT or part.startswith(("_", "test_")) for part in parts):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the sources, such as escapes no longer in use
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, OSError, ValueError):
            continue
        module = ".".join(parts).removesuffix(".__init__")
        yield from _of_tree(tree, module, "")


def _of_tree(tree: ast.AST, module: str, prefix: str) -> Iterator[tuple[str, str, str]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}{node.name}"
            text = ast.get_docstring(node, clean=False)
            if text:
                yield f"{module}.{name}", module, text
            if isinstance(node, ast.ClassDef):
                yield from _of_tree(node, module, f"{name}.")
