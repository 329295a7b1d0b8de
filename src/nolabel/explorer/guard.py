"""Who may speak to the explorer: this machine's own pages, and with a token others.

A page elsewhere on the web can make a browser send requests to 127.0.0.1, and a name it owns can be made to point there.
Hence a request must name the address that is served in its `Host`, and one that changes anything must come from there by
its `Origin`. Where the address is not of this machine alone, every request must bring the token.
"""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

COOKIE = "nolabel_token"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-eval'; connect-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
BODY_BYTES = 24 * 2**20  # of a request: an upload and its form
SAFE = ("GET", "HEAD", "OPTIONS")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_name(value: str) -> str:
    """The name in a `Host` header without its port.

    >>> host_name("localhost:8000"), host_name("[::1]:80")
    ('localhost', '[::1]')
    """
    return value[: value.index("]") + 1] if value.startswith("[") and "]" in value else value.partition(":")[0]


class Guard:
    """Checks every request before it reaches the application.

    Parameters
    ----------
    token : what a request must bring, as a cookie, a bearer token or once as ``?token=``; None where the address served is
        of this machine alone
    """

    def __init__(self, token: str | None) -> None:
        self.token = token

    async def __call__(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        refused = self._refused(request)
        if refused is None and self._brings_in_address(request):
            response: Response = RedirectResponse(request.url.path, status_code=303)
            response.set_cookie(COOKIE, self.token or "", httponly=True, samesite="strict")
        else:
            response = refused if refused is not None else await call_next(request)
        response.headers.update(HEADERS)
        if request.url.path.startswith("/api") and "cache-control" not in response.headers:
            response.headers["Cache-Control"] = "no-store"
        return response

    def _refused(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if self.token is None and not is_loopback(host_name(host)):
            return _refusal(403, f"this page is served to 127.0.0.1 and localhost alone, not to {host[:80]!r}")
        if request.method not in SAFE:
            origin = request.headers.get("origin")
            if origin is not None and origin.partition("://")[2] != host:
                return _refusal(403, f"a page of {origin[:80]!r} may not change anything here")
            length = request.headers.get("content-length", "")
            if not length.isdigit():
                return _refusal(411, "the length of what is sent must be said beforehand")
            if int(length) > BODY_BYTES:
                return _refusal(413, f"{int(length):,} bytes; at most {BODY_BYTES:,} were expected")
        if self.token is not None and not self._known(request):
            return _refusal(401, "this page needs its token: open the address that `nolabel explore` printed")
        return None

    def _known(self, request: Request) -> bool:
        given = [request.cookies.get(COOKIE), request.query_params.get("token")]
        given.append(request.headers.get("authorization", "").removeprefix("Bearer "))
        wanted = (self.token or "").encode()
        return any(hmac.compare_digest((word or "").encode(), wanted) for word in given)

    def _brings_in_address(self, request: Request) -> bool:
        """A page opened with its token in the address: it goes into a cookie, and out of the address."""
        return self.token is not None and request.url.path == "/" and "token" in request.query_params


def _refusal(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status)
