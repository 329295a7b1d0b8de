"""The explorer as a process: one port of this machine, a line that says where, an end that leaves nothing behind.

The page is served at once, and what it asks of the run waits until that is open: a browser reads the page while Python still
imports what reads the index.
"""

import contextlib
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware.base import BaseHTTPMiddleware

from nolabel.explorer.folders import run_folder
from nolabel.explorer.guard import Guard, is_loopback
from nolabel.explorer.pages import page_routes


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; port 0 takes a free one. ValueError where it is taken or not ours."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ValueError(f"--port {port}: cannot listen at {host}: {error.strerror or error}") from None


class Opening:
    """An ASGI application that has its pages at once and the rest once `open` has returned.

    Parameters
    ----------
    open : makes the whole application
    token : as in `Guard`
    """

    def __init__(self, open: Callable[[], Any], token: str | None) -> None:
        self.pages = Starlette(routes=page_routes())
        self.pages.add_middleware(BaseHTTPMiddleware, dispatch=Guard(token))
        self.whole: Any = None
        self.error: BaseException | None = None
        self._open, self._opened = open, threading.Event()

    def start(self, failed: Callable[[], None]) -> None:
        """Open in the background; `failed` is called where that raises, and `error` says what."""

        def opening() -> None:
            try:
                self.whole = self._open()
            except BaseException as error:
                self.error = error
                failed()
            finally:
                self._opened.set()

        threading.Thread(target=opening, daemon=True).start()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        page = scope["type"] == "http" and not scope["path"].startswith(("/api", "/openapi"))
        if not page and self.whole is None:
            await run_in_threadpool(self._opened.wait)
        await (self.pages if page or self.whole is None else self.whole)(scope, receive, send)


def serve(
    run: Path,
    against: Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    browser: bool = True,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve a run folder until the process is stopped.

    Parameters
    ----------
    run, against : the run to look at, and one to compare it with
    host, port : where to listen; port 0 takes a free one
    token : what others must bring; made up where `host` is no address of this machine alone and none is given
    browser : open the page
    tell : takes the address once it answers

    Raises
    ------
    FileNotFoundError, ValueError
        No folder, no index in it, an address that cannot be listened at.
    """
    folders = [run_folder(folder) for folder in (run, against) if folder is not None]
    if len(set(folders)) < len(folders):
        raise ValueError(f"against: {against} is the run itself")
    if not is_loopback(host) and token is None:
        token = secrets.token_urlsafe(24)

    def whole() -> Any:
        from nolabel.explorer.opened import OpenRun

        runs = [OpenRun(folder) for folder in folders]
        with ThreadPoolExecutor(1) as aside:
            rows = aside.submit(runs[0].rows)  # what the page asks first, read while the application is imported
            from nolabel.explorer.app import create_app

            app = create_app(runs[0], runs[1] if against is not None else None, token=token)
            rows.result()
        return app

    listening = bound(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}/" + (f"?token={token}" if token else "")
    opening = Opening(whole, token)
    server = uvicorn.Server(uvicorn.Config(opening, log_level="warning", lifespan="off", server_header=False))

    def started() -> None:
        while not server.started and not server.should_exit:
            threading.Event().wait(0.01)
        if server.started:
            tell(address)
            opening.start(lambda: setattr(server, "should_exit", True))
            if browser:
                webbrowser.open(address)

    threading.Thread(target=started, daemon=True).start()
    try:
        with contextlib.suppress(KeyboardInterrupt):  # how it is meant to end
            server.run(sockets=[listening])
    finally:
        if opening.whole is not None:
            opening.whole.state.places.stop()
    if opening.error is not None:
        raise opening.error
