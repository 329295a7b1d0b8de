"""Transformers for texts: small ones trained from scratch, and pre-trained ones with the pooling they were made for."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: Layers and width of the compact transformers (Turc et al., 2019, arXiv:1908.08962; base: Devlin et al., arXiv:1810.04805).
SIZES = {
    "bert-tiny": (2, 128),
    "bert-mini": (4, 256),
    "bert-small": (4, 512),
    "bert-medium": (8, 512),
    "bert-base": (12, 768),
}
POOLINGS = ("mean", "start", "max")
_FILES = ("*.json", "*.txt", "*.safetensors", "*.model")


def masked_mean(states: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b d"]:
    """Mean over the real tokens, summed up in float32: it does not depend on how much padding follows.

    >>> masked_mean(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
    tensor([[2.]])
    """
    weight = mask.unsqueeze(-1).float()
    return (states.float() * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1.0)


class TextEncoder(nn.Module):
    """Token ids in, a state a token or a vector a text out.

    Parameters
    ----------
    model : transformer of the `transformers` library
    pooling : ``mean`` of the real tokens, start and end among them, the state of the ``start`` token, or the ``max`` over the
        real tokens, number by number
    unit : whether vectors are scaled to length 1

    Attributes
    ----------
    dim : width of a state
    max_length : tokens the positions reach
    description : plain values from which `described` makes the same network, without weights
    """

    def __init__(self, model: Any, *, pooling: str = "mean", unit: bool = False, max_length: int | None = None) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
        self.model, self.pooling, self.unit = model, pooling, unit
        self.dim = int(model.config.hidden_size)
        self.max_length = max_length or int(getattr(model.config, "max_position_embeddings", 512))

    @property
    def words(self) -> nn.Embedding:
        """The table of token embeddings (vocabulary, dim), before positions and normalisation."""
        table: nn.Embedding = self.model.get_input_embeddings()
        return table

    def states(
        self,
        tokens: Int64[Tensor, "b l"] | None,
        mask: Bool[Tensor, "b l"],
        embeddings: Float[Tensor, "b l d"] | None = None,
    ) -> Float[Tensor, "b l d"]:
        """Last states. `embeddings`, rows of `words` with something added, take the place of `tokens`."""
        given = {"input_ids": tokens} if embeddings is None else {"inputs_embeds": embeddings}
        # without padding no mask is needed, and attention is faster
        seen = None if bool(mask.all()) else mask.long()
        found: Tensor = self.model(**given, attention_mask=seen).last_hidden_state
        return found

    def pool(self, states: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b d"]:
        """One vector a text out of its states."""
        if self.pooling == "max":
            vectors = states.float().masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(dim=1)
        else:
            vectors = masked_mean(states, mask) if self.pooling == "mean" else states[:, 0].float()
        return normalize(vectors) if self.unit else vectors

    def forward(self, tokens: Int64[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b d"]:
        return self.pool(self.states(tokens, mask), mask)

    def freeze(self, layers: int) -> None:
        """Train the table of words and the first `layers` layers no further. ValueError where there are fewer."""
        stack = getattr(getattr(self.model, "encoder", None), "layer", None)
        if stack is None or not 0 <= layers <= len(stack):
            there = "no layers that can be counted" if stack is None else f"{len(stack)} layers"
            raise ValueError(f"frozen_layers: this text encoder has {there}, got {layers}")
        for part in (self.model.embeddings, *stack[:layers]):
            part.requires_grad_(False)

    @property
    def description(self) -> dict[str, Any]:
        config = {"model_type": self.model.config.model_type, **self.model.config.to_diff_dict()}
        return {"config": config, "pooling": self.pooling, "unit": self.unit, "max_length": self.max_length}


def described(description: dict[str, Any]) -> TextEncoder:
    """An encoder of the described shape, its weights random."""
    from transformers import AutoConfig, AutoModel

    values = dict(description["config"])
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    model = AutoModel.from_config(config, **_without_pooler(config))
    return TextEncoder(
        model, pooling=description["pooling"], unit=description["unit"], max_length=description["max_length"]
    )


def _without_pooler(config: Any) -> dict[str, Any]:
    """BERT's extra layer on the start token is never trained here: leave it out where the class allows."""
    return {"add_pooling_layer": False} if config.model_type in ("bert", "roberta", "xlm-roberta", "camembert") else {}


def from_scratch(
    name: str, *, vocabulary_size: int, max_length: int, dropout: float = 0.1, pad: int = 0, pooling: str = "mean"
) -> TextEncoder:
    """A BERT of random weights: ``bert-tiny`` (2 layers of 128), ``bert-mini``, ..., or ``bert-3x128`` for any other shape.

    Heads are 32 wide up to a width of 256 and 64 above; the inner layer is four times as wide as the states.

    >>> from_scratch("bert-1x32", vocabulary_size=50, max_length=16).dim
    32
    """
    from transformers import BertConfig, BertModel

    layers, width = _shape(name)
    config = BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // _head(width)),
        intermediate_size=4 * width,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        max_position_embeddings=max_length,
        pad_token_id=pad,
        type_vocab_size=1,
    )
    return TextEncoder(BertModel(config, add_pooling_layer=False), pooling=pooling)


def _head(width: int) -> int:
    """Width of an attention head."""
    return 32 if width <= 256 else 64


