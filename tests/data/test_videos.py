"""Videos of every kind as one source of clips: the right frames, decoded once, and every bad video skipped with its reason."""

import json
import os
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from nolabel.data import ClipSource, modality, open_videos, read
from nolabel.data.video_cache import Decoded
from nolabel.data.video_decoding import UnreadableVideo, decode_video, natural


def write_video(path, frames, *, rate=10, codec="ffv1", audio=False):
    """Frames (t, h, w, 3) as a file; ffv1 in .mkv loses nothing that the test looks at."""
    with av.open(str(path), "w") as container:
        if audio:
            sound = container.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(sound.encode(frame))
            container.mux(sound.encode())
            return path
        stream = container.add_stream(codec, rate=Fraction(rate))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = {"ffv1": "bgr0", "gif": "rgb8"}.get(codec, "yuv420p")
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def counting(frames, side=16, first=0):
    """Frame i is evenly grey, of value first + i."""
    values = np.arange(first, first + frames, dtype=np.uint8)
    return np.ascontiguousarray(np.broadcast_to(values[:, None, None, None], (frames, side, side, 3)))


def greys(batch):
    """The grey of each frame of a batch: (b, clips, frames)."""
    return batch["video"][:, :, :, 0, 0, 0].tolist()


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "videos"
    place.mkdir()
    write_video(place / "b.mkv", counting(12))
    write_video(place / "a.mkv", counting(20, first=100), rate=5)
    return place


def test_a_folder_of_files_is_a_table_of_videos(folder):
    (folder / "sub").mkdir()
    os.rename(folder / "b.mkv", folder / "sub" / "b.mkv")
    (folder / "notes.txt").write_text("not a video")
    table = read(folder)
    assert modality(folder) == "video"
    assert table["path"][:] == ["a.mkv", "sub/b.mkv"]
    assert table["folder"][:] == ["", "sub"]
    assert table["video"][0] == str((folder / "a.mkv").resolve())
    one = read(folder / "a.mkv")
    assert (one.column_names, len(one)) == (["video", "path"], 1)
    assert read([folder / "a.mkv"]).column_names == ["video", "path"]
    assert read([str(folder / "a.mkv")])["path"][:] == [str(folder / "a.mkv")]


def test_files_give_their_frames_in_order(folder):
    videos = open_videos(read(folder), size=16, frames=4, clips=2)
    assert videos.lengths.tolist() == [20, 12]
    assert videos.seconds.tolist() == [4.0, 1.2]
    # starts at a quarter and three quarters of the 16 (8) frames at which a clip can begin
    assert greys(videos.batch([0, 1])) == [[[104, 105, 106, 107], [112, 113, 114, 115]], [[2, 3, 4, 5], [6, 7, 8, 9]]]
    assert videos.images([1])[0, 0, 0].tolist() == [6, 6, 6]
    assert videos.strip(1, 3)[:, 0, 0, 0].tolist() == [2, 6, 10]
    assert videos.batch([1])["row"].tolist() == [1]


def test_every_kind_of_source_gives_the_same_frames(tmp_path, folder):
    frames = [counting(20, first=100), counting(12)]
    for name, video in zip("ab", frames):
        (tmp_path / "frames" / name).mkdir(parents=True)
        for number, pixels in enumerate(video):
            Image.fromarray(pixels).save(tmp_path / "frames" / name / f"{number}.png")  # 10.png comes after 9.png
    place = tmp_path / "frames"
    arrays = open_videos(read(frames), size=16, frames=4)
    paths = open_videos(read({"video": [str(place / "a"), str(place / "b")]}), size=16, frames=4)
    images = open_videos(read(place, columns={"video": "folder"}), size=16, frames=4)
    files = open_videos(read(folder), size=16, frames=4)
    stacked = open_videos(read(np.stack([counting(12), counting(12, first=50)])), size=16, frames=4)
    for videos in (arrays, paths, images):
        assert videos.lengths.tolist() == [20, 12]
        assert np.isnan(videos.seconds).all()
        assert torch.equal(videos.batch([0, 1])["video"], files.batch([0, 1])["video"])
    assert greys(stacked.batch([1])) == [[[54, 55, 56, 57]]]
    assert arrays.names == ["0", "1"]
    assert images.names == ["a", "b"]


