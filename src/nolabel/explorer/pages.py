"""The files of the explorer's page, which need nothing of a run."""

from pathlib import Path
from typing import Any

from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"


async def _page(request: Any) -> FileResponse:
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


async def _docs(request: Any) -> FileResponse:
    return FileResponse(STATIC / "docs.html", headers={"Cache-Control": "no-cache"})


def page_routes() -> list[Route | Mount]:
    """The page, that of the API, and what both load."""
    return [Route("/", _page), Route("/docs", _docs), Mount("/static", StaticFiles(directory=STATIC), name="static")]
