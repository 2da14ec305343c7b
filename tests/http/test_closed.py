"""`HOLDFAST_HTTP_READS=closed`: nothing but that the process lives is told to who has no key."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from holdfast import ALL, Holdfast
from holdfast.apps import agents
from holdfast.apps.accounts import User
from holdfast.apps.accounts.api_keys import create_api_key
from holdfast.guard.keys.access import OPERATE, allows
from holdfast.http import create_app
from tests.backends import settings_for
from tests.http.conftest import client_of
from tests.http.press import METADATA, Press

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPERATED = ("/", "/overview", "/health/database", "/metrics", "/v1/status", "/v1/journal", "/v1/stream")
DESCRIBED = ("/v1/resources", "/openapi.json")
FIGURES = ("/v1/analytics/summary", "/v1/analytics/payments")
OF_THIS_MACHINE = ("/cache", "/cache/part", "/admin/", "/metrics/redis")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def closed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Press, Starlette]]:
    url = f"sqlite:///{tmp_path_factory.mktemp('closed') / 'press.db'}"
    settings = settings_for(url, http_reads="closed", key_guesses="unlimited")
    async with await Holdfast.open(settings=settings, metadata=(*METADATA, agents.metadata)) as hold:
        app = create_app(hold)
        async with client_of(app) as client:
            press = Press(hold, client)
            await press.people()
            async with hold.unit(tenant=ALL) as unit:
                who = await unit[User].add(User(external_id="operator", tier="enterprise"))
                for name, scopes in (("operator", (OPERATE,)), ("analyst", ("analytics:read",))):
                    made = await create_api_key(hold, unit, name=name, user_id=who.id, scopes=scopes)
                    press.keys[name] = made.text
            yield press, app
        await app.state.live.close()


async def status(press: Press, who: str, path: str, method: str = "GET") -> int:
    # Of a stream the head is enough; an application that is called has no end of it.
    method = "HEAD" if path == "/v1/stream" and method == "GET" else method
    headers = {"X-API-Key": press.keys[who]} if who else {}
    return (await press.client.request(method, path, headers=headers)).status_code


async def test_no_address_that_is_not_named_here_is_open(closed: tuple[Press, Starlette]) -> None:
    press, app = closed
    seen = set()
    for route in app.routes:
        if isinstance(route, Mount):
            assert route.path == "/static"
            continue
        assert isinstance(route, Route)
        path = route.path.replace("{name}", "articles").replace("{key:path}", "1").replace("{id}", "1")
        if path == "/health" or path.startswith(OF_THIS_MACHINE):
            continue
        seen.add(path)
        method = "GET" if route.methods is None or "GET" in route.methods else min(route.methods)
        assert await status(press, "", path, method) == 401, path
    assert seen >= {*OPERATED, *DESCRIBED, *FIGURES, "/v1/resources/articles", "/v1/api-keys"}


async def test_each_is_open_to_who_may_and_to_nobody_else(closed: tuple[Press, Starlette]) -> None:
    press, _ = closed
    for path in OPERATED:
        assert await status(press, "operator", path) == 200, path
        for who in ("ada", "analyst"):  # ada has *, which is not for operators
            assert await status(press, who, path) == 403, (who, path)
    for path in DESCRIBED:
        assert [await status(press, who, path) for who in ("analyst", "operator", "ada")] == [200] * 3, path
    for path in FIGURES:
        assert [await status(press, who, path) for who in ("analyst", "operator", "ada")] == [200, 403, 200], path


async def test_what_is_open_tells_nothing(closed: tuple[Press, Starlette]) -> None:
    press, _ = closed
    assert (await press.client.get("/health")).json() == {"status": "ok"}
    for path in ("/v1/resources/nothing", "/v1/resources/articles?nothing=1", "/v1/resources/articles/1?nothing=1"):
        answer = await press.client.get(path)
        assert answer.status_code in (401, 404)
        for told in ("memos", "headline", "words", "include"):
            assert told not in answer.text


async def test_a_browser_gives_a_key_as_a_password_and_only_to_read_pages(closed: tuple[Press, Starlette]) -> None:
    press, _ = closed

    def basic(text: str) -> dict[str, str]:
        return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}

    asked = await press.client.get("/")
    assert (asked.status_code, "Basic realm=" in asked.headers["www-authenticate"]) == (401, True)
    page = await press.client.get("/", headers=basic(f"me:{press.keys['operator']}"))
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for wrong in ("me:nonsense", press.keys["operator"], ":", "me:\xe9"):
        assert (await press.client.get("/", headers=basic(wrong))).status_code == 401
    assert (await press.client.get("/", headers={"Authorization": "Basic !"})).status_code == 401
    mine = basic(f"me:{press.keys['ada']}")
    answers = [
        await press.client.get("/v1/resources/articles", headers=mine),
        await press.client.post("/v1/resources/articles", json={"headline": "x"}, headers=mine),
        await press.client.post("/v1/api-keys", json={"name": "x"}, headers=mine),
    ]
    assert [(one.status_code, "Basic" in one.headers["www-authenticate"]) for one in answers] == [(401, False)] * 3


async def test_nobody_gives_himself_the_scope_of_operators(closed: tuple[Press, Starlette]) -> None:
    press, _ = closed
    async with press.hold.unit(tenant=ALL) as unit:
        token = (await press.hold.sessions.begin(unit, press.users["eve"])).token
    for scope in (OPERATE, "operate:*"):
        for key in (token, press.keys["eve"]):
            asked = {"name": "x", "scopes": [scope]}
            answer = await press.client.post("/v1/api-keys", json=asked, headers={"X-API-Key": key})
            assert answer.status_code == 403
    assert not allows(("*",), OPERATE)
    assert allows(("operate:*",), OPERATE)
    assert allows((OPERATE,), OPERATE)


async def test_what_is_closed_is_described_so(closed: tuple[Press, Starlette]) -> None:
    press, _ = closed
    document = (await press.client.get("/openapi.json", headers={"X-API-Key": press.keys["ada"]})).json()
    validate(document)
    paths = document["paths"]
    for path in (*OPERATED[2:], *DESCRIBED, *FIGURES, "/v1/resources/articles"):
        assert paths[path]["get"]["security"], path
        assert {"401", "403", "429"} <= paths[path]["get"]["responses"].keys(), path
    assert "security" not in paths["/health"]["get"]


async def test_without_api_keys_what_is_closed_is_closed_for_all(tmp_path: Path) -> None:
    settings = settings_for(f"sqlite:///{tmp_path / 'bare.db'}", http_reads="closed")
    async with await Holdfast.open(settings=settings, metadata=agents.metadata) as hold:
        app = create_app(hold)
        async with client_of(app) as client:
            assert (await client.get("/health")).status_code == 200
            for path in (*OPERATED[:-1], *DESCRIBED, *FIGURES, "/v1/resources/agents"):
                assert (await client.get(path)).status_code == 403, path
        await app.state.live.close()
