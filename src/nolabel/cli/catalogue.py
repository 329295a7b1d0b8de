"""The systems there are, found by looking at the packages: names, classes, papers, measured claims."""

import difflib
import importlib
import inspect
import json
import re
from dataclasses import dataclass
from importlib import resources
from typing import Any

#: Packages of systems by verb.
VERBS = ("learn", "cluster", "recommend", "curate", "adapt", "clean", "explain", "protect")
#: Systems that are no estimators of a verb: name, package, class.
OTHERS = (
    ("rankme", "assess", "RankMeSelector"),
    ("temperature", "assess", "TemperatureAdvisor"),
    ("bss", "views", "BatchStyleStandardize"),
    ("transfer_score", "assess", "TransferScore"),
)

#: Files of systems whose claim is measured under another name.
CLAIMED_BY = {
    "opta": "beclr",
    "instance_discrimination": "temperature",
    "matryoshka": "mrl",
    "categorical_encoder": "unified_embedding",
    "two_tower": "ssl_recs",
    "url_heads": "urlbert",
    "attribute_extractor": "dom_lm",
    "open_ie": "dom_lm",
    "html_qa": "dom_lm",
    "relative_encoder": "relative_representations",
}


@dataclass(frozen=True)
class System:
    """One system of the library."""

    name: str
    verb: str
    cls: Any
    columns: tuple[str, ...]
    paper: str
    claim: str

    def to_dict(self) -> dict[str, Any]:
        described = {"name": self.name, "class": f"nolabel.{self.verb}.{self.cls.__name__}", "verb": self.verb}
        return described | {"columns": list(self.columns), "paper": self.paper, "claim": self.claim}


def systems() -> list[System]:
    """Every estimator of the verbs' packages, and the others; named as their files are, and further ones as their classes."""
    claims = json.loads(resources.files("nolabel.cli").joinpath("claims.json").read_text(encoding="utf-8"))
    found: list[System] = []
    for verb in VERBS:
        package = importlib.import_module(f"nolabel.{verb}")
        for exported in package.__all__:
            cls = getattr(package, exported)
            if not hasattr(cls, "columns"):  # a function beside the systems, such as `stitch`
                continue
            module = cls.__module__.rpartition(".")[2]
            files = [o.__module__ for name in package.__all__ if hasattr(o := getattr(package, name), "columns")]
            alone = files.count(cls.__module__) == 1 or exported.lower().startswith(module)
            name = module.replace("_", "-") if alone else _words(exported)
            verdict = claims.get(CLAIMED_BY.get(module, module), {}).get("verdict", "")
            found.append(System(name, verb, cls, cls.columns, _paper(cls), verdict))
    for name, verb, exported in OTHERS:
        cls = getattr(importlib.import_module(f"nolabel.{verb}"), exported)
        columns = ("image",) if verb == "views" else ("vector",)
        found.append(System(name, verb, cls, columns, _paper(cls), claims.get(name, {}).get("verdict", "")))
    return sorted(found, key=lambda system: (system.verb != "learn", system.name))


def method(name: str) -> Any:
    """The class of the system called `name` that learns by gradients from a table."""
    from nolabel.training import Learner

    found = {system.name: system for system in systems()}
    known = {
        name: s.cls
        for name, s in found.items()
        if s.verb == "learn" and issubclass(s.cls, Learner) and not {"label", "answer"} & set(s.columns)
    }
    if name in known:
        return known[name]
    if name in found:
        needs = " and ".join(found[name].columns)
        where = f"nolabel.{found[name].verb}.{found[name].cls.__name__}"
        taken = f"it takes {needs}: " if needs else ""
        how = "give it as --views" if found[name].verb == "views" else f"{taken}use {where} from Python"
        raise ValueError(f"{name} is no method of `nolabel learn`; {how}")
    near = difflib.get_close_matches(name.lower(), [*known, "auto"], n=2, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(f"unknown method {name!r}: {hint}there are {', '.join([*known, 'auto'])}")


#: Systems of `nolabel classify`: what learns without labels, what with one column of labels, what with several.
CLASSIFIERS = {"urlbert": ("UrlEncoder", "UrlClassifier", "MultiTaskUrlClassifier")}


def classifiers(name: str) -> tuple[Any, ...]:
    """The classes of a system of `nolabel classify`: without labels, for one task, for several."""
    if name not in CLASSIFIERS:
        raise ValueError(f"--method must be one of {', '.join(CLASSIFIERS)}, got {name!r}")
    package = importlib.import_module("nolabel.learn")
    return tuple(getattr(package, exported) for exported in CLASSIFIERS[name])


def arguments_of(cls: Any) -> dict[str, Any]:
    """The hyper-parameters of a system with their defaults, without those that have options of their own."""
    own = inspect.signature(cls).parameters
    return {
        name: p.default
        for name, p in own.items()
        if name not in ("encoder", "representation", "image_size", "training")
    }


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def _paper(cls: Any) -> str:
    text = f"{cls.__doc__ or ''} {inspect.getmodule(cls).__doc__ or ''}"
    match = re.search(r"arXiv:\d{4}\.\d{4,5}", text)
    return match.group() if match and cls.__module__.rpartition(".")[2] != "controls" else ""
