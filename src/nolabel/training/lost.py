"""One rank of several fails: all stop, and one of them says why."""

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nolabel.training import launch
from nolabel.training.ranks import distributed, world

#: Seconds in which the ranks that are left give a sign.
ROLL_CALL = 3.0
_trainings = itertools.count()  # of this process; the same on all ranks
WAITING, STOPPED, FAILED = "waiting", "stopped", "failed: "


class RankLost(ConnectionError):
    """Another process of a run on several devices failed or is gone. ``speaks`` is set on one of those that are left."""

    def __init__(self, text: str, speaks: bool) -> None:
        super().__init__(text)
        self.speaks = speaks


@contextmanager
def watched(step: Callable[[], int], advice: Callable[[], str]) -> Iterator[None]:
    """What happens inside, happens on all ranks: a failure of one reaches the others as `RankLost`.

    Parameters
    ----------
    step : where the training stands
    advice : what to do about a lost rank

    Raises
    ------
    RankLost : another rank failed or is gone
    KeyboardInterrupt : another rank was interrupted
    """
    training = next(_trainings)

    def key(rank: int) -> str:
        return f"{training}/{rank}"

    try:
        yield
    except BaseException as error:
        if world() == 1:
            raise
        launch.failed()
        if _of_the_network(error):
            with _undisturbed():
                verdict = _verdict(key, step(), advice())
            raise verdict from None
        stopped = isinstance(error, KeyboardInterrupt)
        reason = " ".join(str(error).split()) or type(error).__name__
        _leave_word(key(distributed.get_rank()), STOPPED if stopped else FAILED + reason)
        raise


@contextmanager
def _undisturbed() -> Iterator[None]:
    """torchrun ends those that are left at once, by SIGTERM: they have a few words to say first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _of_the_network(error: BaseException) -> bool:
    """Whether an error says that another process did not answer."""
    if isinstance(error, distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "NCCL", "Connection closed"))


def _leave_word(key: str, word: str) -> None:
    try:
        launch.ended().set(key, word)
    except RuntimeError:  # the store went with its process: nobody is left to read it
        return


def _verdict(key: Callable[[int], str], step: int, advice: str) -> BaseException:
    """Ask round who is left, and say who is not."""
    own, processes = distributed.get_rank(), world()
    _leave_word(key(own), WAITING)
    words = {own: WAITING}
    until = time.monotonic() + ROLL_CALL
    while len(words) < processes and time.monotonic() < until:
        silent = [rank for rank in range(processes) if rank not in words]
        if all(launch.fate(rank) for rank in silent):
            break  # known to be gone
        for rank in silent:
            try:
                if launch.ended().check([key(rank)]):
                    words[rank] = launch.ended().get(key(rank)).decode()
            except RuntimeError:  # as above
                until = 0.0
        time.sleep(0.05)
    if STOPPED in words.values():
        return KeyboardInterrupt()
    speaks = own == min(rank for rank, word in words.items() if word == WAITING)
    reasons = {rank: word.removeprefix(FAILED) for rank, word in words.items() if word.startswith(FAILED)}
    if reasons:
        rank = min(reasons)
        return RankLost(f"rank {rank} of {processes} failed at step {step}: {reasons[rank]}", speaks and rank > 0)
    missing = sorted(set(range(processes)) - set(words))
    if not missing:
        return RankLost(f"the ranks lost each other at step {step}, though all are there; {advice}", speaks)
    rank = missing[0]
    reason = launch.fate(rank) or "it does not answer"
    return RankLost(f"rank {rank} of {processes} was lost at step {step}: {reason}; {advice}", speaks)
