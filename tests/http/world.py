"""Two people, an organisation, and what each of them sends."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from holdfast import ALL, Holdfast
from holdfast.apps import accounts
from holdfast.apps.accounts import Organization, OrganizationMember, User
from holdfast.http import create_app
from tests.backends import settings_for
from tests.http.conftest import client_of

PATH = "/v1/api-keys"
BACKENDS = ("sqlite", "postgres+redis")


class World:
    """Two people, an organisation of which both are members, and what each sends."""

    def __init__(self, hold: Holdfast, client: httpx.AsyncClient) -> None:
        self.hold, self.client = hold, client
        self.tokens: dict[str, str] = {}
        self.ids: dict[str, UUID] = {}

    async def people(self) -> None:
        async with self.hold.unit(tenant=ALL) as unit:
            acme = await unit[Organization].add(Organization(name="Acme"))
            self.ids["acme"] = acme.id
            for name in ("ada", "bob", "eve"):
                who = await unit[User].add(User(external_id=name))
                self.ids[name] = who.id
                self.tokens[name] = (await self.hold.sessions.begin(unit, who.id)).token
        async with self.hold.unit(tenant=acme.id) as unit:
            for name, role in (("ada", "owner"), ("bob", "viewer")):
                member = OrganizationMember(org_id=acme.id, user_id=self.ids[name], role=role)
                await unit[OrganizationMember].add(member)

    async def ask(self, who: str, method: str, path: str = PATH, **given: Any) -> httpx.Response:
        token = self.tokens.get(who, who)
        return await self.client.request(method, path, headers={"Authorization": f"Bearer {token}"}, **given)

    async def key(self, who: str, **values: Any) -> tuple[str, dict[str, Any]]:
        made = await self.ask(who, "POST", json={"name": "ci", **values})
        assert made.status_code == 201, made.text
        assert made.headers["location"] == f"{PATH}/{made.json()['data']['id']}"
        return made.json()["key"], made.json()["data"]


@contextlib.asynccontextmanager
async def world_on(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Them on the backend, one of `BACKENDS`, that a fixture was asked for."""
    database, _, redis = request.param.partition("+")
    redis_url = request.getfixturevalue("redis_url") if redis else None
    settings = settings_for(request.getfixturevalue(f"{database}_url"), redis_url=redis_url, redis_timeout=5.0)
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata) as hold:
        app = create_app(hold)
        async with client_of(app) as client:
            world = World(hold, client)
            await world.people()
            yield world
        await app.state.live.close()