def _shape(name: str) -> tuple[int, int]:
    match = re.fullmatch(r"bert-(\d+)x(\d+)", name)
    if match:
        layers, width = int(match[1]), int(match[2])
        if layers < 1 or width < 8 or width % min(width, _head(width)):
            raise ValueError(f"encoder: {name!r} needs 1 layer or more and a width of whole heads of {_head(width)}")
        return layers, width
    if name not in SIZES:
        near = difflib.get_close_matches(name, SIZES, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(
            f"unknown text encoder {name!r}: {hint}expected one of {', '.join(SIZES)}, bert-<layers>x<width>, "
            "hf:<name or folder> or st:<name or folder>"
        )
    return SIZES[name]


def is_pretrained(spec: str) -> bool:
    """Whether a name means a model that exists already."""
    return bool(re.fullmatch(r"(hf|st):.+", spec))


def _folder(spec: str) -> Path:
    """The files of ``hf:`` or ``st:``: a local folder, or the hub's copy."""
    source, _, name = spec.partition(":")
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    from huggingface_hub import snapshot_download

    hub = f"sentence-transformers/{name}" if source == "st" and "/" not in name else name
    try:
        return Path(snapshot_download(hub, allow_patterns=[*_FILES, "1_Pooling/*", "2_Normalize/*"]))
    except Exception as error:  # offline, unknown, refused: whatever keeps the hub from answering
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise FileNotFoundError(
            f"encoder: {name!r} is neither a folder here nor to be had from the hub as {hub!r} ({reason})"
        ) from None


def pretrained(spec: str) -> tuple[TextEncoder, Tokenizer]:
    """A model of the `transformers` library and its tokeniser, from a folder or the hub; weights from safetensors only.

    ``hf:`` pools by the mean; ``st:`` reads pooling, length and scaling from the files of `sentence-transformers`.

    Raises
    ------
    FileNotFoundError
        Where there is no such model.
    ValueError
        Where its pooling is not ours, or it has no fast tokeniser.
    """
    from tokenizers import Tokenizer
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    folder = _folder(spec)
    pooling, unit, length = _sentence_settings(folder) if spec.startswith("st:") else ("mean", False, None)
    config = AutoConfig.from_pretrained(folder)
    model = AutoModel.from_pretrained(
        folder, config=config, use_safetensors=True, dtype=torch.float32, **_without_pooler(config)
    )
    longest = int(getattr(config, "max_position_embeddings", 512))
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        longest -= int(config.pad_token_id) + 1  # their positions begin behind the padding's
    file = folder / "tokenizer.json"
    if file.is_file():
        tokeniser = Tokenizer.from_file(str(file))
    else:
        backend = getattr(AutoTokenizer.from_pretrained(folder), "backend_tokenizer", None)
        if backend is None:
            raise ValueError(f"encoder: {spec!r} has no fast tokeniser (tokenizer.json)")
        tokeniser = backend
    tokeniser.no_padding()
    tokeniser.no_truncation()
    return TextEncoder(model, pooling=pooling, unit=unit, max_length=min(length or longest, longest)), tokeniser


def _sentence_settings(folder: Path) -> tuple[str, bool, int | None]:
    """Pooling, scaling and length that the files of `sentence-transformers` prescribe."""
    parts = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    kinds = {str(part["type"]).rpartition(".")[2]: folder / str(part["path"]) for part in parts}
    unknown = sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"})
    if unknown:
        raise ValueError(f"encoder: {folder} has the parts {', '.join(unknown)}, which are not supported")
    pooling = "mean"
    if "Pooling" in kinds:
        if kinds["Pooling"].resolve().parent != folder.resolve():
            raise ValueError(f"encoder: {folder / 'modules.json'} names a path outside the folder")
        settings = json.loads((kinds["Pooling"] / "config.json").read_text(encoding="utf-8"))
        chosen = [key for key, on in settings.items() if key.startswith("pooling_mode") and on is True]
        if "pooling_mode" in settings:
            chosen = [f"pooling_mode_{settings['pooling_mode']}"]
        known = {"mean_tokens": "mean", "mean": "mean", "cls_token": "start", "cls": "start"}
        known |= {"max_tokens": "max", "max": "max"}
        names = [known.get(key.removeprefix("pooling_mode_")) for key in chosen]
        if len(names) != 1 or names[0] is None:
            raise ValueError(
                f"encoder: {folder} pools by {', '.join(chosen) or 'nothing'}; supported are mean, cls and max"
            )
        pooling = names[0]
    limits, length = folder / "sentence_bert_config.json", None
    if limits.is_file():
        length = json.loads(limits.read_text(encoding="utf-8")).get("max_seq_length")
    return pooling, "Normalize" in kinds, length


class MaskedTokenHead(nn.Module):
    """Logits over the vocabulary from states (n, dim), through the encoder's own table of words (Devlin et al., 2019).

    The table is shared, not copied: pass it to `forward`.
    """

    def __init__(self, dim: int, vocabulary_size: int) -> None:
        super().__init__()
        self.transform = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim))
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, states: Float[Tensor, "n d"], words: Float[Tensor, "v d"]) -> Float[Tensor, "n v"]:
        return nn.functional.linear(self.transform(states), words.to(states.dtype), self.bias.to(states.dtype))
