"""The examples run as they stand."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports an example over a database of the test's own."""
    monkeypatch.setenv("HOLDFAST_DATABASE_URL", f"sqlite:///{tmp_path / 'example.db'}")
    monkeypatch.syspath_prepend(str(ROOT / "examples"))

    def imported(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return imported


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://example.test")


async def test_starlette(example: Any) -> None:
    app = example("starlette_app").app
    async with app.router.lifespan_context(app), client_of(app) as client:
        made = (await client.post("/hello")).json()["id"]
        listed = (await client.get("/data/v1/resources/notes")).json()["data"]
        assert [row["id"] for row in listed] == [made]
        assert (await client.get("/data/")).status_code == 200
        assert (await client.get("/data/openapi.json")).json()["servers"] == [{"url": "/data"}]


async def test_fastapi(example: Any) -> None:
    app = example("fastapi_app").app
    async with app.router.lifespan_context(app), client_of(app) as client:
        keys = [(await client.post("/setup", params={"name": name})).json()["key"] for name in ("acme", "globex")]
        mine, theirs = ({"X-API-Key": key} for key in keys)
        made = await client.post("/data/v1/resources/tasks", json={"title": "hold fast"}, headers=mine)
        assert made.status_code == 201, made.text
        place = made.headers["location"]
        assert place.startswith("/data/v1/resources/tasks/")
        done = await client.patch(place, json={"is_done": True}, headers={**mine, "If-Match": made.headers["etag"]})
        assert done.json()["data"]["is_done"] is True
        assert (await client.get(place, headers=theirs)).status_code == 404
        assert (await client.get(place)).status_code == 401
        assert (await client.get("/docs")).status_code == 200
