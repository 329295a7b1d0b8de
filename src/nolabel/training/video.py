"""What every system that learns from videos shares: reading, clips to learn from, the encoder, means over clips."""

import copy
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nolabel.training.batches import Rows
from nolabel.training.learner import Learner
from nolabel.views.clips import clip_floats, play

#: Side of the frames where the user names none.
SIDE = 48
#: Videos of a batch that is only encoded; clips of them that go through the network at once.
ENCODED, AT_ONCE = 32, 64
#: Clips of a video whose vectors `transform` averages.
CLIPS = 5


class ClipNet(nn.Module):
    """A network that may hold convolutions over two and over three dimensions.

    ``to(memory_format=torch.channels_last)``, which PyTorch refuses for weights of three dimensions, puts the channels of each
    last in its own way.
    """

    def to(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("memory_format") is torch.channels_last:
            del kwargs["memory_format"]
            forms = {4: torch.channels_last, 5: torch.channels_last_3d}
            self._apply(lambda t: t.contiguous(memory_format=forms.get(t.ndim, torch.preserve_format)))
        return super().to(*args, **kwargs) if args or kwargs else self


def video_table(data: Any, columns: dict[str, str] | None) -> Any:
    """What `nolabel.data.read` makes of videos; and one video (t, h, w, 3), a .gif, or folders of frames, read as such."""
    from nolabel.data import read

    if getattr(data, "ndim", 0) == 4:
        data = [data]
    path = str(data) if isinstance(data, str | os.PathLike) else ""
    if path.lower().endswith(".gif") and os.path.isfile(path):
        return read({"video": [os.path.abspath(path)], "path": [path]})
    table = read(data, columns=columns)
    if "video" in table.column_names or "image" not in table.column_names or not os.path.isdir(path):
        return table
    if "folder" in table.column_names:  # each folder is a video
        return table.rename_column("folder", "video")
    return table.add_column("video", [os.path.basename(os.path.abspath(path))] * len(table))


class VideoLearner(Learner):
    """A `Learner` for videos. `build` makes a `ClipNet`, whose ``encoder`` is a `nolabel.encoders.video.VideoEncoder`.

    What `fit` learns from are clips: a row of its source is a place in a video where one could be cut, and `plan` draws where
    it is cut. What `transform` takes are videos: the mean of the vectors of several clips, evenly spread.

    A subclass has among its constructor arguments

    * ``encoder``: ``small3d``, ``r3d18``, ``r2plus1d18``, with ``-x0.5`` and the like for the width, or an ``nn.Module``
    * ``clip_frames``: frames that the network sees of a clip
    * ``image_size``: side of the square frames; ``None``: 48
    * ``short``: what to do with videos that are too short: ``skip``, ``loop`` or ``error``
    """

    columns = ("video",)
    encoder: str | nn.Module
    clip_frames: int
    image_size: int | None
    short: str
    recipe = {"optimiser": "adamw", "lr": 1e-3, "weight_decay": 1e-4, "batch_size": 32, "epochs": 60}  # noqa: RUF012

    #: Clips that `plan` draws from a video at once.
    drawn: int = 1

    @property
    def side(self) -> int:
        """Side of the frames in pixels."""
        return SIDE if self.image_size is None else self.image_size

    @property
    def window(self) -> int:
        """Frames, as they were recorded, that a clip to learn from is cut out of."""
        return self.clip_frames

    def _check(self) -> None:
        """The arguments that all systems for videos have."""
        if isinstance(self.clip_frames, bool) or not isinstance(self.clip_frames, int) or self.clip_frames < 2:
            raise ValueError(f"clip_frames must be a whole number of at least 2, got {self.clip_frames!r}")
        if isinstance(self.side, bool) or not isinstance(self.side, int) or self.side < 16:
            raise ValueError(f"image_size must be a whole number of at least 16, got {self.side!r}")

    # What comes in --------------------------------------------------------------------------------------------------

    def open_videos(self, data: Any, columns: dict[str, str] | None, *, frames: int, clips: int = 1) -> Any:
        """The videos of anything `fit` takes, as a source of clips of `frames` frames."""
        from nolabel.data import open_videos

        self._check()
        table = video_table(data, columns)
        return open_videos(table, size=self.side, frames=frames, clips=clips, short=self.short)

    def open(self, data: Any, columns: dict[str, str] | None) -> Any:
        """The clips to learn from."""
        from nolabel.data import ClipSource

        self._check()
        return ClipSource(self.open_videos(data, columns, frames=self.window))

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        """The videos, with some clips of each."""
        return self.open_videos(data, columns, frames=self.clip_frames, clips=CLIPS)

    def plan(self, source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        """Every place once, in random order, with clips drawn from anywhere in its video; an incomplete batch is left out."""
        drawn = source.draw(rng, self.drawn)[rng.permutation(len(source))]
        return [drawn[i : i + batch_size] for i in range(0, len(drawn) - batch_size + 1, batch_size)]

    def encode_plan(self, source: Any) -> list[np.ndarray]:
        return [np.arange(i, min(i + ENCODED, len(source))) for i in range(0, len(source), ENCODED)]

    # What goes out --------------------------------------------------------------------------------------------------

    def make_encoder(self) -> Any:
        """The encoder that the arguments name; a fit leaves its arguments alone."""
        from nolabel.encoders.video import build_video

        return build_video(copy.deepcopy(self.encoder))

    def encode(self, net: nn.Module, batch: dict[str, Any], *, speed: int = 1) -> Tensor:
        """The mean over the clips of each video of a batch: (b, dim). Clips play from their first frame, at `speed`."""
        return self.clip_vectors(net, batch["video"], speed).mean(dim=1)

    def clip_vectors(self, net: nn.Module, video: Tensor, speed: int = 1) -> Tensor:
        """Vectors (b, c, dim) of recorded clips (b, c, t, 3, h, w), of which the network sees `clip_frames` frames."""
        encoder: Any = net.encoder
        clips = play(video.flatten(0, 1), speed, self.clip_frames)
        vectors = torch.cat([encoder(clip_floats(part)).float() for part in clips.split(AT_ONCE)])
        return vectors.view(*video.shape[:2], -1)

    def judge(
        self, net: nn.Module, batch: dict[str, Any], generator: torch.Generator
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """The vectors of a clip of each video and of another clip of it."""
        first, second = self.clip_vectors(net, batch["video"]).unbind(1)
        return {"representation": (first, second)}
