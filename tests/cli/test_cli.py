"""The commands as a person types them: what they write, what they print, how they refuse."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from tests.commands import run

import nolabel
from nolabel.cli.app import main
from nolabel.search import Index

TINY = ["--encoder", "resnet10-x0.125", "--batch-size", "16", "--epochs", "1"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """64 digits as PNG files in two folders, and two files that cannot be read."""
    folder = tmp_path_factory.mktemp("photos")
    for number, pixels in enumerate((load_digits().images[:64] * 15.9).astype(np.uint8)):
        place = folder / ("even" if number % 2 == 0 else "odd")
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels).resize((28, 28)).save(place / f"{number:03d}.png")
    (folder / "broken.jpg").write_bytes(b"not an image")
    (folder / "empty.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def learned(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "photos"
    with pytest.raises(SystemExit) as stop:
        main(["learn", str(photos), "--out", str(folder), *TINY])
    assert stop.value.code == 0
    return folder


def test_learn_leaves_a_whole_run_folder(learned):
    names = {path.name for path in learned.iterdir()}
    assert {"model.safetensors", "config.json", "metrics.jsonl", "index.lance", "report.html"} <= names
    assert "checkpoint.safetensors" not in names
    config = json.loads((learned / "config.json").read_text())
    assert config["class"] == "nolabel.learn.simclr.SimCLR"
    rows = [json.loads(line) for line in (learned / "metrics.jsonl").read_text().splitlines()]
    assert any("loss" in row for row in rows)
    assert any("rankme" in row for row in rows)
    page = (learned / "report.html").read_text()
    assert "broken.jpg" in page
    assert "empty.png" in page
    assert len(Index.open(learned)) == 64


def test_learned_vectors_are_those_of_the_index(learned, photos):
    with pytest.warns(UserWarning, match="2 of 66 images were skipped"):
        vectors = nolabel.load(learned).transform(photos)
    table = Index.open(learned).rows()
    assert np.allclose(np.array(table["vector"].to_pylist()), vectors, atol=1e-6)
    assert table["path"].to_pylist()[0] == "even/000.png"


def test_search_finds_the_query_itself_and_filters(learned, photos, capsys, tmp_path):
    code, out, _ = run(capsys, "search", learned, photos / "even" / "004.png", "-k", 3, "--json")
    assert code == 0
    assert json.loads(out)[0]["path"] == "even/004.png"
    picture = tmp_path / "found.png"
    code, out, _ = run(capsys, "search", learned, "id:2", "-k", 5, "--where", "folder = 'odd'", "--picture", picture)
    assert code == 0
    assert "odd/" in out
    assert "even/" not in out
    assert Image.open(picture).width > 5 * 96


def test_embed_writes_parquet_and_numpy(learned, photos, capsys, tmp_path):
    code, out, _ = run(capsys, "embed", learned, photos, "--out", tmp_path / "z.parquet", "--json")
    assert code == 0
    assert json.loads(out)["skipped"] == 2
    table = pq.read_table(tmp_path / "z.parquet")
    assert run(capsys, "embed", learned, photos, "--out", tmp_path / "z.npy")[0] == 0
    assert np.array_equal(np.load(tmp_path / "z.npy"), np.array(table["vector"].to_pylist(), dtype=np.float32))
    assert table["path"][0].as_py() == "even/000.png"


def test_embed_adds_to_the_index_of_the_run(learned, photos, capsys, tmp_path):
    run_folder = shutil.copytree(learned, tmp_path / "run")
    (tmp_path / "new").mkdir()
    shutil.copy(photos / "odd" / "003.png", tmp_path / "new" / "again.png")
    code, out, _ = run(capsys, "embed", run_folder, tmp_path / "new", "--add", "--out", tmp_path / "z.npy", "--json")
    assert code == 0
    assert (json.loads(out)["added"], json.loads(out)["ids"]) == (1, "64 to 64")
    shutil.copy(photos / "odd" / "005.png", tmp_path / "new" / "other.png")
    code, out, _ = run(capsys, "embed", run_folder, tmp_path / "new", "--add", "--out", tmp_path / "z.npy", "--json")
    assert {name: json.loads(out)[name] for name in ("added", "added before", "ids")} == {
        "added": 1, "added before": 1, "ids": "65 to 65",
    }  # fmt: skip
    code, out, _ = run(capsys, "search", run_folder, photos / "odd" / "003.png", "-k", 2, "--json")
    assert {hit["path"] for hit in json.loads(out)} == {"odd/003.png", "again.png"}
    added = Index.open(run_folder).rows([64]).to_pylist()[0]
    assert added["row"] is None  # it was not learned from
    (tmp_path / "ids.txt").write_text("even/000.png")
    code, _, err = run(
        capsys, "protect", "forget", run_folder, "--ids", tmp_path / "ids.txt", "--out", tmp_path / "out"
    )
    assert code == 2
    assert "holds 2 images that were added after learning" in err


def test_assess_reads_runs_and_files_and_audits_with_labels(learned, photos, capsys, tmp_path):
    code, out, _ = run(capsys, "assess", learned, "--labels", "folder", "--json")
    assert code == 0
    scores = json.loads(out)
    assert scores["rows"] == 64
    assert 0 <= scores["audit"]["k-NN accuracy"] <= 1
    np.save(tmp_path / "z.npy", np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32))
    code, out, _ = run(capsys, "assess", tmp_path / "z.npy", "--json")
    assert code == 0
    assert json.loads(out)["RankMe"] > 7.5  # isotropic noise uses all 8 dimensions


def test_methods_lists_every_system(capsys):
    code, out, _ = run(capsys, "methods", "--json")
    assert code == 0
    listed = {row["name"]: row for row in json.loads(out)}
    assert {"simclr", "swav", "g-simclr", "rotnet", "rankme"} <= set(listed)
    assert listed["swav"]["paper"] == "arXiv:2006.09882"
    assert listed["swav"]["columns"] == ["image"]


def test_auto_chooses_without_labels_and_says_how(photos, capsys, tmp_path):
    code, out, err = run(capsys, "learn", photos, "--method", "auto", "--out", tmp_path / "run", *TINY, "--json")
    assert code == 0
    assert "after 100% of its budget" in err
    chosen = json.loads((tmp_path / "run" / "selection.json").read_text())
    names = {trial["name"] for trial in chosen["trials"]}
    assert {"raw pixels", "untrained", "swav", "rotnet"} <= names
    final = [trial for trial in chosen["trials"] if trial["round"] == 2]
    assert chosen["name"] == max(final, key=lambda trial: trial["score"])["name"]
    assert json.loads(out)["method"] == type(nolabel.load(tmp_path / "run")).__name__


BAD = {
    "missing path": (["learn", "{tmp}/nowhere/x"], "nowhere"),
    "no such set": (["learn", "sunflowers"], "neither a path here nor a known set"),
    "empty folder": (["learn", "{tmp}/empty"], "empty"),
    "one image": (["learn", "{photos}/even/000.png"], "at least 2"),
    "unknown method": (["learn", "{photos}", "--method", "simclear"], "did you mean simclr"),
    "unknown encoder": (["learn", "{photos}", "--encoder", "resnet81"], "did you mean resnet8 or resnet18"),
    "unknown parameter": (["learn", "{photos}", "--set", "temprature=1"], "did you mean temperature"),
    "bad parameter": (["learn", "{photos}", "--set", "temperature=-1"], "temperature must be above 0, got -1"),
    "bad setting": (["learn", "{photos}", "--set", "temperature"], "NAME=VALUE"),
    "missing column": (["learn", "{photos}", "--column", "image=photo"], "photo"),
    "NaN array": (["learn", "{tmp}/nan.npy"], "row 3"),
    "big batch": (["learn", "{photos}", "--batch-size", "1000"], "batch_size=1000 is above the 64 rows"),
    "zero epochs": (["learn", "{photos}", "--epochs", "0"], "epochs must be a whole number of at least 1"),
    "texts": (["learn", "{tmp}/texts.csv", "--method", "simclr"], "needs a column 'image'"),
    "no run": (["search", "{tmp}/norun", "id:0"], "no run folder"),
    "not a run": (["search", "{tmp}/empty", "id:0"], "not a finished run folder"),
    "no query": (["search", "{learned}", "{tmp}/no.png"], "no image file"),
    "no such id": (["search", "{learned}", "id:9999"], "9999"),
    "k of zero": (["search", "{learned}", "id:0", "-k", "0"], "k: expected a whole number of at least 1"),
    "bad filter": (["search", "{learned}", "id:0", "--where", "colour = 1"], "colour"),
    "bad ending": (["embed", "{learned}", "{photos}", "--out", "{tmp}/z.txt"], ".parquet or .npy"),
    "no such layer": (["embed", "{learned}", "{photos}", "--layer", "stage9"], "layer must be one of"),
    "no such label": (["assess", "{learned}", "--labels", "kind"], "no column 'kind'"),
    "finished folder": (["learn", "{photos}", "--out", "{learned}"], "holds a finished run"),
    "nothing to resume": (["learn", "{photos}", "--out", "{tmp}/fresh", "--resume"], "no unfinished run to resume"),
    "unknown option": (["learn", "{photos}", "--colour"], "No such option"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_bad_input_is_one_clear_line_and_exit_code_2(name, photos, learned, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts.csv").write_text("text\n" + "a few words here\n" * 5)
    broken = np.random.default_rng(0).random((8, 28, 28)).astype(np.float32)
    broken[3, 0, 0] = np.nan
    np.save(tmp_path / "nan.npy", broken)
    words, expected = BAD[name]
    words = [word.format(tmp=tmp_path, photos=photos, learned=learned) for word in words]
    if words[0] == "learn" and "--out" not in words:
        words += ["--out", str(tmp_path / "out")]
    code, out, err = run(capsys, *words)
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("nolabel: warning:")]
    assert len(lines) == 1, err
    assert lines[0].startswith("nolabel: ")
    assert expected in lines[0]
    assert not (tmp_path / "out" / "config.json").exists()


def test_images_all_alike_are_named(capsys, tmp_path):
    np.save(tmp_path / "same.npy", np.full((64, 28, 28), 128, dtype=np.uint8))
    code, _, err = run(capsys, "learn", tmp_path / "same.npy", "--out", tmp_path / "run", *TINY)
    assert code == 2
    assert "alike" in err or "collapsed" in err


def test_debug_shows_the_traceback(capsys, tmp_path):
    with pytest.raises(FileNotFoundError):
        main(["--debug", "learn", str(tmp_path / "nowhere")])


def test_interrupt_keeps_a_checkpoint_and_the_printed_command_resumes(photos, tmp_path):
    folder = tmp_path / "run"
    words = ["learn", str(photos), "--out", str(folder), *TINY[:-1], "400"]
    command = [sys.executable, "-m", "nolabel.cli", *words]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs are deaf to it
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=heard)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        log = folder / "metrics.jsonl"
        if log.exists() and '"loss"' in log.read_text():
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (folder / "checkpoint.safetensors").exists()
    assert f"Go on with: nolabel learn {photos}" in err
    assert err.strip().endswith("--resume")
    with pytest.raises(SystemExit) as stop:  # other parameters than the run was begun with
        main([*words[:-1], "1", "--resume"])
    assert stop.value.code == 2
    assert os.listdir(folder).count("checkpoint.safetensors") == 1