def test_a_row_a_frame_is_ordered_by_frame():
    order = np.random.default_rng(0).permutation(30)
    table = read(
        {
            "image": np.concatenate([counting(20, 8, first=100), counting(10, 8)])[order],
            "video": np.array(["long"] * 20 + ["brief"] * 10)[order].tolist(),
            "frame": np.concatenate([np.arange(20), np.arange(10)])[order],
        }
    )
    videos = open_videos(table, size=8, frames=3)
    long = videos.names.index("long")
    assert greys(videos.batch([long])) == [[[108, 109, 110]]]
    row = int(videos.rows[long])  # the middle frame stands for the video
    assert (table[row]["video"], table[row]["frame"]) == ("long", 10)
    assert np.array_equal(videos.images([long])[0], np.asarray(table[row]["image"]))


def test_moving_gifs_are_videos_and_still_ones_images(tmp_path):
    moving, still = tmp_path / "moving", tmp_path / "still"
    for place in (moving, still):
        place.mkdir()
    write_video(moving / "a.gif", counting(6), codec="gif")
    Image.fromarray(counting(1)[0]).save(still / "a.gif")
    timeless = [Image.fromarray(frame) for frame in counting(9)]
    timeless[0].save(moving / "b.gif", save_all=True, append_images=timeless[1:])
    assert read(moving).column_names == ["video", "path"]
    videos = open_videos(read(moving), size=16, frames=3)
    assert videos.lengths.tolist() == [6, 9]
    assert videos.seconds[0] == pytest.approx(0.6)
    assert np.isnan(videos.seconds[1])
    assert greys(videos.batch([1])) == [[[3, 4, 5]]]
    assert read(still).column_names == ["image", "path"]


def test_videos_beside_images(tmp_path, folder):
    Image.fromarray(counting(1)[0]).save(folder / "cover.png")
    with pytest.warns(UserWarning, match="holds videos and images: took its 2 videos"):
        assert read(folder).column_names == ["video", "path"]
    for number in range(3):
        Image.fromarray(counting(1)[0]).save(folder / f"{number}.png")
    assert read(folder).column_names == ["image", "path"]


def test_a_table_file_names_videos_beside_it(folder):
    (folder / "list.csv").write_text("video,label\na.mkv,x\nb.mkv,y\n")
    assert open_videos(read(folder / "list.csv"), size=16).lengths.tolist() == [20, 12]


def test_bad_videos_are_skipped_counted_and_listed(folder):
    whole = (folder / "a.mkv").read_bytes()
    (folder / "c.mkv").write_bytes(whole[:90])
    (folder / "d.mp4").write_text("only text")
    (folder / "e.avi").write_bytes(b"")
    write_video(folder / "f.mkv", None, audio=True)
    write_video(folder / "g.mkv", counting(3))
    with pytest.warns(UserWarning, match=r"5 of 7 videos were skipped, first .*c.mkv: damaged"):
        videos = open_videos(read(folder), size=16, frames=8)
    assert videos.rows.tolist() == [0, 1]
    reasons = {os.path.basename(skip.path): skip.reason for skip in videos.skipped}
    assert reasons["e.avi"] == "empty file"
    assert reasons["f.mkv"] == "no pictures in it, only audio"
    assert reasons["g.mkv"] == "3 frames, fewer than 8"
    assert [skip.row for skip in videos.skipped] == [2, 3, 4, 5, 6]


def test_short_videos(folder):
    with pytest.raises(ValueError, match=r"video 1 \(.*b.mkv\) has 12 frames, a clip needs 16: .*short='loop'"):
        open_videos(read(folder), size=16, frames=16, short="error")
    looped = open_videos(read(folder), size=16, frames=16, short="loop")
    assert greys(looped.batch([1])) == [[[*range(12), 0, 1, 2, 3]]]
    with (
        pytest.raises(ValueError, match="none of 2 videos can be used: .*20 frames, fewer than 30"),
    ):
        open_videos(read(folder), size=16, frames=30)


