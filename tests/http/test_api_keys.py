"""API keys over HTTP: each sees and changes his own, whatever he sends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from holdfast import ALL
from holdfast.apps.accounts import Organization, User
from holdfast.apps.accounts.api_keys import create_api_key
from holdfast.guard.audit.export import export
from tests.http.world import BACKENDS, PATH, World, world_on


@pytest.fixture(params=BACKENDS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with world_on(request) as world:
        yield world


async def test_a_key_from_its_making_to_its_end(world: World) -> None:
    key, made = await world.key("ada", scopes=["tools:read", "api-keys:*"])
    assert key.startswith("hold_live_")
    [listed] = (await world.ask("ada", "GET")).json()["data"]
    assert listed["id"] == made["id"]
    assert key not in (await world.ask("ada", "GET")).text
    one = f"{PATH}/{made['id']}"
    assert (await world.ask(key, "GET", one)).json()["data"]["name"] == "ci"
    fresh = (await world.ask("ada", "POST", f"{one}/rotate", json={"grace": "1h"})).json()
    assert (await world.ask(key, "GET")).status_code == 200
    assert (await world.ask(fresh["key"], "GET")).status_code == 200
    assert (await world.ask("ada", "DELETE", one)).json()["data"]["revoked_at"] is not None
    refused = await world.ask(key, "GET")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="holdfast"')
    assert refused.headers["content-type"] == "application/problem+json"
    assert "revoked" not in refused.text
    assert (await world.ask("ada", "GET")).headers["cache-control"] == "no-store"


async def test_another_ones_keys_are_not_there(world: World) -> None:
    _, mine = await world.key("ada")
    _, ours = await world.key("ada", org_id=str(world.ids["acme"]))
    for who in ("bob", "eve"):
        for method, path in (
            ("GET", f"{PATH}/{mine['id']}"),
            ("DELETE", f"{PATH}/{mine['id']}"),
            ("POST", f"{PATH}/{mine['id']}/rotate"),
        ):
            assert (await world.ask(who, method, path)).status_code == 404
        assert (await world.ask(who, "GET")).json()["data"] == []
    theirs = f"{PATH}?org={world.ids['acme']}"
    assert [key["id"] for key in (await world.ask("bob", "GET", theirs)).json()["data"]] == [ours["id"]]
    assert (await world.ask("eve", "GET", theirs)).status_code == 404
    assert (await world.ask("eve", "GET", f"{PATH}/{ours['id']}")).status_code == 404
    assert (await world.ask("eve", "POST", json={"name": "x", "org_id": str(world.ids["acme"])})).status_code == 404
    assert (await world.ask("bob", "GET", f"{PATH}/{ours['id']}")).status_code == 200
    for method, path, given in (
        ("DELETE", f"{PATH}/{ours['id']}", None),
        ("POST", f"{PATH}/{ours['id']}/rotate", {}),
        ("POST", PATH, {"name": "x", "org_id": str(world.ids["acme"])}),
    ):
        answer = await world.ask("bob", method, path, json=given)
        assert (answer.status_code, "viewer" in answer.text) == (403, True)
    assert (await world.ask("ada", "DELETE", f"{PATH}/{ours['id']}")).status_code == 200


async def test_a_key_gives_no_more_than_it_has(world: World) -> None:
    org = str(world.ids["acme"])
    small, _ = await world.key("ada", scopes=["api-keys:*", "tools:read"])
    _, big = await world.key("ada", scopes=["*"])
    for scopes in (["*"], ["tools:*"], ["tools:read", "admin:write"]):
        assert (await world.ask(small, "POST", json={"name": "x", "scopes": scopes})).status_code == 403
    assert (await world.ask(small, "POST", f"{PATH}/{big['id']}/rotate")).status_code == 403
    given, _ = await world.key(small, scopes=["tools:read"])
    lacking = await world.ask(given, "GET")
    assert (lacking.status_code, "api-keys:read" in lacking.text) == (403, True)
    # An organisation's key is for the organisation alone, and a user's for himself and his.
    theirs, made = await world.key("ada", org_id=org, scopes=["api-keys:*"])
    assert [key["id"] for key in (await world.ask(theirs, "GET")).json()["data"]] == [made["id"]]
    assert (await world.ask(theirs, "GET", f"{PATH}/{big['id']}")).status_code == 404
    assert (await world.ask(theirs, "GET", f"{PATH}?org={uuid4()}")).status_code == 404
    _, child = await world.key(theirs, scopes=["api-keys:read"])
    assert child["org_id"] == org


async def test_there_are_as_many_as_there_may_be(world: World) -> None:
    for _ in range(5):
        await world.key("ada")
    full = await world.ask("ada", "POST", json={"name": "one more"})
    assert (full.status_code, "5 are allowed" in full.text) == (409, True)


OF_NOBODY: list[list[tuple[str, str]]] = [
    [],
    [("Authorization", "")],
    [("Authorization", "Bearer")],
    [("Authorization", "Bearer x")],
    [("Authorization", "Basic YTpi")],
    [("Authorization", "Bearer {ada}"), ("Authorization", "Bearer {ada}")],
    [("Authorization", "Bearer {ada}"), ("X-API-Key", "{ada}")],
    [("Cookie", "session={ada}")],
    [("Authorization", "Bearer {ada}{ada}")],
    [("X-API-Key", "\xff\xfe")],
]
NO_KEYS: list[Any] = [
    {},
    {"name": ""},
    {"name": "x" * 300},
    {"name": "x", "scopes": "tools:read"},
    {"name": "x", "scopes": ["a b"]},
    {"name": "x", "networks": ["nowhere"]},
    {"name": "x", "networks": []},
    {"name": "x", "limits": "1/s"},
    {"name": "x", "limits": ["often"]},
    {"name": "x", "limits": ["unlimited"]},
    {"name": "x", "limits": ["-1/s"]},
    {"name": "x", "limits": ["1/s"] * 2},
    {"name": "x", "limits": [f"{number}: 1/s" for number in range(6)]},
    {"name": "x", "expires_at": "2000-01-01T00:00:00Z"},
    {"name": "x", "expires_at": "2990-01-01T00:00:00"},
    {"name": "x", "org_id": "1"},
    {"name": "x", "more": 1},
    {"name": "x\u0000"},
]
NO_BODIES: list[tuple[bytes, str, int, str]] = [
    (b"[1]", "application/json", 400, "must be a JSON object"),
    (b"{", "application/json", 400, "no JSON"),
    (b'{"name": "\\ud800"}', "application/json", 400, "half of a surrogate pair"),
    (b'{"name": "\\ud83d \\n"}', "application/json", 400, "half of a surrogate pair"),
    (b'{"name": "\xed\xa0\x80"}', "application/json", 400, "not UTF-8, at byte 10"),
    (b"[" * 100, "application/json", 400, "nested deeper than 32 levels"),
    (b'{"name": ' * 40 + b"1" + b"}" * 40, "application/json", 400, "nested deeper than 32 levels"),
    (b'{"name": "' + b"[" * 100, "application/json", 400, "no JSON"),  # what stands in a text is not nested
    (b'{"name": "x"}', "text/plain", 415, "application/json"),
    (b'{"name": "x"}', "application/json; charset=latin-1", 415, "UTF-8"),
]


async def test_nobody_gets_in_without_saying_who_he_is_once(world: World) -> None:
    for headers in OF_NOBODY:
        ready = [
            (name.encode(), value.replace("{ada}", world.tokens["ada"]).encode("latin-1")) for name, value in headers
        ]
        for method, path in (("GET", PATH), ("POST", PATH), ("DELETE", f"{PATH}/{uuid4()}")):
            answer = await world.client.request(method, path, headers=ready)
            assert answer.status_code == 401, headers
            assert "www-authenticate" in answer.headers


async def test_a_key_that_cannot_be_is_refused_and_says_why(world: World) -> None:
    for given in NO_KEYS:
        answer = await world.client.post(
            PATH,
            content=json.dumps(given),
            headers={"Authorization": f"Bearer {world.tokens['ada']}", "Content-Type": "application/json"},
        )
        assert answer.status_code == 422, given
        assert answer.json()["detail"]
    for content, media_type, expected, told in NO_BODIES:
        headers = {"Authorization": f"Bearer {world.tokens['ada']}", "Content-Type": media_type}
        for path in (PATH, f"{PATH}/{uuid4()}/rotate"):
            answer = await world.client.post(path, content=content, headers=headers)
            assert (answer.status_code, told in answer.json()["detail"]) == (expected, True), answer.text
    assert (await world.ask("ada", "GET")).json()["data"] == []


async def test_what_is_no_id_and_no_grace_is_refused(world: World) -> None:
    _, made = await world.key("ada")
    assert (await world.ask("ada", "GET", f"{PATH}/nonsense")).status_code == 422
    assert (await world.ask("ada", "GET", f"{PATH}?org=nonsense")).status_code == 422
    assert (await world.ask("ada", "GET", f"{PATH}?more=1")).status_code == 422
    for grace in ("soon", "-1s", "9999999d", ""):
        answer = await world.ask("ada", "POST", f"{PATH}/{made['id']}/rotate", json={"grace": grace})
        assert answer.status_code == 422, grace


async def test_the_answers_are_as_they_are_described(world: World) -> None:
    document = (await world.client.get("/openapi.json")).json()
    validate(document)
    _, made = await world.key("ada")
    schemas = {"$defs": document["components"]["schemas"]}

    def fits(answer: httpx.Response, path: str, method: str) -> None:
        described = document["paths"][path][method]["responses"][str(answer.status_code)]["content"]
        shape = described[answer.headers["content-type"]]["schema"]
        text = json.dumps({**shape, **schemas}).replace("#/components/schemas/", "#/$defs/")
        Draft202012Validator(json.loads(text)).validate(answer.json())

    one = f"{PATH}/{made['id']}"
    fits(await world.ask("ada", "GET"), PATH, "get")
    fits(await world.ask("ada", "POST", json={"name": "y"}), PATH, "post")
    fits(await world.ask("ada", "POST", json={}), PATH, "post")
    fits(await world.ask("nobody", "GET"), PATH, "get")
    fits(await world.ask("ada", "GET", one), PATH + "/{id}", "get")
    fits(await world.ask("ada", "POST", f"{one}/rotate"), PATH + "/{id}/rotate", "post")
    fits(await world.ask("ada", "DELETE", one), PATH + "/{id}", "delete")
    assert set(document["components"]["securitySchemes"]) == {"bearer", "key", "signature"}


async def test_keys_of_who_left_an_organisation_open_nothing_and_make_no_more(world: World) -> None:
    org = str(world.ids["acme"])
    ours, made = await world.key("ada", org_id=org, scopes=["api-keys:*"])
    mine, _ = await world.key("ada", scopes=["api-keys:*"])
    assert (await world.ask(ours, "GET")).status_code == 200
    for role in ("viewer", None):
        async with world.hold.unit(tenant=world.ids["acme"]) as unit:
            await unit.execute(
                "DELETE FROM organization_members WHERE role = 'viewer' AND user_id = :ada"
                if role is None
                else "UPDATE organization_members SET role = 'viewer' WHERE user_id = :ada",
                {"ada": world.ids["ada"].hex if world.hold.store.dialect == "sqlite" else world.ids["ada"]},
            )
        for method, path, given in (("GET", PATH, None), ("POST", PATH, {"name": "x", "scopes": ["api-keys:read"]})):
            answer = await world.ask(ours, method, path, json=given)
            assert (answer.status_code, "member" in answer.text) == (401, False)
        refused = await world.ask("ada", "POST", json={"name": "x", "org_id": org})
        assert refused.status_code == (403 if role else 404)
        assert (await world.ask("ada", "POST", f"{PATH}/{made['id']}/rotate")).status_code == (403 if role else 404)
    assert (await world.ask(mine, "GET")).status_code == 200
    assert (await world.ask("bob", "GET", f"{PATH}?org={org}")).json()["data"] == []
    [dead] = (await world.ask("bob", "GET", f"{PATH}?org={org}&dead=true")).json()["data"]
    assert dead["is_held"] is False


async def test_a_key_is_taken_from_its_own_header_too_and_from_its_networks_alone(world: World) -> None:
    async with world.hold.unit(tenant=ALL) as unit:
        here = await create_api_key(
            world.hold, unit, name="here", user_id=world.ids["ada"], scopes=("*",), networks=("127.0.0.0/8",)
        )
        away = await create_api_key(
            world.hold, unit, name="away", user_id=world.ids["ada"], scopes=("*",), networks=("192.0.2.0/24",)
        )
    assert (await world.client.get(PATH, headers={"X-API-Key": here.text})).status_code == 200
    assert (await world.client.get(PATH, headers={"X-API-Key": away.text})).status_code == 403


async def test_who_asks_too_often_is_told_when_he_may_again(world: World) -> None:
    key, _ = await world.key("ada", scopes=["api-keys:*"])
    seen = await world.ask(key, "GET")
    assert seen.headers["ratelimit-policy"] == '"per-minute";q=60;w=60'
    left = int(seen.headers["x-ratelimit-remaining"])
    for _ in range(left):
        assert (await world.ask(key, "GET")).status_code == 200
    refused = await world.ask(key, "GET")
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert (await world.ask("ada", "GET")).status_code == 429  # it is the user who has the limit, not the key
    assert (await world.ask("bob", "GET")).status_code == 200
    assert (await world.ask(key, "GET", "/v1/resources")).status_code == 200  # what is not limited is not counted


async def test_a_key_has_limits_of_its_own_beside_those_of_its_tier(world: World) -> None:
    key, made = await world.key("ada", scopes=["api-keys:*"], limits=["3/minute", "burst: 100/10s"])
    other, _ = await world.key("ada", scopes=["api-keys:*"], limits=["2/minute"])
    assert made["limits"] == ["3/minute", "burst: 100/10s"]
    first = await world.ask(key, "GET")
    assert [one["limits"] for one in first.json()["data"]] == [["2/minute"], ["3/minute", "burst: 100/10s"]]
    policy = '"per-minute";q=60;w=60, "key-per-minute";q=3;w=60, "key-burst";q=100;w=10'
    assert first.headers["ratelimit-policy"] == policy
    assert (first.headers["x-ratelimit-limit"], first.headers["x-ratelimit-remaining"]) == ("3", "2")
    assert [(await world.ask(key, "GET")).status_code for _ in range(3)] == [200, 200, 429]
    refused = await world.ask(key, "GET")
    assert refused.headers["ratelimit"].startswith('"key-per-minute";r=0;t=')
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert "key-per-minute" in refused.json()["detail"]
    # What a key was denied costs its user nothing, and another key has its own.
    assert [(await world.ask(other, "GET")).status_code for _ in range(3)] == [200, 200, 429]
    used = 2 + 3 + 2  # two made, and what was let through
    assert (await world.ask("ada", "GET")).headers["x-ratelimit-remaining"] == str(60 - used - 1)
    # The tier's limit holds for a key that says more.
    async with world.hold.unit(tenant=ALL) as unit:
        wide = await create_api_key(
            world.hold, unit, name="wide", user_id=world.ids["eve"], scopes=("*",), limits=("1000/minute",)
        )
    answers = [(await world.ask(wide.text, "GET")).status_code for _ in range(61)]
    assert answers == [200] * 60 + [429]


async def test_limits_of_a_key_are_kept_through_rotation_and_are_not_escaped_by_another_key(world: World) -> None:
    key, made = await world.key("ada", org_id=str(world.ids["acme"]), scopes=["api-keys:*"], limits=["1/minute"])
    assert (await world.ask(key, "POST", json={"name": "x"})).status_code == 403
    assert (await world.ask(key, "POST", f"{PATH}/{made['id']}/rotate", json={})).status_code == 429
    rotated = (await world.ask("ada", "POST", f"{PATH}/{made['id']}/rotate", json={"grace": "1h"})).json()
    assert rotated["data"]["limits"] == ["1/minute"]
    assert [(await world.ask(rotated["key"], "GET")).status_code for _ in range(2)] == [200, 429]
    listed = (await world.ask("ada", "GET", f"{PATH}?org={world.ids['acme']}")).json()["data"]
    assert [one["limits"] for one in listed] == [["1/minute"]] * 2
    plain, row = await world.key("ada")
    assert row["limits"] is None
    facts = await world.hold.keys.verify(plain)
    assert facts.limits is None


async def test_an_organisation_has_so_many_requests_a_month(world: World) -> None:
    async with world.hold.unit(tenant=ALL) as unit:
        await unit[Organization].update(world.ids["acme"], tier="enterprise", max_requests_per_month=3)
    key, _ = await world.key("ada", org_id=str(world.ids["acme"]), scopes=["api-keys:*"])
    answers = [await world.ask(key, "GET") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["ratelimit"].startswith('"month";r=2;')
    async with world.hold.unit(tenant=ALL) as unit:
        await unit[Organization].update(world.ids["acme"], max_requests_per_month=100)
    assert (await world.ask(key, "GET")).status_code == 200


async def test_who_is_not_active_is_let_in_no_more(world: World) -> None:
    mine, _ = await world.key("ada", scopes=["api-keys:*"])
    ours, _ = await world.key("ada", scopes=["api-keys:*"], org_id=str(world.ids["acme"]))
    assert [(await world.ask(who, "GET")).status_code for who in ("ada", mine, ours)] == [200, 200, 200]
    async with world.hold.unit(tenant=ALL) as unit:
        await unit[Organization].update(world.ids["acme"], is_active=False)
    assert [(await world.ask(who, "GET")).status_code for who in ("ada", mine, ours)] == [200, 200, 401]
    async with world.hold.unit(tenant=ALL) as unit:
        await unit[Organization].update(world.ids["acme"], is_active=True)
        await unit[User].update(world.ids["ada"], is_active=False)
    assert [(await world.ask(who, "GET")).status_code for who in ("ada", mine, ours)] == [401, 401, 401]


async def test_what_is_done_with_keys_and_what_is_denied_is_on_record(world: World) -> None:
    hold = world.hold
    await hold.follow()
    key, made = await world.key("ada", org_id=str(world.ids["acme"]), scopes=["api-keys:read"])
    assert (await world.ask("bob", "DELETE", f"{PATH}/{made['id']}")).status_code == 403
    assert (await world.ask(key, "DELETE", f"{PATH}/{made['id']}")).status_code == 403
    assert (await world.ask("hold_live_nobody", "DELETE", f"{PATH}/{made['id']}")).status_code == 401
    for _ in range(61):
        last = await world.ask("eve", "GET")
    assert last.status_code == 429
    await hold.audit.caught_up()
    records = [one async for one in export(hold.store, hold.audit.tables)]
    [request] = [one for one in records if one.action == "request"]
    [insert] = [one for one in records if one.target_id == made["id"] and one.action == "insert"]
    assert request.request_id == insert.request_id is not None
    assert (insert.tenant, insert.actor) == (str(world.ids["acme"]), str(world.ids["ada"]))
    denied = {(one.action, one.actor, one.tenant) for one in records if one.outcome == "denied"}
    ada, bob, eve = (str(world.ids[name]) for name in ("ada", "bob", "eve"))
    assert denied == {("api-keys revoke", bob, ""), ("key", ada, str(world.ids["acme"])), ("api-keys list", eve, "")}
    assert not (await hold.audit.verify()).faults
