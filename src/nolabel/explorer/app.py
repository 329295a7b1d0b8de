"""The explorer's pages and API, as a FastAPI application."""

import logging
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, File, Form, Query, Request, UploadFile
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

import nolabel
from nolabel.explorer import clusters as grouping
from nolabel.explorer import schemas
from nolabel.explorer.asking import MOST, UPLOAD_BYTES, Asker, Question
from nolabel.explorer.colours import Colours
from nolabel.explorer.exporting import FORMATS, exported
from nolabel.explorer.guard import Guard
from nolabel.explorer.items import chosen_ids, items_of, ordered, thumbnail_of
from nolabel.explorer.judging import Judge
from nolabel.explorer.marks import MARKS, CannotUndo, Marks
from nolabel.explorer.opened import NoSuchItem, OpenRun
from nolabel.explorer.pages import page_routes
from nolabel.explorer.places import Places

LIST = 500  # ids in the address of one request
log = logging.getLogger(__name__)

Offset = Annotated[int, Query(ge=0, le=2**40)]
Limit = Annotated[int, Query(ge=1, le=MOST)]
ItemId = Annotated[int, InPath(ge=0, le=2**63 - 1)]
Where = Annotated[str | None, Query(max_length=4000, description="SQL over the columns, such as folder = 'cats'")]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Problem, "description": text}
    for status, text in (
        (400, "what was asked cannot be done; the detail says why"),
        (401, "the token is missing"),
        (403, "the request comes from elsewhere"),
        (404, "there is no such item, cluster or column"),
        (409, "others changed the same items"),
        (411, "the length of the body is missing"),
        (413, "too large"),
        (422, "not of the expected form"),
        (503, "another process is writing the index"),
    )
}


def _binary(values: np.ndarray, kind: str) -> Response:
    return Response(np.ascontiguousarray(values).astype(kind).tobytes(), media_type="application/octet-stream")


