"""Videos from the command line: learned, searched by a video, embedded."""

import json
from fractions import Fraction

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.commands import run

from nolabel.cli.app import main
from nolabel.search import Index


def running(seed, frames=20, side=24):
    """A bright square runs over noise that stands still."""
    rng = np.random.default_rng(seed)
    video = np.repeat(rng.integers(0, 150, (1, side, side, 3), dtype=np.uint8), frames, axis=0)
    start = rng.integers(side)
    for t in range(frames):
        video[t, 6:14, (start + t) % (side - 6) :][:, :6] = 240
    return video


def write(path, frames):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


SMALL = ["--set", "clip_frames=4", "--set", "queue_size=16", "--size", "16", "--epochs", "1", "--batch-size", "8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("clips")
    for number in range(8):
        write(place / f"{number}.mp4", running(number))
    (place / "broken.mp4").write_bytes(b"nothing")
    return place


@pytest.fixture(scope="module")
def learned(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "clips"
    with pytest.raises(SystemExit) as stop:
        main(["learn", str(folder), "--out", str(out), "--json", *SMALL])
    assert stop.value.code == 0
    return out


def test_a_run_has_a_row_a_video(learned, folder):
    assert (learned / "report.html").is_file()
    assert json.loads((learned / "config.json").read_text())["class"].endswith("RSPNet")  # chosen by the data
    index = Index.open(learned)
    assert len(index) == 8
    row = index.rows([3]).to_pylist()[0]
    assert row["path"] == "3.mp4"
    assert (row["frames"], row["seconds"]) == (20, 2.0)
    assert row["thumbnail"].startswith(b"\xff\xd8")
    page = (learned / "report.html").read_text()
    assert "8 videos, 160 frames" in page
    assert "broken.mp4" in page


def test_search_by_a_video(learned, folder, capsys, tmp_path):
    picture = tmp_path / "found.png"
    code, out, err = run(capsys, "search", learned, folder / "5.mp4", "-k", "3", "--json", "--picture", picture)
    assert code == 0, err
    hits = json.loads(out)
    assert hits[0]["path"] == "5.mp4"
    assert hits[0]["score"] == pytest.approx(1, abs=1e-3)
    assert Image.open(picture).size == (5 * 96 + 16, 4 * 104 + 16)  # five frames a row: the query and what was found
    code, out, err = run(capsys, "search", learned, "id:5", "-k", "1", "--json")
    assert json.loads(out)[0]["path"] == "5.mp4"
    code, out, err = run(capsys, "search", learned, folder / "none.mp4")
    assert code == 2
    assert "no video file at" in err
    code, out, err = run(capsys, "search", learned, folder / "broken.mp4")
    assert code == 2
    assert "none of 1 videos can be decoded" in err


def test_embed(learned, folder, capsys, tmp_path):
    code, out, err = run(capsys, "embed", learned, folder, "--out", tmp_path / "z.parquet", "--json")
    assert code == 0, err
    assert json.loads(out)["skipped"] == 1
    table = pq.read_table(tmp_path / "z.parquet")
    assert table["path"].to_pylist() == [f"{number}.mp4" for number in range(8)]


def test_folders_of_frames_and_tables_of_frames(capsys, tmp_path):
    rows = []
    for number in range(6):
        (tmp_path / "frames" / f"v{number}").mkdir(parents=True)
        for at, frame in enumerate(running(number, frames=9)):
            Image.fromarray(frame).save(tmp_path / "frames" / f"v{number}" / f"{at}.png")
            rows.append({"image": f"v{number}/{at}.png", "video": f"v{number}", "frame": at})
    table = tmp_path / "frames" / "frames.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    small = ["--epochs", "1", "--batch-size", "4", *SMALL[:6]]
    code, out, err = run(
        capsys,
        "learn",
        tmp_path / "frames",
        "--method",
        "rspnet",
        "--column",
        "video=folder",
        "--out",
        tmp_path / "a",
        *small,
    )
    assert code == 0, err
    code, out, err = run(capsys, "learn", table, "--out", tmp_path / "b", "--json", *small)
    assert code == 0, err
    assert json.loads(out)["videos"] == 6
    vectors = [Index.open(tmp_path / name).rows(range(6)).to_pylist() for name in "ab"]
    np.testing.assert_allclose(*[[row["vector"] for row in rows] for rows in vectors], atol=1e-5)
    assert [row["video"] for row in vectors[1]] == [f"v{number}" for number in range(6)]
    code, out, err = run(capsys, "search", tmp_path / "a", tmp_path / "frames" / "v2", "-k", "1", "--json")
    assert json.loads(out)[0]["video"] == "v2", err
    code, out, err = run(capsys, "learn", tmp_path / "frames", "--method", "rspnet", "--out", tmp_path / "c", *small)
    assert code == 2
    assert "--column video=NAME" in err


def test_too_few_frames_is_one_line(folder, capsys, tmp_path):
    code, _, err = run(capsys, "learn", folder, "--out", tmp_path / "run", "--set", "clip_frames=32")
    assert code == 2
    assert "20 frames, fewer than 64" in err
    assert "Traceback" not in err
