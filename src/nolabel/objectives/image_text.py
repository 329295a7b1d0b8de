"""The two-way softmax of image-text models: every image must single out its text, and every text its image."""

from jaxtyping import Float, Int
from torch import Tensor

from nolabel.ops.info_nce import cosine_pair_losses


def image_text_contrast(
    images: Float[Tensor, "n d"],
    texts: Float[Tensor, "n d"],
    *,
    temperature: float | Tensor = 0.1,
    weights: tuple[float, float] = (0.5, 0.5),
    label_smoothing: float = 0.0,
    groups: Int[Tensor, " n"] | None = None,
) -> dict[str, Tensor]:
    """Return the weighted losses of both directions, whose sum is the loss.

    With cosines s_ij of image i and text j over the temperature, and label smoothing e,

        image_to_text = w_1 * mean_i ( logsumexp_j s_ij - (1 - e) s_ii - e mean_j s_ij )

    and text_to_image = w_2 times the same on the transpose. There are no pairs of two images or of two texts. Memory beyond the
    gradients is a few tiles of the matrix, however large n is.

    Parameters
    ----------
    images, texts : (n >= 2, d); row i of one belongs to row i of the other. Rows are scaled to unit length here.
    temperature : above 0; a float or a learnable scalar tensor.
    weights : of image-to-text and text-to-image, at least 0; (1, 1) in ALIGN, (0.75, 0.25) in ConVIRT.
    label_smoothing : share of the target that is spread over all candidates, in [0, 1).
    groups : (n,) integers; pairs with one number are no candidates of each other, such as those with equal texts.

    Raises
    ------
    ValueError
        Shapes that differ, a single pair (its loss is 0 whatever the vectors), a temperature, weight or smoothing out of range.

    References
    ----------
    Zhang et al. 2020, arXiv:2010.00747 (ConVIRT); Jia et al. 2021, arXiv:2102.05918 (ALIGN).

    Examples
    --------
    >>> import torch
    >>> terms = image_text_contrast(torch.eye(3), torch.eye(3), temperature=1.0)
    >>> {name: round(float(term), 4) for name, term in terms.items()}  # each (log(e + 2) - 1) / 2
    {'image_to_text': 0.2757, 'text_to_image': 0.2757}
    """
    if images.shape != texts.shape or images.ndim != 2:
        raise ValueError(f"images and texts must be (n, d) alike, got {tuple(images.shape)} and {tuple(texts.shape)}")
    if len(images) < 2:
        raise ValueError(f"a batch must have at least 2 pairs: with {len(images)} the loss is 0 whatever they are")
    if len(weights) != 2 or min(weights) < 0 or sum(weights) <= 0:
        raise ValueError(f"weights must be two numbers of at least 0, one above it, got {weights!r}")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing!r}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {float(temperature)}")
    losses = cosine_pair_losses(images, texts, temperature=temperature, label_smoothing=label_smoothing, groups=groups)
    forth, back = losses.chunk(2)
    return {"image_to_text": weights[0] * forth.mean(), "text_to_image": weights[1] * back.mean()}