def create_app(run: OpenRun, against: OpenRun | None = None, *, token: str | None = None) -> FastAPI:
    """The application that shows one run, or one beside another.

    Parameters
    ----------
    run, against : the run to look at, and one to compare it with
    token : what every request has to bring; None for an address of this machine alone

    The API is described at ``/docs``. What goes wrong comes back as ``{"detail": "a sentence"}``.
    """
    app = FastAPI(
        title=f"nolabel explorer: {run.name}",
        version=nolabel.__version__,
        docs_url=None,
        redoc_url=None,
        responses=_some(401, 403, 422),
    )
    app.middleware("http")(Guard(token))
    places, marks, asker, judge = Places(run), Marks(run), Asker(run), Judge(run, against)
    clusters = grouping.Clusters(run)
    colours = Colours(run, clusters)
    app.state.run, app.state.places = run, places
    _tell_problems(app)

    @app.get("/api/run", response_model=schemas.Run)
    def about() -> Any:
        """What the run is, and how it can be asked: for certain once its model is read (`ready`)."""
        run.start_reading()
        index, names = run.index, run.index.schema.names
        return {
            "name": run.name,
            "method": run.method,
            "noun": run.noun,
            "rows": len(index),
            "width": index.dim or index.bits or index.words,
            "modes": index.modes,
            "ready": run.ready,
            "dims": asker.dims,
            "thumbnails": "thumbnail" in names,
            "texts": "text" in names,
            "asks": asker.asks,
            "columns": [{"name": name, "type": kind} for name, kind in run.columns.items()],
            "against": against.name if against is not None else None,
            "marks": MARKS,
            "version": index.version,
        }

    @app.get("/api/map", response_model=schemas.Map)
    def map_now() -> Any:
        """The layout there is now: by main components while UMAP is being made, then UMAP's under another key."""
        picture = places.current()
        return {
            "state": picture.state,
            "method": picture.method,
            "rows": len(picture.points),
            "key": picture.key,
            "note": picture.note,
        }

    @app.get("/api/map/ids", response_class=Response, responses=_octets("float64 (n,): the ids of the points"))
    def map_ids() -> Response:
        """The ids of the points, in their order."""
        return _binary(places.current().rows.ids, "<f8")

    @app.get("/api/map/points", response_class=Response, responses=_octets("float32 (n, 2) in [-1, 1]"))
    def map_points(key: Annotated[str | None, Query(max_length=100)] = None) -> Response:
        """The points of the layout there is now; `key` only keeps caches apart."""
        return _binary(places.current().points, "<f4")

    @app.get("/api/colours", response_model=schemas.Names)
    def colour_names() -> Any:
        """What points can be coloured by."""
        return {"names": colours.names()}

    @app.get("/api/colours/{name}", response_model=schemas.Colouring, responses=_some(404))
    def colour(name: str) -> Any:
        """The categories or the range of a colouring."""
        return colours.of(name, places.current().rows).described

    @app.get(
        "/api/colours/{name}/values",
        response_class=Response,
        responses=_octets("uint16 (n,) of categories, 65535 for none; float32 (n,) of numbers, NaN for none")
        | _some(404),
    )
    def colour_values(name: str) -> Response:
        """The values of a colouring, in the order of the points."""
        found = colours.of(name, places.current().rows)
        return _binary(found.values, "<u2" if found.described["kind"] == "categories" else "<f4")

    @app.get("/api/items", response_model=schemas.Items, responses=_some(400, 404))
    def items(
        ids: Annotated[str | None, Query(max_length=12_000, pattern=r"^\d{1,18}(,\d{1,18})*$")] = None,
        offset: Offset = 0,
        limit: Limit = 100,
        where: Where = None,
        mark: Annotated[schemas.Mark | None, Query()] = None,
        tag: Annotated[str | None, Query(max_length=200)] = None,
        order: Annotated[str, Query(max_length=200)] = "id",
    ) -> Any:
        """Items by their ids (3,1,4), or a page of those that filter, mark and tag leave."""
        if ids is not None:
            wanted = [int(number) for number in ids.split(",")]
            if len(wanted) > LIST:
                raise ValueError(f"ids: at most {LIST} were expected, got {len(wanted)}")
            return {"items": items_of(run, wanted), "total": len(wanted)}
        found = ordered(run, chosen_ids(run, where, mark, tag), order)
        return {"items": items_of(run, found[offset : offset + limit]), "total": len(found)}

    @app.get("/api/items/{number}/thumbnail", response_class=Response, responses=_pictures() | _some(404))
    def thumbnail(number: ItemId) -> Response:
        """The small picture of an item."""
        data, kind = thumbnail_of(run, number)
        return Response(data, media_type=kind, headers={"Cache-Control": "private, max-age=86400"})

    @app.post("/api/search", response_model=schemas.Hits, responses=_some(400, 404, 411, 413))
    def search(question: schemas.Search) -> Any:
        """The nearest items to words or to an item."""
        return asker.answer(Question(**question.model_dump()))

    @app.post("/api/search/upload", response_model=schemas.Hits, responses=_some(400, 404, 411, 413))
    def search_by_picture(
        file: Annotated[UploadFile, File(description="a picture of at most 20 MB and 50 megapixels")],
        mode: Annotated[str | None, Form(max_length=20)] = None,
        k: Annotated[int, Form(ge=1, le=MOST)] = 50,
        where: Annotated[str | None, Form(max_length=4000)] = None,
        dims: Annotated[int | None, Form(ge=1, le=2**20)] = None,
        rerank: Annotated[int | None, Form(ge=1, le=2**20)] = None,
        shortlist: Annotated[int | None, Form(ge=1, le=2**20)] = None,
        exact: Annotated[bool, Form()] = False,
        plus: Annotated[str | None, Form(max_length=20_000)] = None,
        weight: Annotated[float | None, Form()] = None,
        fold: Annotated[bool, Form()] = True,
    ) -> Any:
        """The nearest items to a picture that is sent."""
        data = file.file.read(UPLOAD_BYTES + 1)
        if len(data) > UPLOAD_BYTES:
            raise HTTPException(413, f"file: at most {UPLOAD_BYTES:,} bytes were expected")
        return asker.answer(
            Question(None, None, data, mode, k, where, dims, rerank, shortlist, exact, plus or None, weight, fold)
        )

    @app.get("/api/clusters", response_model=schemas.Clusters)
    def all_clusters() -> Any:
        """Every cluster: its words or number, size, centre and edge."""
        rows = places.current().rows
        found = clusters.of(rows)
        told = []
        for label, named in enumerate(found.groups):
            group = named.group
            told.append(
                {
                    "label": label,
                    "name": named.name,
                    "words": named.words,
                    "size": group.size,
                    "tightness": round(group.tightness, 4),
                    "central": _there(run, rows.ids[group.central]),
                    "edge": _there(run, rows.ids[group.edge]),
                    "duplicates": group.duplicates,
                    "colour": group.colour,
                }
            )
        return {"what": grouping.SAYS, "clusters": told}

    @app.get("/api/clusters/{label}/items", response_model=schemas.Items, responses=_some(404))
    def cluster_items(label: Annotated[int, InPath(ge=0, le=2**31)], offset: Offset = 0, limit: Limit = 100) -> Any:
        """The items of a cluster, the nearest to its centre first."""
        found = clusters.members(places.current().rows, label)
        return {"items": _there(run, found[offset : offset + limit]), "total": len(found)}

    @app.get("/api/report", response_model=schemas.Report, responses=_some(400))
    def report() -> Any:
        """What the vectors are worth without labels; with a second run, what changed."""
        return judge.report()

    @app.get("/api/marks", response_model=schemas.Marked)
    def marked(session: Annotated[schemas.Session, Query()] = "script") -> Any:
        """How many items have each mark and tag, and what this session would undo."""
        return marks.summary(session)

    @app.post("/api/marks", response_model=schemas.MarkChange, responses=_some(400, 404, 411, 413, 503))
    def mark_items(change: schemas.Change) -> Any:
        """Mark and tag items; saved in the index before the answer comes."""
        sets = "mark" in change.model_fields_set
        count = marks.change(
            change.ids, change.session, mark=change.mark, marks=sets, add=change.add, remove=change.remove
        )
        return {"changed": count, **marks.summary(change.session)}

    @app.post("/api/marks/undo", response_model=schemas.MarkChange, responses=_some(400, 409, 411, 413, 503))
    def undo(who: schemas.Undo) -> Any:
        """Take the last step of a session back."""
        count = marks.undo(who.session)
        return {"changed": count, **marks.summary(who.session)}

    @app.get("/api/export", response_class=Response, responses=_files() | _some(400))
    def export(
        format: Annotated[str, Query(pattern="^(parquet|csv|paths)$")] = "parquet",
        mark: Annotated[schemas.Mark | None, Query()] = None,
        tag: Annotated[str | None, Query(max_length=200)] = None,
        where: Where = None,
    ) -> Response:
        """The items that mark, tag and filter leave, as a file; at least one of the three."""
        if mark is None and not tag and not where:
            raise ValueError("export: expected a mark, a tag or a filter that says which items")
        data = exported(run, chosen_ids(run, where, mark, tag or None), format)
        name = f"{''.join(c if c.isalnum() and c.isascii() else '-' for c in run.name)}-{(mark or 'items').replace(' ', '-')}"
        ending = "txt" if format == "paths" else format
        headers = {"Content-Disposition": f'attachment; filename="{name}.{ending}"'}
        return Response(data, media_type=FORMATS[format], headers=headers)

    app.router.routes.extend(page_routes())
    return app


