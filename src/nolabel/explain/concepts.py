"""Concepts of a trained network: what recurs in its activations, how much each counts for a class, who is decided by which.

Two steps (Fel et al., NeurIPS 2023, arXiv:2306.07304). Activations A (N, p) of images, or of every place of their maps, are
written as A = U V with few concepts V (k, p): k-means, PCA, SVD, NMF and sparse coding are one problem under different
constraints. Then f(u) = h(u V)_class, with h the rest of the network, is explained by any attribution method, for a
coefficient is an input as a pixel is. Where h is affine, gradient times input, integrated gradients and occlusion are the
same, u_i (V w)_i, and best by all three measures of `importance_metrics`; so cut after the last block and take gradient times
input unless you know better.

A coefficient says that a concept is there (`transform`), an importance that the output rests on it (`importance`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from nolabel.assess.inputs import as_count, as_labels
from nolabel.explain import concept_metrics
from nolabel.explain.attribution import ATTRIBUTIONS, Function
from nolabel.explain.dictionaries import METHODS, Dictionary, learn_dictionary
from nolabel.explain.patches import crops
from nolabel.explain.strategies import StrategyGraph, strategy_graph
from nolabel.training import Estimator

#: Images that are encoded at once, and rows that a dictionary is learned from, at most.
BATCH, ROWS = 256, 200_000
SPATIAL = ("cells", "crops", "pooled")
Progress = Callable[[int, int], None]
Place = tuple[int, int | None, int | None, float]


class ConceptExplainer(Estimator):
    """Explain a trained network by recurring concepts of its activations (Fel et al., NeurIPS 2023, arXiv:2306.07304).

    Use it to see what a network looks at in images of a class, and which images it decides by the same concepts. Fit it on images
    that the network *predicts* as the class; no labels are needed. It says what the network uses, not what is right.

    Parameters
    ----------
    encode : images (b, ...) to activations (b, p) or (b, p, h, w); `split_model` gives both halves of a network
    decode : activations of the same shape to outputs (b, classes); ``None`` leaves importances out
    n_concepts : k; the paper takes 25 on ImageNet, 10 do for small images
    method : ``nmf`` (CRAFT, needs activations of at least 0), ``kmeans`` (ACE), ``pca``, ``svd``, ``sparse``
    spatial : what the concepts are learned from: ``cells``, every place of a map; ``crops``, square patches of the images,
        brought to their size and averaged over the map; ``pooled``, maps averaged over all places, which `decode` takes (b, p)
    patch_size : side of a crop in pixels, for ``crops``; they are cut every 0.8 of it
    random_state : seed of dictionaries, noise and masks

    Attributes
    ----------
    concepts_ : (k, p)
    dictionary_ : what was learned

    Examples
    --------
    >>> from nolabel.explain.splitting import split_model
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(216, 2))
    >>> images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> explainer = ConceptExplainer(*split_model(net, "1", example=images), n_concepts=3).fit(images)
    >>> explainer.transform(images).shape, explainer.importance(images, class_id=1).shape
    ((40, 6, 6, 3), (3,))
    """

    columns = ("image",)
    dictionary_: Dictionary

    def __init__(
        self,
        encode: Callable[[Tensor], Any],
        decode: Callable[[Tensor], Any] | None = None,
        *,
        n_concepts: int = 10,
        method: str = "nmf",
        spatial: str = "cells",
        patch_size: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.encode = encode
        self.decode = decode
        self.n_concepts = n_concepts
        self.method = method
        self.spatial = spatial
        self.patch_size = patch_size
        self.random_state = random_state

    @property
    def concepts_(self) -> np.ndarray:
        self.require_fitted()
        return self.dictionary_.concepts

    # Activations ----------------------------------------------------------------------------------------------------

    def activations(self, X: Any, *, progress: Progress | None = None) -> np.ndarray:
        """What `encode` gives for images: float32 (n, p) or (n, p, h, w).

        Parameters
        ----------
        X : tensor or array of images as `encode` takes them, (n, ...)
        progress : called with the number of images done and their total
        """
        return np.concatenate(list(self._batches(_images(X), progress)))

    def _batches(self, images: Tensor, progress: Progress | None = None) -> Iterator[np.ndarray]:
        """Activations of some images at a time."""
        for start in range(0, len(images), BATCH):
            yield self._encoded(images[start : start + BATCH])
            if progress is not None:
                progress(min(start + BATCH, len(images)), len(images))

    def _encoded(self, images: Tensor) -> np.ndarray:
        with torch.no_grad():
            output = self.encode(images)
        if isinstance(output, tuple | list | dict):
            raise TypeError(
                f"encode must return one tensor of activations (n, p) or (n, p, h, w), got a {type(output).__name__} of "
                f"{len(output)}: choose the one to explain"
            )
        output = torch.as_tensor(output)
        if output.ndim not in (2, 4) or len(output) != len(images):
            raise ValueError(
                f"encode must return activations (n, p) or (n, p, h, w) of {len(images)} images, got shape {tuple(output.shape)}"
            )
        if self.spatial == "pooled":
            output = output.flatten(2).mean(2) if output.ndim == 4 else output
        found: np.ndarray = output.detach().float().cpu().numpy()
        return found

    def rows(self, X: Any, *, progress: Progress | None = None) -> np.ndarray:
        """What a dictionary is learned from: activations (N, p) of all places, crops or images; at most 200,000 at random."""
        self._check()
        images = _images(X)
        if self.spatial == "crops":
            images = crops(images, self.patch_size)
        found = []
        for part in self._batches(images, progress):
            found.append(_as_rows(part.mean(axis=(2, 3)) if self.spatial == "crops" and part.ndim == 4 else part))
        rows = np.concatenate(found)
        if len(rows) > ROWS:
            rows = rows[np.sort(np.random.default_rng(self.random_state).permutation(len(rows))[:ROWS])]
        return rows

    # Step 1: concepts -----------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, *, progress: Progress | None = None) -> Self:
        """Learn the concepts of images (n, ...); y is ignored.

        Raises
        ------
        ValueError
            A parameter out of range, more concepts than activations, negative activations for ``nmf``.
        TypeError
            `encode` gives something other than one tensor.
        """
        rows = self.rows(X, progress=progress)
        self.dictionary_ = learn_dictionary(rows, self.n_concepts, self.method, random_state=self.random_state)
        return self

    def transform(self, X: Any, *, progress: Progress | None = None) -> np.ndarray:
        """Coefficients: how much of each concept is there, float32 (n, k), or (n, h, w, k) where `encode` gives maps."""
        self.require_fitted()
        return np.concatenate([self._coefficients(part) for part in self._batches(_images(X), progress)])

    def _coefficients(self, activations: np.ndarray) -> np.ndarray:
        found = self.dictionary_.coefficients(_as_rows(activations))
        shape = (len(activations), *activations.shape[2:], found.shape[1])
        return found.reshape(shape)

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """`fit`, then `transform` of the same images."""
        return self.fit(X).transform(X)

    def inverse_transform(self, U: np.ndarray) -> np.ndarray:
        """Activations (n, p) or (n, p, h, w) from coefficients (n, k) or (n, h, w, k)."""
        self.require_fitted()
        given = np.asarray(U, np.float32)
        k = len(self.concepts_)
        if given.ndim not in (2, 4) or given.shape[-1] != k:
            raise ValueError(f"U: coefficients (n, {k}) or (n, h, w, {k}) were expected, got shape {given.shape}")
        rows = self.dictionary_.reconstruct(given)
        return np.moveaxis(rows, -1, 1)

    def heatmaps(self, X: Any) -> np.ndarray:
        """Where each concept is: coefficients (n, h, w, k).

        Raises
        ------
        ValueError
            `encode` gives one vector an image, which has no places.
        """
        found = self.transform(X)
        if found.ndim != 4:
            raise ValueError(
                "heatmaps: encode gives one vector an image, in which places are averaged away; cut the network before its "
                "pooling (split_model lists the layers with maps) and leave spatial='pooled' out"
            )
        return found

    # Step 2: importances --------------------------------------------------------------------------------------------

    def output(self, class_id: int) -> Function:
        """f: coefficients (b, k) or (b, h, w, k), a tensor, to the output (b,) of a class."""
        outputs = self.outputs()

        def f(u: Tensor) -> Tensor:
            found = outputs(u)
            classes = found.shape[1]
            as_count(class_id, "class_id", low=0, high=classes - 1, why=f"decode has {classes} outputs")
            return found[:, class_id]

        return f

    def outputs(self) -> Function:
        """Coefficients (b, k) or (b, h, w, k), a tensor, to all outputs (b, classes)."""
        self.require_fitted()
        decode = self.decode
        if decode is None:
            raise ValueError("decode: importances need the rest of the network, got None")
        concepts, mean = (torch.from_numpy(x) for x in (self.concepts_, self.dictionary_.mean))

        def f(u: Tensor) -> Tensor:
            a = u @ concepts + mean
            found = torch.as_tensor(decode(a.movedim(-1, 1) if a.ndim == 4 else a)).cpu()
            if found.ndim != 2 or len(found) != len(u):
                raise ValueError(
                    f"decode must return outputs (n, classes) of {len(u)} rows, got shape {tuple(found.shape)}"
                )
            return found.float()

        return f

    def importance(
        self,
        X: Any,
        class_id: int,
        method: str = "gradient_input",
        reduce: str | None = "mean",
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> np.ndarray:
        """How much the output of a class rests on each concept.

        Parameters
        ----------
        class_id : number of the class among the outputs
        method : ``gradient_input``, ``integrated_gradients``, ``saliency``, ``smooth_grad``, ``var_grad``, or without gradients
            ``occlusion``, ``rise``, ``sobol``, ``hsic``
        reduce : ``mean``, the mean over images (k,) of what ``None`` gives: local importances (n, k), summed over places, so
            that those of ``gradient_input`` add up to the change of an affine output; ``peak``, as the paper's code does, the
            mean over images of the largest absolute value of any place
        options : of the method, such as ``steps=30`` or ``designs=64``

        Raises
        ------
        ValueError
            No `decode`, a class out of range, an unknown method, or a method by gradients where `decode` has none.
        """
        if method not in ATTRIBUTIONS:
            raise ValueError(f"method must be one of {', '.join(ATTRIBUTIONS)}, got {method!r}")
        if reduce not in ("mean", "peak", None):
            raise ValueError(f"reduce must be 'mean', 'peak' or None, got {reduce!r}")
        f = self.output(class_id)
        if method in ("smooth_grad", "var_grad", "rise", "sobol", "hsic"):
            options = {"seed": self.random_state} | options
        found = []
        for activations in self._batches(_images(X), progress):
            part = ATTRIBUTIONS[method](f, torch.from_numpy(self._coefficients(activations)), **options)
            if part.ndim == 4:
                part = part.abs().amax((1, 2)) if reduce == "peak" else part.sum((1, 2))
            found.append((part.abs() if reduce == "peak" else part).numpy())
        local = np.concatenate(found)
        if not local.any():
            warnings.warn(
                f"the output of class {class_id} does not change with the concepts: all importances are 0", stacklevel=2
            )
        return local if reduce is None else local.mean(axis=0)

    # How good it is -------------------------------------------------------------------------------------------------

    def extraction_metrics(self, X: Any) -> dict[str, float]:
        """Measures of the dictionary on images that `fit` has not seen, as `concept_metrics.extraction_metrics` lists them."""
        self.require_fitted()
        return concept_metrics.extraction_metrics(self.dictionary_, self.rows(X), random_state=self.random_state)

    def importance_metrics(
        self, X: Any, class_id: int, methods: Sequence[str] = ("gradient_input",), *, subsets: int = 128
    ) -> dict[str, dict[str, float]]:
        """C-Deletion, C-Insertion and C-muFidelity of importances, better if lower, higher, higher.

        Parameters
        ----------
        methods : of `importance`, and ``random`` for a random order, which the others have to beat
        subsets : random sets of concepts for the fidelity

        Returns
        -------
        method to ``deletion``, ``insertion`` (areas under the class's output), the same ``of probability`` (after a softmax over
        outputs), and ``fidelity``
        """
        f, outputs = self.output(class_id), self.outputs()
        u = torch.from_numpy(self.transform(X))

        def both(u: Tensor) -> Tensor:
            found = outputs(u)
            return torch.stack([found[:, class_id], found.softmax(dim=1)[:, class_id]], dim=1)

        chosen, lost = concept_metrics.losses(f, u, subsets=subsets, random_state=self.random_state)
        found: dict[str, dict[str, float]] = {}
        for method in methods:
            if method == "random":
                generator = torch.Generator().manual_seed(self.random_state)
                local = torch.rand((len(u), u.shape[-1]), generator=generator)
            else:
                local = torch.from_numpy(self.importance(X, class_id, method, None))
            deletion, insertion = (part.tolist() for part in concept_metrics.deletion_and_insertion(both, u, local))
            found[method] = {
                "deletion": deletion[0],
                "insertion": insertion[0],
                "deletion of probability": deletion[1],
                "insertion of probability": insertion[1],
                "fidelity": concept_metrics.fidelity(chosen, lost, local),
            }
        return found

    def strategy_graph(
        self, X: Any, class_id: int, y: Any = None, *, clusters: int | None = None, neighbours: int = 15
    ) -> StrategyGraph:
        """Images of a class joined to those decided by the same concepts, with the prevalence and reliability of each concept.

        Parameters
        ----------
        X : images that the network predicts as the class
        y : (n,) number of the true class of each; without it the reliability is NaN
        clusters : so many by k-means; ``None`` lets Louvain find them, which splits further
        neighbours : of each image in the graph
        """
        local = self.importance(X, class_id, "gradient_input", None)
        right = None if y is None else as_labels(y, len(local), "y") == class_id
        return strategy_graph(local, right, clusters=clusters, neighbours=neighbours, random_state=self.random_state)

    def examples(self, X: Any, top: int = 8) -> list[list[Place]]:
        """Of each concept the images with most of it, best first, as `best_places` says."""
        return best_places(self.transform(X), top)

    def _check(self) -> None:
        if not callable(self.encode):
            raise TypeError(f"encode must be callable, images to activations, got {type(self.encode).__name__}")
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.spatial not in SPATIAL:
            raise ValueError(f"spatial must be one of {', '.join(SPATIAL)}, got {self.spatial!r}")
        as_count(self.n_concepts, "n_concepts")
        if (self.spatial == "crops") != (self.patch_size is not None):
            raise ValueError(
                f"patch_size is for spatial='crops' and needed there, got {self.patch_size!r} for {self.spatial!r}"
            )


def best_places(u: np.ndarray, top: int = 8) -> list[list[Place]]:
    """Of each concept the images with most of it, best first: number of the image, row and column of the place, coefficient.

    Parameters
    ----------
    u : coefficients (n, h, w, k), or (n, k), where row and column are ``None``; one place an image, none without the concept

    >>> best_places(np.array([[0.0, 3.0], [2.0, 1.0]]))
    [[(1, None, None, 2.0)], [(0, None, None, 3.0), (1, None, None, 1.0)]]
    """
    flat = u.reshape(len(u), -1, u.shape[-1])  # (n, places, k)
    best, value = flat.argmax(axis=1), flat.max(axis=1)  # (n, k)
    found = []
    for concept in range(u.shape[-1]):
        rows = np.argsort(-value[:, concept], kind="stable")[:top]
        listed: list[Place] = []
        for row in rows[value[rows, concept] > 0].tolist():
            y, x = divmod(int(best[row, concept]), u.shape[2]) if u.ndim == 4 else (None, None)
            listed.append((row, y, x, float(value[row, concept])))
        found.append(listed)
    return found


def _images(X: Any) -> Tensor:
    images = X if isinstance(X, Tensor) else torch.from_numpy(np.ascontiguousarray(X))
    if not len(images):
        raise ValueError("X: at least 1 image was expected, got 0")
    return images


def _as_rows(activations: np.ndarray) -> np.ndarray:
    """(n, p) stays; (n, p, h, w) becomes (n * h * w, p), place by place."""
    return activations if activations.ndim == 2 else np.moveaxis(activations, 1, -1).reshape(-1, activations.shape[1])
