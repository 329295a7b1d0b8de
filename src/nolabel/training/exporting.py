"""A learned text encoder in the layouts that other libraries open: transformers, sentence-transformers, ONNX."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from nolabel.training.text import TextLearner

FORMATS = ("hf", "sentence-transformers", "onnx")


def export(learner: Any, folder: str | os.PathLike[str], to: str) -> Path:
    """Write the encoder of a fitted text system as a folder; what it gives there is what `transform` gives here in float32.

    Parameters
    ----------
    learner : fitted system for texts whose vectors are its encoder's pooled output
    folder : to be made; it appears whole or not at all
    to : ``hf`` (transformers: ``AutoModel``, ``AutoTokenizer``; pool the states yourself), ``sentence-transformers``
        (``SentenceTransformer(folder)``), ``onnx`` (``model.onnx``: ``input_ids``, ``attention_mask`` to ``vector``, with
        ``tokenizer.json``)

    Raises
    ------
    TypeError
        For a system that has no text encoder to export.
    ValueError
        For another format.
    FileExistsError
        If the folder is there already.
    """
    if to not in FORMATS:
        raise ValueError(f"to must be one of {', '.join(FORMATS)}, got {to!r}")
    if not isinstance(learner, TextLearner) or not learner.exportable:
        raise TypeError(f"{type(learner).__name__} has no text encoder of its own to export")
    learner.require_fitted()
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists already: choose another folder or delete it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        _write(learner, partial, to)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _write(learner: TextLearner, folder: Path, to: str) -> None:
    net: Any = learner.net_
    encoder = net.encoder.cpu().eval()
    length = min(learner.limits(learner.columns[:1])[0], encoder.max_length)
    _write_tokeniser(learner, folder, length)
    if to == "onnx":
        _write_onnx(encoder, learner.unit, folder / "model.onnx", length)
        return
    encoder.model.save_pretrained(folder, safe_serialization=True)
    if to == "sentence-transformers":
        _write_modules(encoder, learner.unit or encoder.unit, folder, length)


def _write_tokeniser(learner: TextLearner, folder: Path, length: int) -> None:
    from transformers import PreTrainedTokenizerFast

    from nolabel.data.tokenisers import read_tokeniser, special_ids

    tokeniser = read_tokeniser(learner.tokeniser_)
    ids = special_ids(tokeniser)
    names = {
        "pad_token": ids.pad,
        "unk_token": ids.unknown,
        "cls_token": ids.start,
        "sep_token": ids.end,
        "mask_token": ids.mask,
    }
    given = {key: tokeniser.id_to_token(number) for key, number in names.items() if number >= 0}
    PreTrainedTokenizerFast(tokenizer_object=tokeniser, model_max_length=length, **given).save_pretrained(folder)


def _write_modules(encoder: Any, unit: bool, folder: Path, length: int) -> None:
    """What sentence-transformers wants beside the model: its list of modules and the settings of each."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")] + ([("2_Normalize", "Normalize")] if unit else [])
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    pooling = {
        "word_embedding_dimension": encoder.dim,
        "pooling_mode_cls_token": encoder.pooling == "start",
        "pooling_mode_mean_tokens": encoder.pooling == "mean",
        "pooling_mode_max_tokens": encoder.pooling == "max",
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    files = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": length, "do_lower_case": False},
        "1_Pooling/config.json": pooling,
    }
    for path, _ in kinds[1:]:
        (folder / path).mkdir()
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


class _Graph(nn.Module):
    """Token ids and mask to vectors, as one graph without branches."""

    def __init__(self, encoder: Any, unit: bool) -> None:
        super().__init__()
        self.encoder, self.unit = encoder, unit or encoder.unit

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.encoder.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        vectors: Tensor = self.encoder.pool(states, attention_mask.bool())
        return normalize(vectors) if self.unit else vectors


def _write_onnx(encoder: Any, unit: bool, path: Path, length: int) -> None:
    try:
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError:
        raise ImportError("export to onnx needs onnx and onnxscript: pip install 'nolabel[onnx]'") from None
    ids = torch.zeros(2, min(8, length), dtype=torch.int64)
    rows, tokens = torch.export.Dim("rows"), torch.export.Dim("tokens", max=length)
    shape = {0: rows, 1: tokens}
    program = torch.onnx.export(
        _Graph(encoder, unit).eval(),
        (ids, torch.ones_like(ids)),
        input_names=["input_ids", "attention_mask"],
        output_names=["vector"],
        dynamic_shapes={"input_ids": shape, "attention_mask": shape},
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(str(path), external_data=False)
