"""URLBERT: learn URLs from hidden tokens, from noise that must not change predictions, and from two noisy views of each.

With e the embeddings of a URL's tokens, s the transformer's logits over the vocabulary at each token, and h the mean of its
states, the loss of a batch is w_mlm L_mlm + w_vat L_vat + w_con L_con:

    L_mlm   cross-entropy at 15 % of the tokens, hidden anew each time (80 % mask, 10 % random, 10 % as they are)
    L_vat   KL(sg p || q) + KL(sg q || p) a token, p = softmax s(e), q = softmax s(e + r), on the tokens with some hidden;
            r is adversarial noise of one round (`nolabel.objectives.adversarial`), dropout is off
    L_con   NT-Xent between z_a = h(e + r_a) and z_b = h(e + r_b) on the whole URLs, each with a dropout of its own; r_a and
            r_b are noise of two rounds, along the gradient with a large step, and with a small one, so that it is about random

Li, Wang, Xu, Guo, Cao & Zhang, "URLBERT: a contrastive and adversarial pre-trained model for URL classification", 2024,
arXiv:2402.11495. Differences: one optimiser step on the sum of the terms, the paper takes a second one on L_con at ten times
the rate; noise is searched for with dropout off, since otherwise the divergence measures dropout. Its gradient is then so
small at first that the paper's steps, 1e-3 and 1e-1, leave the noise random: ours are large. The radius counts in mean norms
of the embeddings; L_vat is a mean over tokens without padding. h is a mean: from random weights the start tokens of all
URLs, which the paper takes, are so alike that L_con stayed at log(2b - 1) for 60 steps, where the mean needed 20. Gradients
of all terms reach the table of words (only r is a constant); sizes for small corpora. A step makes 1 + 3 + 7 forward passes
of the encoder.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nolabel.data.urls import normalise_urls, require_urls
from nolabel.objectives.adversarial import adversarial_noise, virtual_adversarial
from nolabel.objectives.contrastive import nt_xent
from nolabel.training import TextLearner, Training, gather
from nolabel.views.tokens import hide

#: Rounds of the noise of a view in the contrastive term.
ROUNDS = 2


class UrlEncoder(TextLearner):
    """Learn vectors of URLs from unlabelled URLs: for telling phishing, topics or advertising with few labels.

    Use it with ten thousand URLs and more, under `UrlClassifier` or `MultiTaskUrlClassifier`; compare with logistic regression
    on character n-grams, which is strong where labels are many. URLs are strings here and are never fetched.

    Parameters
    ----------
    encoder : ``bert-3x128``, ``bert-tiny``, ... from random weights (paper: ``bert-base``), or ``hf:`` and a name or folder
    mlm_weight, vat_weight, contrastive_weight : of the three terms; 0 leaves one out (paper: 1, 10 on a sum over tokens, 1)
    radius : length of the noise on each token, in mean norms of the embeddings (paper: 1, unscaled)
    vat_step : of the noise of L_vat along the gradient (paper: 1e-3, see above)
    step_a, step_b : of the noise of the two views (paper: 1e-1, 1e-5)
    temperature : of the contrastive term
    hidden : share of tokens to be told
    dropout : while learning (paper: 0.2)
    normalise : read URLs without scheme, ``www.`` and slash at the end, hosts in lower case
    punycode : hosts with other letters than ASCII in their ASCII form
    lowercase : capitals in paths are dropped too
    vocabulary_size : word pieces learned from the URLs; of no effect where the encoder brings a tokeniser
    max_length : tokens a URL is cut to, from the right; URLs that are longer are counted, with one warning
    training : how long and on what to train

    Attributes
    ----------
    tokeniser_ : the tokeniser, as the JSON text of the `tokenizers` library
    truncated_ : URLs of the fit that were cut
    skipped_steps_ : steps in which L_vat, or the noise of a view, was left out since a gradient was not finite
    history_ : among others the terms, as weighted, over the steps

    Raises
    ------
    ValueError : ``url[i]: ...`` for an empty URL; arguments that do not fit
    TypeError : ``url[i]: ...`` for a URL that is no text

    Examples
    --------
    >>> urls = [f"http://shop{i % 7}.example.com/item/{i}" for i in range(40)]
    >>> model = UrlEncoder("bert-1x32", vocabulary_size=120, training=Training(steps=2, batch_size=8)).fit(urls)
    >>> model.transform(["https://www.example.com/item/3"]).shape
    (1, 32)
    """

    columns = ("url",)
    recipe = {**TextLearner.recipe, "epochs": 3}  # noqa: RUF012
    truncated_: int
    skipped_steps_: int

    def __init__(
        self,
        encoder: str = "bert-3x128",
        *,
        mlm_weight: float = 1.0,
        vat_weight: float = 1.0,
        contrastive_weight: float = 0.5,
        radius: float = 0.5,
        vat_step: float = 1e4,
        step_a: float = 1e4,
        step_b: float = 1e-5,
        temperature: float = 0.1,
        hidden: float = 0.15,
        dropout: float = 0.1,
        normalise: bool = True,
        punycode: bool = False,
        lowercase: bool = True,
        vocabulary_size: int = 3000,
        max_length: int = 64,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.mlm_weight = mlm_weight
        self.vat_weight = vat_weight
        self.contrastive_weight = contrastive_weight
        self.radius = radius
        self.vat_step = vat_step
        self.step_a = step_a
        self.step_b = step_b
        self.temperature = temperature
        self.hidden = hidden
        self.dropout = dropout
        self.normalise = normalise
        self.punycode = punycode
        self.lowercase = lowercase
        self.vocabulary_size = vocabulary_size
        self.max_length = max_length
        self.training = training

    @property
    def exportable(self) -> bool:
        """URLs that are normalised first need this library."""
        return not (self.normalise or self.punycode)

    def _check(self) -> None:
        super()._check()
        weights = {name: getattr(self, name) for name in ("mlm_weight", "vat_weight", "contrastive_weight")}
        for name, value in {**weights, "radius": self.radius}.items():
            if not value >= 0.0:
                raise ValueError(f"{name} must be at least 0, got {value!r}")
        if not any(weights.values()):
            raise ValueError(f"{', '.join(weights)} are all 0: nothing would be learned")
        for name in ("vat_step", "step_a", "step_b", "temperature"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)!r}")
        if not 0.0 < self.hidden < 1.0:
            raise ValueError(f"hidden must be a share in (0, 1), got {self.hidden!r}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be a share in [0, 1), got {self.dropout!r}")

    # Reading --------------------------------------------------------------------------------------------------------

    def spelled(self, urls: list[str]) -> list[str]:
        """URLs as they are read."""
        if not (self.normalise or self.punycode):
            return [url.strip() for url in urls]
        stays = not self.normalise
        return normalise_urls(urls, punycode=self.punycode, scheme=stays, www=stays, trailing_slash=stays)

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        import pyarrow as pa

        from nolabel.data.reading import from_arrow

        urls = urls_of(data, columns, blank=True)
        there = [row for row, url in enumerate(urls) if url]
        for row, url in zip(there, self.spelled([urls[row] for row in there])):
            urls[row] = url
        source = super().open_table(from_arrow(pa.table({"url": urls})), None, needed)
        cut = source.truncated["url"]
        if cut:
            warnings.warn(
                f"{cut} of {len(urls)} URLs are longer than max_length={self.max_length} and were cut", stacklevel=3
            )
        return source

    def prepare(self, source: Any, folder: Any) -> None:
        super().prepare(source, folder)
        self.truncated_ = source.truncated["url"]

    # Learning -------------------------------------------------------------------------------------------------------

    def build(self, example: dict[str, Any]) -> nn.Module:
        from nolabel.data.tokenisers import read_tokeniser, special_ids
        from nolabel.encoders.text import MaskedTokenHead

        tokeniser = read_tokeniser(self.tokeniser_)
        self._mask_id, self._pieces = special_ids(tokeniser).mask, tokeniser.get_vocab_size()
        if self._mask_id < 0:
            raise ValueError(f"encoder: the tokeniser of {self.encoder!r} has no mask token")
        net: Any = nn.Module()
        net.encoder = self.make_encoder()
        set_dropout(net.encoder, self.dropout)
        net.head = MaskedTokenHead(net.encoder.dim, net.encoder.words.num_embeddings)
        net.register_buffer("skipped", torch.zeros((), dtype=torch.int64))  # saved with a run that goes on later
        return net

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        tokens, mask = batch["url"]["tokens"], batch["url"]["mask"]
        seen, targets = hide(
            tokens, mask, generator, mask_id=self._mask_id, vocabulary_size=self._pieces, p=self.hidden
        )
        return {"tokens": tokens, "mask": mask, "seen": seen, "targets": targets}

    def loss(self, net: Any, views: dict[str, Tensor]) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        if self.mlm_weight:
            terms["mlm"] = self.mlm_weight * self._masked(net, views)
        if self.vat_weight:
            with without_dropout(net):
                term, finite = virtual_adversarial(
                    logits_of(net, views["mask"]), net.encoder.words(views["seen"]), views["mask"],
                    radius=self.radius, step=self.vat_step,
                )  # fmt: skip
            net.skipped += ~finite
            terms["vat"] = self.vat_weight * term
        if self.contrastive_weight:
            terms["contrastive"] = self.contrastive_weight * self._contrast(net, views)
        return terms

    def _masked(self, net: Any, views: dict[str, Tensor]) -> Tensor:
        chosen = views["targets"] >= 0  # (b, l)
        states = net.encoder.states(views["seen"], views["mask"])[chosen]
        return cross_entropy(net.head(states, net.encoder.words.weight).float(), views["targets"][chosen])

    def _contrast(self, net: Any, views: dict[str, Tensor]) -> Tensor:
        mask, embeddings = views["mask"], net.encoder.words(views["tokens"])
        with without_dropout(net), torch.autocast(embeddings.device.type, enabled=False):
            logits = logits_of(net, mask)
            with torch.no_grad():
                clean = logits(embeddings.float())
            noises = [
                adversarial_noise(logits, embeddings, mask, clean, radius=self.radius, step=step, rounds=ROUNDS)
                for step in (self.step_a, self.step_b)
            ]
        net.skipped += ~torch.stack([noise.finite for noise in noises]).all()
        a, b = (
            net.encoder.pool(net.encoder.states(None, mask, embeddings + noise.noise), mask).float() for noise in noises
        )
        return nt_xent(gather(a), gather(b), temperature=self.temperature)

    def finish(self, source: Any) -> None:
        net: Any = self.net_
        self.skipped_steps_ = int(net.skipped)
        if self.skipped_steps_:
            warnings.warn(
                f"adversarial noise was left out {self.skipped_steps_} times since a gradient was not finite",
                stacklevel=3,
            )


def urls_of(data: Any, columns: dict[str, str] | None = None, *, blank: bool = False) -> list[str]:
    """The URLs of a list, an array or a column, or of the column ``url`` of anything `nolabel.data.read` takes.

    With `blank`, empty cells of a table are empty texts; otherwise they are an error, as they are in a list.
    """
    from nolabel.data import read
    from nolabel.data.columns import require_column

    if isinstance(data, list | tuple) or getattr(data, "ndim", 0) == 1:
        return require_urls(data)
    table = read(data, columns=columns)
    require_column(table, "url", "columns")
    if not blank:
        return require_urls(table["url"])
    cells = ["" if url is None or (isinstance(url, str) and not url.strip()) else url for url in table["url"]]
    require_urls([url for url in cells if url] or cells)
    return cells


def set_dropout(net: nn.Module, share: float) -> None:
    """The same dropout everywhere in a network."""
    for part in net.modules():
        if isinstance(part, nn.Dropout):
            part.p = share


@contextmanager
def without_dropout(net: nn.Module) -> Iterator[None]:
    """The network as it is when nothing is trained; gradients go on."""
    before = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(before)


def logits_of(net: Any, mask: Tensor) -> Callable[[Tensor], Tensor]:
    """The function from embeddings (b, l, dim) to logits (n, vocabulary) of the real tokens."""

    def logits(embeddings: Tensor) -> Tensor:
        found: Tensor = net.head(net.encoder.states(None, mask, embeddings)[mask], net.encoder.words.weight)
        return found

    return logits