def _there(run: OpenRun, ids: np.ndarray) -> list[dict[str, Any]]:
    """Items without those that have gone since the vectors were read."""
    try:
        return items_of(run, ids)
    except NoSuchItem:
        known = set(run.index.ids().tolist())
        return items_of(run, [number for number in ids.tolist() if number in known])


def _some(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: PROBLEMS[status] for status in statuses}


def _content(kinds: list[str], what: str) -> dict[int | str, dict[str, Any]]:
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"description": what, "content": dict.fromkeys(kinds, schema)}}


def _octets(what: str) -> dict[int | str, dict[str, Any]]:
    return _content(["application/octet-stream"], f"little-endian {what}")


def _pictures() -> dict[int | str, dict[str, Any]]:
    return _content(["image/jpeg", "image/png", "image/gif"], "a picture")


def _files() -> dict[int | str, dict[str, Any]]:
    return _content(list(FORMATS.values()), "a file")


def _tell_problems(app: FastAPI) -> None:
    """Every problem as one sentence, none with what only its writers understand."""

    def answer(status: int) -> Callable[[Request, Exception], JSONResponse]:
        return lambda request, error: JSONResponse({"detail": str(error.args[0] if error.args else error)}, status)

    def invalid(request: Request, error: Exception) -> JSONResponse:
        problems = error.errors() if isinstance(error, RequestValidationError) else []
        told = [f"{'.'.join(str(part) for part in p['loc'][1:]) or p['loc'][0]}: {p['msg']}" for p in problems[:3]]
        return JSONResponse({"detail": "; ".join(told)}, 422)

    def refused(request: Request, error: Exception) -> JSONResponse:
        status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "")
        headers = error.headers if isinstance(error, HTTPException) else None
        return JSONResponse({"detail": str(detail)}, status, headers)

    def broken(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s", request.method, request.url.path, exc_info=error)
        return JSONResponse({"detail": "something went wrong here; the terminal says what"}, 500)

    for kind, status in ((ValueError, 400), (LookupError, 404), (CannotUndo, 409), (BlockingIOError, 503)):
        app.add_exception_handler(kind, answer(status))
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(Exception, broken)
