"""Privacy over HTTP: each takes along and has forgotten what is his own, and agrees for himself."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from holdfast import ALL
from holdfast.apps.accounts import Contact, UsageLog, User
from holdfast.guard.consent import text_hash
from tests.http.served import serve
from tests.http.world import BACKENDS, World, world_on

PATH = "/v1/privacy"


@pytest.fixture(params=BACKENDS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with world_on(request) as world:
        async with world.hold.unit(tenant=ALL) as unit:
            for name in ("ada", "bob"):
                unit.add(Contact(user_id=world.ids[name], name=f"{name}'s friend", address="0x1", chain_id=1))
        yield world


async def test_what_is_kept_of_me_I_take_along(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    got = await world.ask("ada", "GET", f"{PATH}/export")
    assert (got.status_code, got.headers["content-type"]) == (200, "application/zip")
    assert got.headers["cache-control"] == "no-store"
    assert got.headers["content-disposition"].startswith('attachment; filename="personal-data-20')
    with zipfile.ZipFile(io.BytesIO(got.content)) as packed:
        assert hashlib.sha256(packed.read("manifest.json")).hexdigest() == got.headers["x-manifest-sha256"]
        [contact] = json.loads(packed.read("rows/contacts.json"))
        assert contact["name"] == "ada's friend"
        assert [user["id"] for user in json.loads(packed.read("rows/users.json"))] == [str(world.ids["ada"])]
    assert not [name for name in os.listdir(tmp_path) if name.startswith("holdfast-export")]


async def test_a_real_server_sends_every_export_whole(world: World) -> None:
    app = world.client._transport.app  # type: ignore[attr-defined]
    headers = {"Authorization": f"Bearer {world.tokens['ada']}"}
    async with serve(app) as address, httpx.AsyncClient(base_url=address, headers=headers) as client:
        for _ in range(20):
            got = await client.get(f"{PATH}/export")
            assert got.status_code == 200
            with zipfile.ZipFile(io.BytesIO(got.content)) as packed:
                assert packed.testzip() is None
        head = await client.head(f"{PATH}/export")
        assert (head.status_code, head.content) == (200, b"")
        part = await client.get(f"{PATH}/export", headers={"Range": "bytes=99999999-"})
        assert (part.status_code, part.headers["content-type"]) == (200, "application/zip")  # each is made anew


async def test_who_wants_to_be_forgotten_is(world: World) -> None:
    key, _ = await world.key("ada", scopes=["api-keys:*"])
    ada, erasure = world.ids["ada"], f"{PATH}/erasure"
    for given, status in (
        ({}, 422),
        ({"confirm": str(world.ids["bob"])}, 422),
        ({"confirm": "yes"}, 422),
        ({"confirm": str(ada), "reason": "x" * 501}, 422),
    ):
        refused = await world.ask("ada", "POST", erasure, json=given)
        assert refused.status_code == status, refused.text
    assert (await world.ask(key, "POST", erasure, json={"confirm": str(ada)})).status_code == 403
    assert (await world.client.post(erasure, json={"confirm": str(ada)})).status_code == 401
    # An organisation's key is nobody's.
    org, _ = await world.key("ada", org_id=str(world.ids["acme"]), scopes=["privacy:*"])
    told = await world.ask(org, "GET", f"{PATH}/export")
    assert (told.status_code, "speaks for no person" in told.json()["detail"]) == (403, True)
    async with world.hold.read(tenant=ALL) as unit:
        assert await unit[Contact].count() == 2

    done = await world.ask("ada", "POST", erasure, json={"confirm": str(ada), "reason": "enough"})
    assert done.status_code == 202, done.text
    told = done.json()["data"]
    assert (told["state"], told["erased"]["users"], told["erased"]["contacts"]) == ("erased", 1, 1)
    assert told["erased_at"]
    assert told["done_at"] is None
    # Nobody is known by what she had, and what is logged of her is nobody's.
    assert (await world.ask("ada", "GET", f"{PATH}/export")).status_code == 401
    assert (await world.ask(key, "GET")).status_code == 401
    await world.hold.appends.flush()
    async with world.hold.read(tenant=ALL) as unit:
        assert [user.external_id for user in await unit[User].list(unit[User].query().order_by("external_id"))] == [
            "bob",
            "eve",
        ]
        assert await unit[Contact].count() == 1
        assert await unit[UsageLog].count(unit[UsageLog].query().where(UsageLog.user_id == ada)) == 0
        assert await unit[UsageLog].count() > 0
    assert (await world.ask("bob", "GET", f"{PATH}/export")).status_code == 200


async def test_I_agree_and_take_it_back(world: World) -> None:
    consents = f"{PATH}/consents"
    given = await world.ask("ada", "POST", consents, json={"purpose": "news", "text": "We write.", "source": "web"})
    assert given.status_code == 201, given.text
    said = given.json()["data"]
    assert (said["purpose"], said["given"], said["text_hash"]) == ("news", True, text_hash("We write."))
    taken = await world.ask("ada", "DELETE", f"{consents}/news")
    assert (taken.status_code, taken.json()["data"]["given"]) == (200, False)
    assert [one["given"] for one in (await world.ask("ada", "GET", consents)).json()["data"]] == [True, False]
    assert (await world.ask("bob", "GET", consents)).json()["data"] == []
    assert (await world.ask("ada", "DELETE", f"{consents}/news")).status_code == 404
    for body in ({"purpose": "news"}, {"purpose": "", "text": "x"}, {"purpose": "a", "text": "x", "basis": "luck"}):
        assert (await world.ask("ada", "POST", consents, json=body)).status_code == 422


async def test_what_is_described_is_what_is_answered(world: World) -> None:
    document: dict[str, Any] = (await world.client.get("/openapi.json")).json()
    ours = {path for path in document["paths"] if path.startswith(PATH)}
    assert ours == {f"{PATH}/{name}" for name in ("export", "erasure", "consents", "consents/{purpose}")}
    answered = await world.ask("ada", "POST", f"{PATH}/consents", json={"purpose": "a", "text": "x"})
    schema = {"$ref": "#/components/schemas/OneConsent", "components": document["components"]}
    Draft202012Validator(schema).validate(answered.json())
    export = document["paths"][f"{PATH}/export"]["get"]
    assert "application/zip" in export["responses"]["200"]["content"]
    assert export["security"]
    bodies = [document["paths"][f"{PATH}/{name}"]["post"]["requestBody"] for name in ("erasure", "consents")]
    assert [body["required"] for body in bodies] == [True, True]
