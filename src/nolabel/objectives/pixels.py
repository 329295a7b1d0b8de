"""Losses between the locations of two feature maps whose crops of the image are known.

A map (n, d, h, w) has h x w locations a view, row by row. The crop a view shows is a box (x0, y0, x1, y1) in the image, which
covers [0, 1] both ways; a mirrored view has x0 and x1 (or y0 and y1) swapped. Location (r, s) lies at

    (x0 + (s + 1/2) (x1 - x0) / w,  y0 + (r + 1/2) (y1 - y0) / h),

and two locations of two views are a positive pair if they lie nearer together than `threshold` diagonals of a cell, of the
view whose cells are larger.

Xie, Lin, Zhang, Cao, Lin & Hu, "Propagate yourself: exploring pixel-level consistency for unsupervised visual
representation learning", CVPR 2021, arXiv:2011.10043.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize


def location_centres(boxes: Float[Tensor, "n 4"], size: tuple[int, int]) -> Float[Tensor, "n hw 2"]:
    """Where the locations of a map of `size` (h, w) lie in the image: x and y, row by row.

    >>> location_centres(torch.tensor([[1.0, 0.0, 0.0, 1.0]]), (1, 2)).tolist()  # mirrored: the right half comes first
    [[[0.75, 0.5], [0.25, 0.5]]]
    """
    x0, y0, x1, y1 = boxes.unsqueeze(2).unbind(1)  # (n, 1) each
    down, across = ((torch.arange(side, device=boxes.device) + 0.5) / side for side in size)
    y, x = y0 + down * (y1 - y0), x0 + across * (x1 - x0)  # (n, h), (n, w)
    return torch.stack((x[:, None].expand(-1, *size), y[:, :, None].expand(-1, *size)), -1).flatten(1, 2)


def pixel_positives(
    boxes: Float[Tensor, "n 4"],
    other_boxes: Float[Tensor, "n 4"],
    size: tuple[int, int],
    other_size: tuple[int, int],
    *,
    threshold: float = 0.7,
) -> Bool[Tensor, "n hw other_hw"]:
    """Return which locations of two views of the same images show nearly the same spot.

    Parameters
    ----------
    boxes, other_boxes : (n, 4) x0, y0, x1, y1 of the two views in the image, in [0, 1]; a mirrored view has x0 > x1.
    size, other_size : (h, w) of the two maps.
    threshold : largest distance, exclusive, in diagonals of the larger cell; above 0. With 0.7 a location of two equal square
        crops has one partner, itself: its neighbour is 1 / sqrt(2) away.

    Raises
    ------
    ValueError
        Boxes that are not (n, 4) or have no extent (the first is named), threshold not above 0.

    Examples
    --------
    >>> whole, mirrored = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    >>> pixel_positives(whole, mirrored, (2, 2), (2, 2))[0].int().tolist()
    [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    """
    if not threshold > 0:
        raise ValueError(f"threshold must be above 0, got {threshold}")
    if boxes.shape != other_boxes.shape:
        came = f"{tuple(boxes.shape)} and {tuple(other_boxes.shape)}"
        raise ValueError(f"boxes and other_boxes must have one shape (n, 4), got {came}")
    cell = torch.maximum(_cell_diagonal("boxes", boxes, size), _cell_diagonal("other_boxes", other_boxes, other_size))
    x, y = location_centres(boxes.float(), size).unbind(-1)  # (n, hw) each
    other_x, other_y = location_centres(other_boxes.float(), other_size).unbind(-1)
    distance = (x[:, :, None] - other_x[:, None]).square() + (y[:, :, None] - other_y[:, None]).square()
    return distance < (threshold * cell).square()[:, None, None]


def propagate(
    maps: Float[Tensor, "n d h w"], *, sharpness: float = 2.0, transform: Callable[[Tensor], Tensor] | None = None
) -> Float[Tensor, "n out h w"]:
    """Return each location as a sum over all locations of its map, the similar ones foremost: pixel propagation.

    ``y_i = sum_j max(cosine(x_i, x_j), 0) ** sharpness * v_j`` with v_j the unit vector along ``transform(x)_j``; all j
    of the same image, i among them. Lengths are left as they come: the losses here look at directions only.

    Parameters
    ----------
    maps : (n, d, h, w) projections.
    sharpness : 0 and above; 0 sums all locations alike, large values leave each location to itself.
    transform : from (n, d, h, w) to (n, out, h, w), such as a 1x1 convolution; None for none.

    Raises
    ------
    ValueError
        Maps that are not floating (n, d, h, w), sharpness below 0.

    Examples
    --------
    >>> maps = torch.tensor([3.0, 0.0, 1.0]).view(1, 1, 1, 3)  # unit vectors 1, 0, 1
    >>> propagate(maps).flatten().tolist()
    [2.0, 0.0, 2.0]
    """
    if not sharpness >= 0:
        raise ValueError(f"sharpness must be at least 0, got {sharpness}")
    locations = _unit_locations("maps", maps)  # (n, d, hw)
    values = locations if transform is None else _unit_locations("transform(maps)", transform(maps))  # (n, out, hw)
    with torch.autocast(maps.device.type, enabled=False):
        affinity = (locations.mT @ locations).clamp(min=0)  # (n, hw, hw)
        if sharpness < 1:  # a root has no slope at 0
            affinity = affinity + 1e-6
        return (values @ affinity.pow(sharpness).mT).unflatten(2, maps.shape[2:])


def pixel_consistency(
    queries: Float[Tensor, "n d h w"],
    keys: Float[Tensor, "n d h2 w2"],
    query_boxes: Float[Tensor, "n 4"],
    key_boxes: Float[Tensor, "n 4"],
    *,
    threshold: float = 0.7,
) -> Float[Tensor, ""]:
    """Return how far the locations of one view are from agreeing with their positive partners in the other: PixPro's loss.

    Minus twice the cosine, averaged over the positive pairs of an image, then over the images; an image without a
    positive pair counts as 0. Lies in [-2, 2], and is -2 where all partners agree. It has no negatives: `keys` must come
    from a slowly moving copy of the network, and receive no gradient here.

    Parameters
    ----------
    queries, keys : maps (n, d, h, w) of two views of the same n images; their h and w may differ.
    query_boxes, key_boxes, threshold : as in `pixel_positives`.

    Raises
    ------
    ValueError
        Maps or boxes that do not fit together, and as `pixel_positives`.

    Examples
    --------
    >>> maps, whole = torch.eye(4).view(1, 4, 2, 2), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    >>> round(float(pixel_consistency(maps, maps, whole, whole)), 4)
    -2.0
    """
    cosines, positive = _compared(queries, keys, query_boxes, key_boxes, threshold)
    agreement = (cosines * positive).sum((1, 2)) / (positive.sum((1, 2)) + 1e-6)
    return -2 * agreement.mean()


def pixel_contrast(
    queries: Float[Tensor, "n d h w"],
    keys: Float[Tensor, "n d h2 w2"],
    query_boxes: Float[Tensor, "n 4"],
    key_boxes: Float[Tensor, "n 4"],
    *,
    threshold: float = 0.7,
    temperature: float = 0.3,
) -> Float[Tensor, ""]:
    """Return how badly locations single out their positive partners among all locations of the other view: PixContrast's loss.

    The mean of ``-log(sum_positive exp(cosine / temperature) / sum_all exp(cosine / temperature))`` over the locations that
    have a partner; 0 if none has. `keys` receive no gradient.

    Parameters
    ----------
    queries, keys, query_boxes, key_boxes, threshold : as in `pixel_consistency`.
    temperature : above 0.

    Raises
    ------
    ValueError
        As `pixel_consistency`; temperature not above 0.

    Examples
    --------
    >>> maps, whole = torch.eye(4).view(1, 4, 2, 2), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    >>> round(float(pixel_contrast(maps, maps, whole, whole, temperature=1.0)), 4)  # log(e + 3) - 1
    0.7437
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    cosines, positive = _compared(queries, keys, query_boxes, key_boxes, threshold)
    logits = cosines / temperature
    # a finite floor: rows of -inf would turn gradients into NaN
    own = logits.masked_fill(~positive, torch.finfo(logits.dtype).min).logsumexp(2)
    paired = positive.any(2)  # (n, hw)
    losses = (logits.logsumexp(2) - own).where(paired, 0.0)
    return losses.sum() / paired.sum().clamp(min=1)


def _compared(
    queries: Tensor, keys: Tensor, query_boxes: Tensor, key_boxes: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """Cosine of every location of one view with every location of the other, and which are positive: (n, hw, h2w2) each."""
    first, second = _unit_locations("queries", queries), _unit_locations("keys", keys.detach())
    if first.shape[:2] != second.shape[:2]:
        came = f"{tuple(queries.shape)} and {tuple(keys.shape)}"
        raise ValueError(f"queries and keys must have the same n and d, got {came}")
    for name, boxes in (("query_boxes", query_boxes), ("key_boxes", key_boxes)):
        if boxes.shape != (len(queries), 4):
            raise ValueError(f"{name} must be x0, y0, x1, y1 an image, {(len(queries), 4)}, got {tuple(boxes.shape)}")
    size, other = (queries.shape[2], queries.shape[3]), (keys.shape[2], keys.shape[3])
    with torch.autocast(queries.device.type, enabled=False):
        return first.mT @ second, pixel_positives(query_boxes, key_boxes, size, other, threshold=threshold)


def _unit_locations(name: str, maps: Tensor) -> Tensor:
    """The locations of maps (n, d, h, w) as unit vectors (n, d, hw), in float32 or float64."""
    if maps.ndim != 4 or maps.numel() == 0 or not maps.is_floating_point():
        raise ValueError(f"{name} must be floating-point maps (n, d, h, w), got {maps.dtype} {tuple(maps.shape)}")
    return normalize(maps.flatten(2) if maps.dtype == torch.float64 else maps.flatten(2).float(), dim=1)


def _cell_diagonal(name: str, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Diagonal of a cell of each image's map: (n,)."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name} must have shape (n, 4), got {tuple(boxes.shape)}")
    extent = (boxes[:, 2:] - boxes[:, :2]).abs().float()  # (n, 2) width and height
    sound = ((extent > 0) & extent.isfinite()).all(1)
    if not bool(sound.all()):
        index = int((~sound).nonzero()[0])
        came = [round(value, 4) for value in boxes[index].tolist()]
        raise ValueError(f"{name}: degenerate crop rectangle at index {index}: x0, y0, x1, y1 are {came}")
    return (extent / extent.new_tensor((size[1], size[0]))).norm(dim=1)
