"""The core of image-text models with two towers: one space for both, and what is done with it.

An encoder and a head for images, an encoder and a head for texts; a subclass says which heads, which views and which loss.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from nolabel.data.text_pairs import list_of_texts
from nolabel.learn.ranking import depth_within, texts_to_find
from nolabel.ops.neighbours import nearest
from nolabel.training import PairLearner
from nolabel.training.pairs import IMAGE, TEXT
from nolabel.views import recipe
from nolabel.views.recipes import Recipe
from nolabel.views.tokens import delete


class DualEncoder(PairLearner):
    """Two towers into one space: ``net.encoder``, ``net.head`` of images, ``net.text_encoder``, ``net.text_head`` of texts.

    A subclass has an argument ``augment``, the recipe of the views of images.

    `transform` gives the representation before the head, of images; `embed_images` and `embed_texts` unit vectors of the
    space that both share, which `search`, `zero_shot` and `compose` compare.
    """

    augment: Recipe | str

    def make_towers(self, example: dict[str, Any]) -> Any:
        """The network without its heads."""
        net: Any = nn.Module()
        net.encoder = self.make_encoder(example)
        net.text_encoder = self.make_text_encoder()
        return net

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Any]:
        images = batch[IMAGE]
        view = recipe(self.augment, images.shape[-1], images.shape[1])
        return {IMAGE: view(images, generator), TEXT: batch[TEXT]}

    # Vectors ----------------------------------------------------------------------------------------------------------

    def image_vectors(self, net: Any, images: Tensor) -> Tensor:
        """Unit vectors (b, d) of float images (b, c, h, w) in [0, 1]."""
        return normalize(net.head(net.encoder(images)).float(), dim=1)

    def text_vectors(self, net: Any, text: dict[str, Tensor]) -> Tensor:
        """Unit vectors (b, d) of texts."""
        return normalize(net.text_head(net.text_encoder(text["tokens"], text["mask"])).float(), dim=1)

    def encode(
        self, net: Any, batch: dict[str, Any], layer: str = "representation", pool: int | None = 1, side: str = IMAGE
    ) -> Tensor:
        """As in `ImageLearner`, of images; with ``side="text"`` the same layers of texts. Embeddings have unit length."""
        if side == IMAGE:
            found = super().encode(net, batch, layer, pool)
            return normalize(found.float(), dim=1) if layer == "embedding" else found
        if layer == "embedding":
            return self.text_vectors(net, batch[TEXT])
        vectors: Tensor = net.text_encoder(batch[TEXT]["tokens"], batch[TEXT]["mask"])
        return vectors

    def judge(
        self, net: Any, batch: dict[str, Any], generator: torch.Generator
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Both layers of images and the embedding of texts, each with a mild view."""
        found = super().judge(net, {IMAGE: batch[IMAGE]}, generator)
        if TEXT not in batch:
            return found
        text = batch[TEXT]
        less = delete(text["tokens"], text["mask"], 0.1, generator)
        return found | {"texts": (self.text_vectors(net, text), self.text_vectors(net, less._asdict()))}

    def embed_images(self, images: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """Unit vectors (n, d), float32, of images, as `fit` takes them."""
        return self.transform(images, columns=columns, layer="embedding")

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors (n, d), float32. ValueError names the first text that is empty."""
        self.require_fitted()
        source = self.open_table({TEXT: texts_to_find("texts", texts)}, None, (TEXT,))
        return self.transform_source(source, side=TEXT, layer="embedding")

    def compose(self, image: Any, text: str | Sequence[str], weight: float = 1.0) -> np.ndarray:
        """Queries of an image and a text together: unit vectors of ``image + weight * text``, (n, d) float32.

        Parameters
        ----------
        image : images as `fit` takes them, or their embeddings (n, d)
        text : one text, or one for each image; what it says is taken away where `weight` is below 0
        """
        vectors = image if isinstance(image, np.ndarray) and image.ndim == 2 else self.embed_images(image)
        texts = self.embed_texts([text] if isinstance(text, str) else text)
        if len(texts) not in (1, len(vectors)):
            raise ValueError(f"text: expected one, or one for each of {len(vectors)} images, got {len(texts)}")
        together = vectors + weight * texts
        lengths = np.linalg.norm(together, axis=1, keepdims=True)
        return (together / np.maximum(lengths, 1e-12)).astype(np.float32)

    # Using them -------------------------------------------------------------------------------------------------------

    def search(self, query: Any, gallery: Any, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Positions (q, k) of the k nearest images for each query, best first, and the cosines (q, k).

        Parameters
        ----------
        query : texts, or vectors (q, d) from `embed_images`, `embed_texts` or `compose`
        gallery : images, or their embeddings (n, d)
        """
        asked = query if isinstance(query, np.ndarray) else self.embed_texts(query)
        among = gallery if isinstance(gallery, np.ndarray) and gallery.ndim == 2 else self.embed_images(gallery)
        cosines, found = nearest(asked, among, depth_within(k, len(among)), metric="cosine")
        return found, cosines

    def class_vectors(self, class_names: Sequence[str], templates: Sequence[str] = ("{}",)) -> np.ndarray:
        """A unit vector for each name, (classes, d): the mean over templates, each with ``{}`` where the name goes.

        Radford et al., CLIP, 2021, arXiv:2103.00020.
        """
        names = list_of_texts("class_names", class_names)
        repeated = sorted({name for name in names if names.count(name) > 1})
        if not names or repeated:
            raise ValueError(f"class_names: {f'{repeated[0]!r} comes twice' if repeated else 'there are none'}")
        wrong = [template for template in templates if "{}" not in template]
        if not templates or wrong:
            raise ValueError(
                f"templates: {f'{wrong[0]!r} has no {{}} for the name' if wrong else 'there are none'}, "
                "expected texts such as 'a photo of a {}'"
            )
        means = np.mean(
            [self.embed_texts([template.replace("{}", name) for name in names]) for template in templates], axis=0
        )
        return (means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)).astype(np.float32)

    def zero_shot(self, images: Any, class_names: Sequence[str], templates: Sequence[str] = ("{}",)) -> np.ndarray:
        """Cosine of each image to each class that only its name describes: (n, classes), float32."""
        classes = self.class_vectors(class_names, templates)
        vectors = images if isinstance(images, np.ndarray) and images.ndim == 2 else self.embed_images(images)
        cosines: np.ndarray = vectors @ classes.T
        return cosines

    def score(self, X: Any, y: Any = None, *, columns: dict[str, str] | None = None) -> float:
        """Mean of both R@1: the share of images that find their own text first among all, and of texts their own image."""
        self.require_fitted()
        source = self.open_table(X, columns, self.columns)
        images = self.transform_source(source, layer="embedding")
        texts = self.transform_source(source, layer="embedding", side=TEXT)
        own = np.arange(len(images))
        hits = [nearest(a, b, 1, metric="cosine")[1][:, 0] == own for a, b in ((images, texts), (texts, images))]
        return float(np.mean(hits))

    def search_rows(self, table: Any, *, query: bool = False) -> dict[str, np.ndarray]:
        """What an index keeps of images, or takes for texts to search by."""
        return {"dense": self.embed_texts(table[TEXT]) if query else self.embed_images(table)}
