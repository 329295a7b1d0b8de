"""The contract every estimator of the house keeps, and how one is written to disk and read back without pickle.

A saved estimator is a folder: ``config.json`` (class, parameters, learned values, versions) and ``model.safetensors`` (every
tensor). Estimators inside an estimator lie in folders of their own. ``config.json`` is written last and names the size of
the tensor file, so a folder cut off half-way is recognised.
"""

import dataclasses
import hashlib
import importlib
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError

import nolabel
from nolabel.data.replacing import naming, replacing

#: Raised by one when the layout of a saved folder changes.
FORMAT = 1
CONFIG, TENSORS = "config.json", "model.safetensors"


class Estimator(BaseEstimator):
    """Base of everything with `fit`: parameters as in scikit-learn, `save` and `load` without pickle.

    Subclasses store constructor arguments under their own names and learned values under names that end in an underscore.
    Arrays, tensors, numbers, texts, lists and dicts of these, and other `Estimator` objects survive `save`.
    """

    #: Columns of the table that `fit` needs.
    columns: tuple[str, ...] = ()

    def _learned(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k.endswith("_") and not k.startswith("_")}

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Weights beyond the learned attributes; a `Learner` adds its network."""
        return {}

    def _restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take back what `_tensors` gave."""

    def __sklearn_clone__(self) -> Self:
        """A copy without what was learned; a fitted estimator among the arguments stays, for its weights are the argument."""
        own = self.get_params(deep=False).items()
        kept = {k: v if isinstance(v, Estimator) and v._learned() else clone(v, safe=False) for k, v in own}
        made: Self = type(self)(**kept)
        return made

    def require_fitted(self) -> None:
        """Raise `NotFittedError` unless `fit` has run."""
        if not self._learned():
            raise NotFittedError(f"this {type(self).__name__} is not fitted: call fit(...) or load(...) first")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the folder `path`; files of the same names are replaced whole, so that a failed save loses nothing.

        Raises
        ------
        NotFittedError : before `fit`
        TypeError : if a parameter or learned value cannot be written without pickle
        OSError : if the disk is full or the folder is read-only; what was there before stays
        """
        written: list[Path] = []
        try:
            self._write(Path(path), written)
            for final in written:
                os.replace(_partial(final), final)
        finally:
            for final in written:
                _partial(final).unlink(missing_ok=True)
        return Path(path)

    def require_savable(self) -> None:
        """Raise `TypeError` if a parameter cannot be written without pickle: better before a long `fit` than after."""
        for name, value in self.get_params(deep=False).items():
            _encode(value, f"params.{name}", {}, {})

    def _write(self, folder: Path, written: list[Path]) -> None:
        """Write all files of `folder` under their temporary names and append their final ones to `written`."""
        self.require_fitted()
        tensors = dict(self._tensors())
        config: dict[str, Any] = {"format": FORMAT, "class": _class_path(self)}
        nested: dict[str, Estimator] = {}
        params = self.get_params(deep=False)
        config["params"] = {k: _encode(v, f"params.{k}", tensors, nested) for k, v in params.items()}
        config["learned"] = {k: _encode(v, f"learned.{k}", tensors, nested) for k, v in self._learned().items()}
        config["versions"] = versions()
        config["saved"] = datetime.now(UTC).isoformat(timespec="seconds")
        folder.mkdir(parents=True, exist_ok=True)
        for name, inner in nested.items():
            inner._write(folder / name, written)
        contiguous = {
            k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()
        }  # own memory for tied weights
        written.append(folder / TENSORS)
        with naming(folder / TENSORS, _partial(folder / TENSORS)):
            _save_file(_partial(folder / TENSORS), contiguous, {"class": config["class"]})
        config["tensor_bytes"] = _partial(folder / TENSORS).stat().st_size
        written.append(folder / CONFIG)
        with naming(folder / CONFIG, _partial(folder / CONFIG)):
            _partial(folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str], **replace: Any) -> Self:
        """Read a folder written by `save`.

        Parameters
        ----------
        path : the folder
        replace : constructor arguments that cannot be stored, such as an ``nn.Module`` encoder
        """
        folder = Path(path)
        config = read_config(folder)
        if config["class"].rpartition(".")[2] != cls.__name__:
            raise ValueError(f"{folder} holds a {config['class']}, not a {cls.__name__}")
        for name in replace:
            if name not in config["params"]:
                raise ValueError(
                    f"{cls.__name__} has no parameter {name!r} to replace: it has {', '.join(config['params'])}"
                )
        tensors = read_tensors(folder / TENSORS, expected=config["tensor_bytes"])
        try:
            params = {
                k: replace[k] if k in replace else _decode(v, f"params.{k}", tensors, folder)
                for k, v in config["params"].items()
            }
            made = cls(**params)
            for name, value in config["learned"].items():
                setattr(made, name, _decode(value, f"learned.{name}", tensors, folder))
            made._restore({k: v for k, v in tensors.items() if not k.startswith(("params.", "learned."))})
        except OSError:  # such as a pre-trained encoder that is not here
            raise
        except Exception as error:  # damaged values make constructors raise nearly anything
            if str(folder) in str(error):
                raise
            reason = " ".join(str(error).split())[:400] or type(error).__name__
            raise ValueError(f"{folder / CONFIG} is damaged or of another version: {reason}") from error
        return made


def load(path: str | os.PathLike[str], **replace: Any) -> Any:
    """Read any saved estimator of the library. Nothing is unpickled and only classes of `nolabel` are made.

    Parameters
    ----------
    path : a run folder, as written by ``estimator.save(path)`` or ``nolabel learn``
    replace : constructor arguments that cannot be stored, such as an ``nn.Module`` encoder

    Raises
    ------
    FileNotFoundError : no such folder
    ValueError : the folder is half-written, of a newer version, or not ours
    """
    config = read_config(Path(path))
    module, _, name = config["class"].rpartition(".")
    if not (module == "nolabel" or module.startswith("nolabel.")):
        raise ValueError(f"{path} holds a {config['class']}, a class from outside nolabel: use {name}.load(path)")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise ValueError(f"{path} holds a {config['class']}, which this nolabel {nolabel.__version__} lacks") from None
    if not (isinstance(cls, type) and issubclass(cls, Estimator)):
        raise ValueError(f"{path} names {config['class']}, which is not an estimator")
    return cls.load(path, **replace)


def identity(folder: str | os.PathLike[str]) -> str:
    """Which encoder made an index: a hash of the saved weights."""
    with (Path(folder) / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def read_config(folder: Path) -> dict[str, Any]:
    """The checked ``config.json`` of a saved folder."""
    if not folder.exists():
        raise FileNotFoundError(f"no run folder at {folder}")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        number = config["format"]
    except FileNotFoundError:
        hint = (
            "; it holds an unfinished run: learn again with resume"
            if (folder / "checkpoint.safetensors").exists()
            else ""
        )
        raise ValueError(f"{folder} is not a finished run folder: it has no {CONFIG}{hint}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, NotADirectoryError):
        raise ValueError(f"{folder / CONFIG} is damaged: expected the JSON object that save() writes") from None
    if not isinstance(number, int) or number > FORMAT:
        written = config.get("versions", {}).get("nolabel", "?")
        raise ValueError(
            f"{folder} has format {number} (nolabel {written}); this nolabel reads up to {FORMAT}: upgrade it"
        )
    kinds = {"class": str, "params": dict, "learned": dict, "tensor_bytes": int}
    missing = [k for k, kind in kinds.items() if not isinstance(config.get(k), kind)]
    if missing:
        raise ValueError(f"{folder / CONFIG} is damaged: it lacks {', '.join(missing)}")
    return config


def versions() -> dict[str, str]:
    return {"nolabel": nolabel.__version__, "torch": torch.__version__, "python": platform.python_version()}


def _partial(path: Path) -> Path:
    """The temporary name under which a file is written."""
    return path.with_name(f".{path.name}.partial")


def write_text(path: Path, text: str) -> None:
    """A text file that appears whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file that appears whole or not at all."""
    with replacing(path) as partial:
        _save_file(partial, tensors, metadata)


def _save_file(partial: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    try:
        save_file(tensors, partial, metadata=metadata)
    except SafetensorError as error:  # a full disk surfaces as an error of the library
        raise OSError(str(error)) from None


def read_tensors(path: Path, expected: int | None = None) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file, after checking its size."""
    if not path.exists():
        raise ValueError(f"{path.parent} is half-written: {path.name} is missing")
    size = path.stat().st_size
    if expected is not None and size != expected:
        raise ValueError(f"{path.parent} is half-written: {path.name} has {size} bytes, {CONFIG} says {expected}")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def _class_path(obj: Any) -> str:
    return f"{type(obj).__module__}.{type(obj).__name__}"


