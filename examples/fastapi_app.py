"""Holdfast inside a FastAPI application: `pip install fastapi`, then
`python -m granian --interface asgi examples.fastapi_app:app`.

Two organisations' tasks, written over HTTP with API keys: `POST /setup` makes a user, an organisation and a key, and
`/data/v1/resources/tasks` takes it from there. FastAPI's own endpoints and its page at `/docs` stay as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI
from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped, mapped_column

from holdfast import ALL, Expose, Holdfast, Policy, Settings, Unit
from holdfast.apps import accounts
from holdfast.apps.accounts import Organization, OrganizationMember, User
from holdfast.apps.accounts.api_keys import create_api_key
from holdfast.http import create_app
from holdfast.model import NAMING, Model, Text, Timestamps, Versioned


class TasksModel(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Task(Timestamps, Versioned, TasksModel):
    """Something to do, for one organisation."""

    __tablename__ = "tasks"
    __policy__ = Policy(
        Expose(
            filters=("title", "is_done"),
            sort=("created_at",),
            writes=("create", "update", "delete"),
            writable=("title", "is_done"),
        ),
        tenant="org_id",
    )

    org_id: Mapped[UUID]
    title: Mapped[str] = mapped_column(Text(200))
    is_done: Mapped[bool] = mapped_column(default=False)


hold = Holdfast(Settings.from_environment(), metadata=(TasksModel.metadata, accounts.metadata))
data = create_app(hold, title="Tasks")


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """A mounted application is not told of its host's start and end: open and close the data layer here."""
    await hold.start(follow=True)
    try:
        yield
    finally:
        await data.state.live.close()  # first: open event streams would hold the end up
        await hold.close()


app = FastAPI(lifespan=lifespan)
app.mount("/data", data)


async def unit() -> AsyncIterator[Unit]:
    """A unit of work for each request that asks for one: committed when the endpoint returns, undone when it raises."""
    async with hold.unit(actor="setup", tenant=ALL) as opened:
        yield opened


@app.post("/setup", status_code=201)
async def setup(name: str, unit: Annotated[Unit, Depends(unit, scope="function")]) -> dict[str, str]:
    """Make a user, an organisation, and a key of it, which is shown once. Yours will ask who may."""
    user = await unit[User].add(User(external_id=name))
    organization = await unit[Organization].add(Organization(name=name))
    await unit[OrganizationMember].add(OrganizationMember(org_id=organization.id, user_id=user.id, role="owner"))
    made = await create_api_key(
        hold, unit, name="first", user_id=user.id, org_id=organization.id, scopes=("tasks:read", "tasks:write")
    )
    return {"key": made.text}
