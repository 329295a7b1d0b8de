"""Ctrl-C between steps, never inside one, and on all ranks at the same step."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nolabel.training.ranks import any_of


@contextmanager
def held_back() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C and SIGTERM back until the function that is yielded is called: no checkpoint is of half a step.

    Of several ranks all stop if one was asked to. A second signal is not held back. SIGTERM is only held where somebody
    handles it; outside the main thread, and where Ctrl-C is handled by somebody else, nothing is held.

    >>> with held_back() as release:
    ...     release()
    """
    pressed = False
    before: dict[int, Any] = {}

    def hold(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            before[number](number, frame)
        pressed = True

    def release() -> None:
        if any_of(pressed):
            raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            before[signal.SIGINT] = signal.default_int_handler
        if callable(handler := signal.getsignal(signal.SIGTERM)) and not isinstance(handler, signal.Handlers):
            before[signal.SIGTERM] = handler
    for number in before:
        signal.signal(number, hold)
    try:
        yield release
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
