"""Holdfast inside a Starlette application: `python -m granian --interface asgi examples.starlette_app:app`.

Notes are kept in `./holdfast.db`, or where `HOLDFAST_DATABASE_URL` says: `GET /data/v1/resources/notes`, the page at
`/data/`. What the application writes itself it writes through the same `hold`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from holdfast import Expose, Holdfast, Policy, Settings
from holdfast.http import create_app
from holdfast.model import NAMING, Model, Timestamps


class NotesModel(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Note(Timestamps, NotesModel):
    """A note."""

    __tablename__ = "notes"
    __policy__ = Policy(Expose(filters=("title",), sort=("created_at", "title")))

    title: Mapped[str]


hold = Holdfast(Settings.from_environment(), metadata=NotesModel.metadata)
data = create_app(hold, title="Notes")


async def hello(request: Request) -> JSONResponse:
    """An endpoint of the application's own, which writes."""
    async with hold.unit(actor="hello") as unit:
        note = await unit[Note].add(Note(title="hello"))
    return JSONResponse({"id": str(note.id)}, 201)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """A mounted application is not told of its host's start and end: open and close the data layer here."""
    await hold.start(follow=True)
    try:
        yield
    finally:
        await data.state.live.close()  # first: open event streams would hold the end up
        await hold.close()


app = Starlette(routes=[Route("/hello", hello, methods=["POST"]), Mount("/data", data)], lifespan=lifespan)
