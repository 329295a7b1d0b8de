"""How long a person waits for the explorer: 100,000 points drawn in Chromium, answers of a search, frames while panning.

python -m benchmarks.speed explorer [--quick]; needs Debian's chromium. The full run takes about 7 minutes on two cores.

A run of 100,000 vectors of 128 numbers in 40 groups, each with a small picture, is served by `nolabel explore` in a process of
its own. *First picture* is the time from starting that process until an open browser has drawn all points by main components
(software WebGL; files of the packages in memory, the map not made before). *Search* asks over HTTP for the 50 nearest of an item,
near-duplicates folded and all columns in the answer; then again after 200 items were marked one by one. Frames are counted while
the map is dragged for three seconds.
"""

import io
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image

from benchmarks.speed.harness import Line, Options, circumstances, line, scratch, spread
from nolabel.search import Index

TITLE = "The explorer"
ROWS, WIDTH, GROUPS = 100_000, 128, 40
FLAGS = [
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--no-sandbox"),
]
GOALS = {"first picture": 3.0, "search": 0.1, "search after 200 marks": 0.1}
FRAMES = """async () => {
  let frames = 0, going = true;
  const count = () => { frames += 1; if (going) requestAnimationFrame(count); };
  requestAnimationFrame(count);
  await new Promise((done) => setTimeout(done, 3000));
  going = false;
  return frames / 3;
}"""


def make_run(folder: Path, rows: int) -> None:
    """An index of grouped vectors with thumbnails, as `nolabel learn` leaves one."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(GROUPS, WIDTH)).astype(np.float32)
    colours = rng.integers(0, 256, (GROUPS, 3))
    index = Index.create(folder, WIDTH)

    def pieces() -> Iterator[dict[str, Any]]:
        for start in range(0, rows, 5000):
            group = rng.integers(0, GROUPS, min(5000, rows - start))
            vectors = centres[group] + rng.normal(size=(len(group), WIDTH)).astype(np.float32)
            payload = {
                "path": [f"group {g:02d}/{start + at:06d}.jpg" for at, g in enumerate(group)],
                "folder": [f"group {g:02d}" for g in group],
                "thumbnail": [picture(colours[g], rng) for g in group],
            }
            yield {"vectors": vectors, "payload": payload}

    index.add(pieces())
    index.search(centres[0])  # builds what searching needs, as a run that was searched once has it


def picture(colour: np.ndarray, rng: np.random.Generator) -> bytes:
    pixels = np.clip(colour + rng.integers(-40, 41, (24, 24, 3)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=70)
    return buffer.getvalue()


@contextmanager
def explored(run: Path) -> Iterator[tuple[str, float]]:
    """The address of a served run, and when its process was started."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "nolabel.cli", "explore", str(run), "--no-browser", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["address"], begun
    finally:
        process.terminate()
        process.wait()


def call(address: str, path: str, body: Any) -> tuple[Any, float]:
    begun = time.perf_counter()
    request = Request(address + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request) as answer:
        found = json.load(answer)
    return found, time.perf_counter() - begun


def first_picture(page: Any, run: Path) -> float:
    shutil.rmtree(run / "explorer", ignore_errors=True)
    page.goto("about:blank")
    with explored(run) as (address, begun):
        page.goto(address)
        page.wait_for_selector("[data-testid=map-canvas][data-drawn]", timeout=120_000)
        return time.perf_counter() - begun


def searches(address: str, rows: int, count: int) -> list[float]:
    found = []
    for item in np.random.default_rng(1).integers(0, rows, count).tolist():
        answer, seconds = call(address, "api/search", {"item": item, "mode": "dense", "k": 50})
        assert answer["hits"][0]["id"] == item or answer["folded"]
        found.append(seconds)
    return found


def panned(page: Any) -> float:
    """Frames a second while the map is dragged."""
    box = page.get_by_test_id("map-canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.evaluate(f"window.counted = ({FRAMES})()")
    page.mouse.move(x, y)
    page.mouse.down()
    begun = time.perf_counter()
    while time.perf_counter() - begun < 2.8:
        at = 10 * (time.perf_counter() - begun)
        page.mouse.move(x + 150 * np.sin(at), y + 100 * np.cos(at))
    page.mouse.up()
    frames: float = page.evaluate("window.counted")
    return frames


def run(options: Options) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    rows, rounds = (5000, 1) if options.quick else (ROWS, 5)
    found = circumstances("lancedb", "faiss-cpu", "fastapi", "playwright")
    with scratch() as folder, sync_playwright() as playwright:
        place = Path(folder) / "run"
        make_run(place, rows)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        first_picture(page, place)  # compiles what is not compiled yet
        pictures = [first_picture(page, place) for _ in range(rounds)]
        with explored(place) as (address, _):
            page.goto(address)
            page.wait_for_selector("[data-testid=map-canvas][data-drawn]", timeout=120_000)
            frames = [panned(page) for _ in range(rounds)]
        browser.close()
        with explored(place) as (address, _):
            searches(address, rows, 5)
            seconds = searches(address, rows, 100)
            for item in range(200):
                call(address, "api/marks", {"ids": [item * 7], "mark": "keep", "session": "bench"})
            after = searches(address, rows, 100)
    times = {"first picture": spread(pictures), "search": spread(seconds), "search after 200 marks": spread(after)}
    return {
        "name": "explorer",
        **found,
        "rows": rows,
        "seconds": times,
        "frames": spread(frames),
        "searches": {"mean": statistics.fmean(seconds)},
    }


def lines(result: dict[str, Any]) -> list[Line]:
    n = f"{result['rows']:,}"
    named = {
        "first picture": f"from the start of `nolabel explore` to {n} points drawn",
        "search": f"the 50 nearest of {n}, over HTTP",
        "search after 200 marks": "the same after 200 items were marked",
    }
    told = [
        line(named[what], "", times, unit="s", goal=GOALS[what], at_least=False)
        for what, times in result["seconds"].items()
    ]
    return [
        *told,
        line(f"frames a second while {n} points are dragged, software WebGL", "", result["frames"], unit="a second"),
    ]
