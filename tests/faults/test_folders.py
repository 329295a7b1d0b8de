"""Two processes on one run folder: one works, the other waits or is told so in one line."""

import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from tests.commands import told
from tests.faults.kills import TINY, digest_of_index, files_of, write_images

from nolabel.cli import learn
from nolabel.cli.app import _resume_line, main
from nolabel.search import Index
from nolabel.training.place import MEETING
from nolabel.training.unfinished import locked

HOLDER = """
import sys
from pathlib import Path
from nolabel.data.locks import exclusive
with exclusive(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held(folder):
    """Another process works in a folder; its number."""
    folder.mkdir(exist_ok=True)
    words = [sys.executable, "-c", HOLDER, folder / ".lock"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        try:
            yield process.pid
        finally:
            process.communicate(b"\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Photos, a run that learned from them, and small files for the other commands."""
    place = tmp_path_factory.mktemp("place")
    write_images(place / "photos", 0, 40)
    write_images(place / "more", 100, 6)
    words = ["--batch-size", "16", "--lr", "0.01", "--epochs", "1", "--set", "projection=(16,8)"]
    with pytest.raises(SystemExit) as stop:
        main(["learn", str(place / "photos"), "--out", str(place / "run"), "--method", "simclr", *TINY, *words])
    assert stop.value.code == 0
    (place / "ids.txt").write_text("0\n")
    (place / "words.json").write_text('{"animals": ["cat"]}')
    (place / "texts.txt").write_text("a cat\na dog\n")
    (place / "log.csv").write_text("user,item\n1,2\n")
    return place