def test_frames_of_different_sizes_are_no_video(tmp_path):
    for number, side in enumerate((16, 16, 20)):
        Image.fromarray(counting(1, side)[0]).save(tmp_path / f"{number}.png")
    with pytest.raises(ValueError, match="frames of different sizes: 16 x 16 and, from frame 2, 20 x 20"):
        open_videos(read({"video": [str(tmp_path)]}), size=16)


def test_a_damaged_frame_is_named(tmp_path):
    Image.fromarray(counting(1)[0]).save(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(UnreadableVideo, match="frame 1: empty file"):
        decode_video(str(tmp_path), 16, lambda frame: None)
    with pytest.raises(UnreadableVideo, match="no such file"):
        decode_video(str(tmp_path / "none.mp4"), 16, lambda frame: None)


@pytest.mark.parametrize(
    ("videos", "error", "message"),
    [
        ([np.full((4, 8, 8, 3), 200.0)], ValueError, r"video 0: expected floats in \[0, 1\], got 200"),
        ([np.zeros((4, 8, 8, 1), np.uint8)], ValueError, r"video 0: expected frames \(t, h, w, 3\)"),
        ([np.zeros((0, 8, 8, 3), np.uint8)], ValueError, r"video 0: expected frames \(t, h, w, 3\)"),
        ({"video": [1, 2]}, TypeError, "got numbers and no column 'image'"),
        ({"video": ["a.mp4", None]}, ValueError, "no value in row 1"),
        ({"video": ["a", "b"], "image": [1, 2]}, TypeError, "expected the frames as images"),
        ({"clip": ["a.mp4"]}, ValueError, r"no column 'video'; the columns are clip"),
    ],
)
def test_bad_sources(videos, error, message):
    with pytest.raises(error, match=message):
        open_videos(read(videos), size=8)


@pytest.mark.parametrize(
    "arguments", [{"size": 4}, {"size": 16.5}, {"frames": 0}, {"clips": 0}, {"short": "cut"}, {"frames": True}]
)
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        open_videos(read([counting(4)]), **{"size": 16, **arguments})


def test_arrays_of_several_sizes_and_floats():
    videos = open_videos(read([counting(4, 8), counting(4, 12) / np.float32(255)]), size=8)
    assert greys(videos.batch([0, 1])) == [[[2]], [[2]]]


def test_decoded_once(folder, tmp_path, monkeypatch):
    first = open_videos(read(folder), size=16, folder=tmp_path / "cache")

    def refuse(*args):
        raise AssertionError("decoded twice")

    monkeypatch.setattr("nolabel.data.video_cache.decode_video", refuse)
    again = open_videos(read(folder), size=16, folder=tmp_path / "cache")
    assert again.fingerprint == first.fingerprint
    assert torch.equal(again.batch([0])["video"], first.batch([0])["video"])
    os.utime(folder / "a.mkv", ns=(1, 1))  # another file
    with pytest.raises(AssertionError, match="decoded twice"):
        open_videos(read(folder), size=16, folder=tmp_path / "cache")


def test_an_interrupted_decoding_goes_on(folder, tmp_path, monkeypatch):
    write_video(folder / "c.mkv", counting(8, first=200))
    whole = open_videos(read(folder), size=16, frames=4, folder=tmp_path / "whole")
    seen = []

    def interrupted(video, size, keep):
        seen.append(os.path.basename(video))
        if video.endswith("b.mkv") and seen.count("b.mkv") == 1:
            decode_video(video, size, keep)  # its frames are on the disk already
            raise KeyboardInterrupt
        return decode_video(video, size, keep)

    monkeypatch.setattr("nolabel.data.video_cache.decode_video", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_videos(read(folder), size=16, folder=tmp_path / "cut")
    cut = open_videos(read(folder), size=16, frames=4, folder=tmp_path / "cut")
    assert seen == ["a.mkv", "b.mkv", "b.mkv", "c.mkv"]
    assert torch.equal(cut.batch([0, 1, 2])["video"], whole.batch([0, 1, 2])["video"])


def test_a_failing_video_leaves_no_frames(folder, tmp_path, monkeypatch):
    def failing(video, size, keep):
        rate = decode_video(video, size, keep)
        if video.endswith("a.mkv"):
            raise UnreadableVideo("damaged at its end")
        return rate

    monkeypatch.setattr("nolabel.data.video_cache.decode_video", failing)
    with pytest.warns(UserWarning, match="1 of 2 videos were skipped, first .*damaged at its end"):
        videos = open_videos(read(folder), size=16, frames=4)
    assert greys(videos.batch([0])) == [[[4, 5, 6, 7]]]


def test_damaged_caches_are_made_again(folder, tmp_path):
    first = open_videos(read(folder), size=16, folder=tmp_path / "cache")
    (state,) = (tmp_path / "cache").rglob("cache.json")
    for damage in ("{", json.dumps({**json.loads(state.read_text()), "lengths": [3]})):
        state.write_text(damage)
        again = open_videos(read(folder), size=16, folder=tmp_path / "cache")
        assert torch.equal(again.batch([0])["video"], first.batch([0])["video"])


def test_a_large_cache_is_read_from_the_disk(folder, monkeypatch):
    small = open_videos(read(folder), size=16, frames=4, clips=2).batch([0, 1])["video"]
    monkeypatch.setattr("nolabel.data.image_cache.IN_MEMORY", 0)
    assert torch.equal(open_videos(read(folder), size=16, frames=4, clips=2).batch([0, 1])["video"], small)


def test_a_full_disk_is_said(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(OSError, match="NOLABEL_CACHE"):
        open_videos(read(folder), size=16, folder=tmp_path / "full")


def test_state_survives_json():
    decoded = Decoded(2, [3], [None], [1], [])
    assert Decoded.from_json(decoded.as_json()) == decoded


def test_a_camera_held_on_its_side(tmp_path):
    """A recorder notes a quarter turn clockwise in the track's header: what is left in the pixels is shown at the top."""
    frames = np.zeros((4, 16, 16, 3), np.uint8)
    frames[:, :, :8] = 240
    path = write_video(tmp_path / "a.mp4", frames, codec="mpeg4")
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 16 << 16, 0, 1 << 30)
    path.write_bytes(data)
    shown = open_videos(read(path), size=16).images([0])[0]
    assert shown[:7].mean() > 200
    assert shown[9:].mean() < 40


def test_natural_order():
    assert sorted(["a10", "a9", "b1", "a"], key=natural) == ["a", "a9", "a10", "b1"]


def test_clips_side_by_side():
    videos = open_videos(
        read([counting(20), counting(5, first=100), counting(8, first=200)]), size=16, frames=6, short="loop"
    )
    clips = ClipSource(videos)
    assert clips.number.tolist() == [0, 0, 0, 1, 2]
    batch = clips.batch([2, 3])
    # the third place of 20 frames, and half of the 15 beginnings further on, round the end
    assert greys(batch) == [
        [[12, 13, 14, 15, 16, 17], [4, 5, 6, 7, 8, 9]],
        [[100, 101, 102, 103, 104, 100], [100, 101, 102, 103, 104, 100]],
    ]
    assert batch["number"].tolist() == [0, 1]


def test_drawn_clips():
    videos = open_videos(read([counting(20), counting(8, first=200)]), size=16, frames=6)
    clips = ClipSource(videos)
    drawn = clips.draw(np.random.default_rng(0), 2)
    again = clips.draw(np.random.default_rng(0), 2)
    assert np.array_equal(drawn, again)
    many = np.concatenate([clips.draw(np.random.default_rng(seed), 2) for seed in range(200)])
    assert set(many[many[:, 0] < 3, 1:].ravel()) == set(range(15))  # every beginning, the last among them
    assert set(many[many[:, 0] == 3, 1:].ravel()) == {0, 1, 2}
    batch = clips.batch(np.array([[3, 2, 0], [0, 14, 1]]))
    assert greys(batch) == [
        [[202, 203, 204, 205, 206, 207], [200, 201, 202, 203, 204, 205]],
        [[14, 15, 16, 17, 18, 19], [1, 2, 3, 4, 5, 6]],
    ]
