"""Two small runs to look at: photos in folders whose names want to be markup, and texts."""

import shutil
import threading
import time

import numpy as np
import pytest
import uvicorn
from PIL import Image
from sklearn.datasets import load_digits
from starlette.testclient import TestClient

from nolabel.cli.app import main
from nolabel.explorer import OpenRun, create_app
from nolabel.explorer.serving import bound

ODD = "odd <script>alert(1)</script> & more".replace("/", "\N{DIVISION SLASH}")


def learned(source, folder, *options):
    with pytest.raises(SystemExit) as stop:
        main(["learn", str(source), "--out", str(folder), "--epochs", "1", "--batch-size", "16", *options])
    assert stop.value.code == 0
    return folder


@pytest.fixture(scope="session")
def photos_run(tmp_path_factory):
    photos = tmp_path_factory.mktemp("photos")
    for number, pixels in enumerate((load_digits().images[:80] * 15.9).astype(np.uint8)):
        place = photos / ("even" if number % 2 == 0 else ODD)
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels).resize((28, 28)).save(place / f"{number:03d}.png")
    shutil.copy(photos / "even" / "004.png", photos / "even" / "copy.png")
    return learned(
        photos, tmp_path_factory.mktemp("runs") / "photos", "--encoder", "resnet10-x0.125", "--nested", "8,16"
    )


@pytest.fixture(scope="session")
def texts_run(docstrings, tmp_path_factory):
    file = tmp_path_factory.mktemp("texts") / "docs.txt"
    file.write_text(
        "\n".join([*docstrings[:150], "<img src=x onerror=alert(1)> is a text", docstrings[0]]), encoding="utf-8"
    )
    options = ("--method", "contriever", "--encoder", "bert-1x32", "--set", "vocabulary_size=600")
    return learned(file, tmp_path_factory.mktemp("runs") / "texts", *options)


@pytest.fixture
def photos_copy(photos_run, tmp_path):
    """A run that a test may change."""
    return shutil.copytree(photos_run, tmp_path / "photos")


@pytest.fixture
def client():
    """Opens a run as a browser on this machine would; the layout of the map is left at main components."""
    made = []

    def opened(folder, against=None, **options):
        app = create_app(OpenRun(folder), None if against is None else OpenRun(against), **options)
        made.append(app)
        return TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)

    yield opened
    for app in made:
        app.state.places.stop()


@pytest.fixture(autouse=True)
def _no_umap(request, monkeypatch):
    """UMAP takes half a minute to compile: only the test of the map makes one."""
    if "umap" not in request.keywords:
        monkeypatch.setattr("nolabel.explorer.places.FEWEST", 10**9)


@pytest.fixture(scope="session")
def served():
    """Serves a run at a free port of this machine until the tests end; gives its address."""
    running = []

    def start(folder, against=None):
        app = create_app(OpenRun(folder), None if against is None else OpenRun(against))
        listening = bound("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        running.append((server, thread, app))
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    for server, thread, app in running:
        server.should_exit = True
        thread.join()
        app.state.places.stop()