COMMANDS = {
    "learn": ["learn", "photos"],
    "learn --resume": ["learn", "photos", "--resume"],
    "clean": ["clean", "photos"],
    "classify": ["classify", "photos"],
    "classify --names": ["classify", "photos", "--names", "a,b", "--run", "run"],
    "cluster": ["cluster", "texts.txt", "--keywords", "words.json"],
    "cluster --domains": ["cluster", "photos", "--domains", "folder", "--classes", "3"],
    "adapt": ["adapt", "run", "photos"],
    "explain": ["explain", "run", "photos"],
    "protect forget": ["protect", "forget", "run", "--ids", "ids.txt"],
    "recommend": ["recommend", "log.csv"],
    "senses": ["senses", "texts.txt", "cat"],
    "extract": ["extract", "texts.txt"],
    "curate": ["curate", "photos"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_second_process_is_refused(name, place, capsys, tmp_path):
    folder = tmp_path / "busy"
    words = [place / word if (place / word).exists() else word for word in COMMANDS[name]]
    with held(folder) as other:
        code, out, lines = told(capsys, *words, "--out", folder)
    assert (code, out) == (2, "")
    assert lines == [f"nolabel: {folder} is in use by process {other}: wait for it"]
    assert [path.name for path in folder.iterdir()] == []


def test_adding_waits_for_whoever_works_in_the_run(place, capsys, tmp_path):
    folder = shutil.copytree(place / "run", tmp_path / "run")
    before = len(Index.open(folder))
    done = []

    def add():
        with pytest.raises(SystemExit) as stop:
            main(["embed", str(folder), str(place / "more"), "--add", "--out", str(tmp_path / "z.npy")])
        done.append(stop.value.code)

    with held(folder):
        adding = threading.Thread(target=add)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("nolabel.cli.app.signal.signal", lambda *given: None)  # of the main thread alone
            adding.start()
            adding.join(timeout=4)
        assert adding.is_alive(), capsys.readouterr().err  # it has embedded, and waits
        assert (tmp_path / "z.npy").exists()
        assert len(Index.open(folder)) == before
    adding.join(timeout=60)
    assert done == [0]
    assert len(Index.open(folder)) == before + 6


def test_who_holds_a_folder_goes_on_in_it(tmp_path):
    with locked(tmp_path / "run"):
        with locked(tmp_path / "run"), locked(tmp_path / "run" / "stage"):
            pass
        assert (tmp_path / "run" / ".lock").exists()
        refused = []

        def try_it():
            try:
                locked(tmp_path / "run").__enter__()
            except BlockingIOError as error:
                refused.append(str(error))

        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
        assert refused != [], "another thread is not who holds it"
    assert not (tmp_path / "run").exists(), "nothing was put into it"
    with locked(tmp_path / "kept"):
        (tmp_path / "kept" / "file").touch()
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["file"]


def test_nothing_is_held_after_a_command(place, capsys, tmp_path):
    assert told(capsys, "learn", place / "nothing", "--out", tmp_path / "run")[0] == 2
    code, _, lines = told(capsys, "learn", place / "photos", "--out", tmp_path / "run", "--epochs", "0")
    assert code == 2, lines
    assert not (tmp_path / "run").exists()
    with locked(tmp_path / "run"):
        pass


def test_the_other_processes_of_a_run_share_its_folder(tmp_path, monkeypatch):
    others = (
        {MEETING: "a file", "LOCAL_RANK": "1"},
        {"TORCHELASTIC_RUN_ID": "run", "RANK": "1"},
        {"SLURM_PROCID": "1"},
    )
    for names in others:
        with held(tmp_path / "run") as other, pytest.MonkeyPatch.context() as patch:
            with pytest.raises(BlockingIOError, match=f"process {other}"), locked(tmp_path / "run"):
                pass
            for name, value in names.items():
                patch.setenv(name, value)
            with locked(tmp_path / "run"):
                pass


# What is left of a run that was cut off between its model and its report ------------------------------------------------


@pytest.fixture
def cut_off(place, tmp_path):
    folder = shutil.copytree(place / "run", tmp_path / "run")
    (folder / "report.html").unlink()
    shutil.rmtree(folder / "index.lance" / "data")  # it was writing its index
    return folder


def test_a_run_without_its_report_is_finished_by_a_resume(place, cut_off, capsys):
    words = ["learn", place / "photos", "--out", cut_off, "--method", "simclr", *TINY]
    words += ["--batch-size", "16", "--lr", "0.01", "--epochs", "1", "--set", "projection=(16,8)"]
    refusals = {
        "holds a run without its index and report: go on with --resume": words,
        "was begun with another parameters: resume needs the same": [*words, "--resume", "--seed", "3"],
        "was begun with another data: resume needs the same": [words[0], place / "more", *words[2:], "--resume"],
    }
    (cut_off / "checkpoint.safetensors").write_bytes(b"it was about to be removed")
    for line, refused in refusals.items():
        code, _, lines = told(capsys, *refused)
        assert (code, len(lines)) == (2, 1)
        assert line in lines[0]
        assert not (cut_off / "report.html").exists()
    assert told(capsys, *words, "--resume")[0] == 0
    assert digest_of_index(cut_off) == digest_of_index(place / "run")
    assert files_of(cut_off) == files_of(place / "run")
    index = Index.open(cut_off)
    index.delete(ids=[0])
    for more in ([], ["--resume"]):  # nothing that came to a finished run is taken from it
        code, _, lines = told(capsys, *words, *more)
        assert (code, lines) == (2, [f"nolabel: {cut_off} holds a finished run: choose another folder or delete it"])
    assert len(Index.open(cut_off)) == len(index)


def test_what_is_said_after_ctrl_c(cut_off, monkeypatch):
    monkeypatch.setattr(learn, "last_run", cut_off)
    assert _resume_line(["learn", "photos"]) == "interrupted; model kept. Go on with: nolabel learn photos --resume"
    (cut_off / "checkpoint.safetensors").touch()
    assert (
        _resume_line(["learn", "x", "--resume"]) == "interrupted; checkpoint kept. Go on with: nolabel learn x --resume"
    )
    monkeypatch.setattr(learn, "last_run", cut_off / "nothing")
    assert _resume_line(["learn", "photos"]) == "interrupted before the first checkpoint: nothing to resume"
