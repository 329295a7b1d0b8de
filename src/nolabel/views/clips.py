"""Views of video clips: the speed at which one plays, and one random view for all frames of a clip.

A clip is augmented as a whole. Crop, flip, turn and shift are drawn once a clip, and so are the colours, whose contrast turns
about the mean of the clip and not of each frame: a view that flickered would tell at what speed its frames were taken.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from nolabel.views.augment import Augment, rows_of
from nolabel.views.blur import blur_rows
from nolabel.views.colour import ColourFactors, invert_bright, mix
from nolabel.views.crop import two_sides

#: Values of frames that are painted at once on a CPU.
AT_ONCE = 2**20


def check_clips(clips: Tensor) -> None:
    """Raise unless `clips` is uint8 or floating (n, t, 3, h, w)."""
    if not isinstance(clips, Tensor):
        raise TypeError(f"clips must be a torch.Tensor (n, t, 3, h, w), got {type(clips).__name__}")
    if clips.ndim != 5 or clips.shape[2] != 3 or clips.numel() == 0:
        raise ValueError(f"clips must be (n, t, 3, h, w), got shape {tuple(clips.shape)}")
    if clips.dtype != torch.uint8 and not clips.is_floating_point():
        raise TypeError(f"clips must be uint8 or floating in [0, 1], got {clips.dtype}")


def clip_floats(clips: Tensor) -> Float[Tensor, "n 3 t h w"]:
    """Clips (n, t, 3, h, w), uint8 or floating in [0, 1], as 3-D networks take them: float32 (n, 3, t, h, w) in [0, 1].

    >>> clip_floats(torch.full((1, 2, 3, 4, 4), 255, dtype=torch.uint8)).shape
    torch.Size([1, 3, 2, 4, 4])
    """
    check_clips(clips)
    turned = clips.transpose(1, 2).contiguous()
    return turned.float() / 255 if clips.dtype == torch.uint8 else turned.float()


def play(clips: Tensor, speed: int | Int64[Tensor, " n"], frames: int) -> Tensor:
    """The first frames of clips at a speed: frames 0, s, 2s, ... of each.

    Parameters
    ----------
    clips : (n, t, ...), frames as they were recorded
    speed : s, a whole number of at least 1 for all clips, or one a clip (n,)
    frames : how many are taken

    Returns
    -------
    (n, frames, ...)

    Raises
    ------
    ValueError
        A speed below 1, or clips that are too short.

    >>> play(torch.arange(6).view(1, 6), 2, 3).tolist()
    [[0, 2, 4]]
    """
    speeds = torch.as_tensor(speed, device=clips.device)
    if speeds.is_floating_point() or speeds.shape not in ((), clips.shape[:1]) or not bool((speeds >= 1).all()):
        raise ValueError(f"speed must be a whole number of at least 1, or one a clip, got {speed}")
    needed = (frames - 1) * int(speeds.max()) + 1
    if frames < 1 or needed > clips.shape[1]:
        raise ValueError(f"{frames} frames at speed {int(speeds.max())} need {needed} frames, got {clips.shape[1]}")
    steps = torch.arange(frames, device=clips.device)
    if not speeds.ndim:
        return clips[:, steps * speeds]
    return clips[torch.arange(len(clips), device=clips.device)[:, None], steps * speeds[:, None]]


def half(n: int, *, generator: torch.Generator, device: torch.device) -> Bool[Tensor, " n"]:
    """A random half of n samples; of an odd number one more is left out.

    >>> int(half(5, generator=torch.Generator(), device=torch.device("cpu")).sum())
    2
    """
    order = torch.randperm(n, generator=generator, device=generator.device)
    return (order < n // 2).to(device)


def speed_views(
    first: Tensor, second: Tensor, fast: Bool[Tensor, " n"], speed: int, frames: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key at the same speed, key at the other (Chen et al., RSPNet, AAAI 2021, arXiv:2011.07949).

    Parameters
    ----------
    first, second : (n, t, ...), two clips of each video as they were recorded
    fast : (n,), whose query plays at `speed`; the others' play at 1
    speed : a whole number of at least 1; frames : of each view

    Returns
    -------
    three times (n, frames, ...): the query of the first clip, both keys of the second

    >>> clip = torch.arange(4).view(1, 4)
    >>> [view.tolist() for view in speed_views(clip, 10 + clip, torch.tensor([True]), 2, 2)]
    [[[0, 2]], [[10, 12]], [[10, 11]]]
    """
    own, other = torch.where(fast, speed, 1), torch.where(fast, 1, speed)
    return play(first, own, frames), play(second, own, frames), play(second, other, frames)


def clip_augment(clips: Tensor, augment: Augment, generator: torch.Generator) -> Float[Tensor, "n 3 t size size"]:
    """One random view of each clip, the same for all its frames.

    Parameters
    ----------
    clips : (n, t, 3, h, w), uint8 or floating in [0, 1]
    augment : the recipe; all of it but `style`
    generator : where everything random is drawn

    Returns
    -------
    float32 (n, 3, t, size, size) in [0, 1], as 3-D networks take it

    Raises
    ------
    ValueError, TypeError
        Clips of another shape or type; a recipe with `style`.

    >>> clips = torch.randint(0, 256, (2, 4, 3, 16, 16), dtype=torch.uint8)
    >>> clip_augment(clips, Augment(size=8), torch.Generator()).shape
    torch.Size([2, 3, 4, 8, 8])
    """
    check_clips(clips)
    if augment.style is not None:
        raise ValueError(f"augment must not have a style for clips, got style={augment.style!r}")
    n, t, c, height, width = clips.shape
    size = (height, width) if augment.size is None else two_sides("size", augment.size)
    plan = augment.draw(n, height, width, generator=generator, device=clips.device)
    views = torch.empty((n, c, t, *size), device=clips.device)
    values = n * t * c * max(height * width, size[0] * size[1])
    slices = min(n, -(-values // AT_ONCE)) if clips.device.type == "cpu" else 1
    for part in range(slices):
        some = slice(part * n // slices, (part + 1) * n // slices)
        floats, drawn = clip_floats(clips[some]), rows_of(plan, some)
        # an image of 3 t channels is placed as one of 3: all frames by the same grid
        placed = augment.place(floats.flatten(1, 2), size, drawn)
        tall = placed.reshape(len(placed), c, t * size[0], size[1])  # the frames below each other
        tall = mix(tall, ColourFactors(drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue))
        if augment.blur_p:
            planes = tall.view(-1, c * t, *size)
            tall = blur_rows(planes, drawn.blurred, drawn.sigma).clamp(0, 1).reshape(tall.shape)
        if augment.solarise_p:
            tall = invert_bright(tall, 0.5, drawn.solarised)
        views[some] = tall.view(-1, c, t, *size)
    return views
