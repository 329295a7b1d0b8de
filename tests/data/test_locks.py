"""Nobody is let in twice, whoever died or waits."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from nolabel.data.locks import exclusive

HOLDER = """
import sys, time
from pathlib import Path
from nolabel.data.locks import exclusive
with exclusive(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_held_and_let_go(tmp_path):
    lock = tmp_path / "lock"
    with exclusive(lock, "the file"):
        with pytest.raises(BlockingIOError, match=f"^the file is in use by process {os.getpid()}: wait for it$"):
            exclusive(lock, "the file").__enter__()
        assert lock.read_text() == str(os.getpid())
    assert not lock.exists()
    with pytest.raises(KeyError), exclusive(lock, "the file"):
        raise KeyError
    with exclusive(lock, "the file"):
        pass


def test_a_killed_holder_keeps_nobody_out(tmp_path):
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, lock], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError, match=f"by process {holder.pid}:"):
            exclusive(lock, "it").__enter__()
        holder.send_signal(signal.SIGKILL)
    assert lock.exists()
    with exclusive(lock, "it"):
        assert lock.read_text() == str(os.getpid())


def test_a_fork_of_the_holder_keeps_nobody_out(tmp_path):
    """Workers that a holder forks share its descriptor and may outlive the block."""
    lock = tmp_path / "lock"
    ending, closing = os.pipe()
    with exclusive(lock, "it"):
        child = os.fork()
        if not child:
            os.close(closing)
            os.read(ending, 1)  # until the parent closes its end
            os._exit(0)
    with exclusive(lock, "it"):
        pass
    os.close(closing)
    os.close(ending)
    os.waitpid(child, 0)


def test_never_two_at_once(tmp_path):
    """Each takes, waits for and removes the file many times; a waiter may hold the file that another removed."""
    inside, most, entered = 0, 0, []

    def enter():
        nonlocal inside, most
        for _ in range(150):
            with exclusive(tmp_path / "lock", "it", wait=True):
                inside += 1
                most = max(most, inside)
                time.sleep(0)
                inside -= 1
                entered.append(None)

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, len(entered)) == (1, 600)
    assert not (tmp_path / "lock").exists()


def test_a_folder_that_was_made_anew_belongs_to_others(tmp_path):
    """Who deletes a folder in use and begins another of the same name keeps the lock of that one."""
    folder = tmp_path / "run"
    folder.mkdir()
    with exclusive(folder / "lock", "it"):
        (folder / "lock").unlink()
        folder.rmdir()
        folder.mkdir()
        (folder / "lock").write_text("theirs")
    assert (folder / "lock").read_text() == "theirs"


def test_links_are_not_followed(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="lock"):
        exclusive(tmp_path / "lock", "it").__enter__()
    assert not (tmp_path / "precious").exists()