def _encode(value: Any, name: str, tensors: dict[str, torch.Tensor], nested: dict[str, Estimator]) -> Any:
    """JSON for a parameter or learned value; arrays go to `tensors`, fitted estimators to `nested`."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list):
        return [_encode(v, f"{name}.{i}", tensors, nested) for i, v in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": [_encode(v, f"{name}.{i}", tensors, nested) for i, v in enumerate(value)]}
    if isinstance(value, dict):
        if not all(isinstance(k, str) for k in value):
            raise TypeError(f"{name}: keys of a saved dict must be texts, got {sorted(map(repr, value))[:3]}")
        return {"dict": {k: _encode(v, f"{name}.{k}", tensors, nested) for k, v in value.items()}}
    if isinstance(value, np.ndarray | torch.Tensor):
        if isinstance(value, np.ndarray) and value.dtype.kind not in "biuf":
            raise TypeError(f"{name}: only numeric arrays are saved, got dtype {value.dtype}")
        if isinstance(value, torch.Tensor):
            tensors[name] = value
            return {"tensor": name}
        tensors[name] = torch.from_numpy(np.array(value, order="C"))  # a scalar stays one
        return {"array": name}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        inner = {k: _encode(v, f"{name}.{k}", tensors, nested) for k, v in fields.items()}
        return {"dataclass": _class_path(value), "fields": inner}
    if isinstance(value, Estimator) and value._learned():
        nested[name] = value
        return {"estimator": name}
    if isinstance(value, BaseEstimator):
        if name.startswith("learned.") and any(k.endswith("_") and not k.endswith("__") for k in vars(value)):
            raise TypeError(f"{name}: a fitted {type(value).__name__} cannot be saved: keep its arrays instead")
        inner = {k: _encode(v, f"{name}.{k}", tensors, nested) for k, v in value.get_params(deep=False).items()}
        return {"class": _class_path(value), "params": inner}
    if isinstance(value, torch.nn.Module):
        return {"module": type(value).__name__}
    raise TypeError(f"{name}: a {type(value).__name__} cannot be saved without pickle")


def _decode(value: Any, name: str, tensors: dict[str, torch.Tensor], folder: Path) -> Any:
    """The inverse of `_encode`."""
    if isinstance(value, list):
        return [_decode(v, name, tensors, folder) for v in value]
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(_decode(v, name, tensors, folder) for v in value["tuple"])
    if "dict" in value:
        return {k: _decode(v, name, tensors, folder) for k, v in value["dict"].items()}
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "array" in value:
        return tensors[value["array"]].numpy()
    if "estimator" in value:
        place = folder / value["estimator"]
        if place.parent != folder or place.name == "..":
            raise ValueError(f"{folder / CONFIG} is damaged: {value['estimator']!r} leaves the folder")
        return load(place)
    if "module" in value:
        keyword = name.removeprefix("params.")
        raise ValueError(
            f"{folder} was trained with a {value['module']} given as {keyword}=...: pass it again, load(path, {keyword}=module)"
        )
    path, inner = (value["dataclass"], value["fields"]) if "dataclass" in value else (value["class"], value["params"])
    module, _, kind = path.rpartition(".")
    if not module.startswith(("nolabel.", "sklearn.")):
        raise ValueError(f"{folder / CONFIG} names {path}: only classes of nolabel and scikit-learn are made")
    cls = getattr(importlib.import_module(module), kind, None)
    if not (isinstance(cls, type) and (issubclass(cls, BaseEstimator) or dataclasses.is_dataclass(cls))):
        raise ValueError(f"{folder / CONFIG} names {path}, which is neither an estimator nor a record")
    return cls(**{k: _decode(v, name, tensors, folder) for k, v in inner.items()})
