"""Services that sign their requests: nothing counts those, and everything else is as for who has the key."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio

from holdfast import ALL, Holdfast
from holdfast.apps.accounts import Organization, OrganizationMember, User
from holdfast.apps.accounts.api_keys import create_api_key
from holdfast.guard.services import SIGNATURE, Services, sign
from holdfast.http import create_app
from tests.http.press import Press, press_at
from tests.http.served import serve

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECRET = "s" * 32
CREDENTIAL = {"key": "mcp", "secret": SECRET}
MEMOS = "/v1/resources/memos"
KEYS = "/v1/api-keys"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def press(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Press]:
    """Where organisations of the tier free may ask once an hour."""
    url = f"sqlite:///{tmp_path_factory.mktemp('signed') / 'press.db'}"
    async with press_at(url, service_keys=f"mcp:{SECRET}", limits="free=1/hour") as made:
        yield made


async def limited(hold: Holdfast, scopes: tuple[str, ...] = ("*",)) -> tuple[str, str]:
    """A key that may ask once an hour, and a token of its user, who may as well; both have."""
    async with hold.unit(tenant=ALL) as unit:
        user = await unit[User].add(User(external_id=f"limited {time.perf_counter_ns()}"))
        organization = await unit[Organization].add(Organization(name="Initech"))
        token = (await hold.sessions.begin(unit, user.id)).token
        await unit[OrganizationMember].add(OrganizationMember(org_id=organization.id, user_id=user.id, role="owner"))
        made = await create_api_key(hold, unit, name="ci", user_id=user.id, org_id=organization.id, scopes=scopes)
    await hold.limits.hit(f"org:{organization.id}", limits="1/hour")
    await hold.limits.hit(f"user:{user.id}", limits="1/hour")
    return made.text, token


async def ask(press: Press, method: str, target: str, key: str, body: bytes = b"", **given: Any) -> httpx.Response:
    """The answer to a request that is signed for `given`, or carries `signature` as it is."""
    signature = given.pop("signature", None) or sign(method, target, body, **{**CREDENTIAL, **given})
    headers = {"Authorization": f"Bearer {key}", SIGNATURE: signature}
    if body:
        headers["Content-Type"] = "application/json"
    return await press.client.request(method, target, content=body, headers=headers)


async def test_what_a_service_signs_is_not_counted(press: Press) -> None:
    for who in await limited(press.hold):
        assert (await press.client.get(KEYS, headers={"Authorization": f"Bearer {who}"})).status_code == 429
        for _ in range(3):
            answer = await ask(press, "GET", KEYS, who)
            assert answer.status_code == 200, answer.text
            assert not [name for name in answer.headers if "ratelimit" in name]
    key, _ = await limited(press.hold)
    made = await ask(press, "POST", MEMOS, key, json.dumps({"title": "signed | sealed"}).encode())
    assert made.status_code == 201, made.text
    for target in (MEMOS, f"{MEMOS}?title=signed%20%7C+sealed&limit=5", made.headers["location"]):
        assert (await ask(press, "GET", target, key)).status_code == 200
    read = (await ask(press, "GET", made.headers["location"], key)).json()["data"]
    assert UUID(read["id"])
    assert (await press.client.get(MEMOS, headers={"X-API-Key": key})).status_code == 429


async def test_whom_it_asks_for_may_no_more_than_before(press: Press) -> None:
    key, _ = await limited(press.hold, ("articles:read",))
    assert (await ask(press, "GET", MEMOS, key)).status_code == 403
    assert (await ask(press, "GET", MEMOS, "nobody")).status_code == 401
    nobody = await press.client.get(MEMOS, headers={SIGNATURE: sign("GET", MEMOS, **CREDENTIAL)})
    assert (nobody.status_code, "say who you are" in nobody.json()["detail"]) == (401, True)


async def test_a_signature_that_is_not_right_is_refused(press: Press) -> None:
    key, _ = await limited(press.hold)
    used = sign("GET", MEMOS, **CREDENTIAL)
    assert (await ask(press, "GET", MEMOS, key, signature=used)).status_code == 200
    wrong: list[tuple[str, str]] = [
        (used, "used before"),
        (sign("GET", f"{MEMOS}?limit=1", **CREDENTIAL), "is wrong"),
        (sign("POST", MEMOS, **CREDENTIAL), "is wrong"),
        (sign("GET", MEMOS, b"{}", **CREDENTIAL), "is wrong"),
        (sign("GET", MEMOS, key="mcp", secret="t" * 32), "is wrong"),
        (sign("GET", MEMOS, key="billing", secret=SECRET), "no such key"),
        (sign("GET", MEMOS, now=time.time() - 3_600, **CREDENTIAL), "clocks may differ"),
        ("v1.mcp.nonsense", "malformed"),
        ("", "malformed"),
    ]
    for signature, reason in wrong:
        headers = {"X-API-Key": key, SIGNATURE: signature}
        refused = await press.client.get(MEMOS, headers=headers)
        assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json"), reason
        assert reason in refused.json()["detail"]
        assert SECRET not in refused.text
    twice = [(SIGNATURE, sign("GET", MEMOS, **CREDENTIAL)), (SIGNATURE, sign("GET", MEMOS, **CREDENTIAL))]
    assert (await press.client.get(MEMOS, headers=[("X-API-Key", key), *twice])).status_code == 401


async def test_a_body_that_was_changed_on_the_way_is_refused(press: Press) -> None:
    key, _ = await limited(press.hold)
    signature = sign("POST", MEMOS, b'{"title": "one"}', **CREDENTIAL)
    assert (await ask(press, "POST", MEMOS, key, b'{"title": "two"}', signature=signature)).status_code == 401
    assert (await ask(press, "POST", MEMOS, key, b'{"title": "one"}', signature=signature)).status_code == 201


async def test_a_checker_that_takes_anything_is_found_out(press: Press, monkeypatch: pytest.MonkeyPatch) -> None:
    async def anything(*given: Any) -> str:
        return "mcp"

    monkeypatch.setattr(Services, "verify", anything)
    with pytest.raises(AssertionError):
        await test_a_signature_that_is_not_right_is_refused(press)


async def test_what_is_signed_is_what_a_server_gets(press: Press) -> None:
    key, _ = await limited(press.hold)
    app = create_app(press.hold)
    async with serve(app) as url, httpx.AsyncClient(base_url=url) as client:
        for target in (MEMOS, f"{MEMOS}?title=a%20b%7Cc&limit=1", f"{MEMOS}/{'%41' * 3}"):
            headers = {"X-API-Key": key, SIGNATURE: sign("GET", target, **CREDENTIAL)}
            answer = await client.get(target, headers=headers)
            assert answer.status_code == (404 if "%41" in target else 200), answer.text


async def test_it_is_in_the_description(press: Press) -> None:
    document = (await press.client.get("/openapi.json")).json()
    assert document["components"]["securitySchemes"]["signature"]["name"] == SIGNATURE
    for path in (MEMOS, KEYS):
        assert {"key": [], "signature": []} in document["paths"][path]["get"]["security"]
