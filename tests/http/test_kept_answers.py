"""Answers and callers that are known already: they end when what they were made of does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from holdfast import ALL
from holdfast.apps.accounts import Organization, OrganizationMember, User
from holdfast.apps.accounts.api_keys import create_api_key
from holdfast.apps.accounts.models import ApiKey
from holdfast.cache.derived import Derived
from tests.http.press import Memo, Press, press_at

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def press(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Press]:
    async with press_at(f"sqlite:///{tmp_path_factory.mktemp('kept') / 'press.db'}") as made:
        yield made


async def memo(press: Press, title: str) -> UUID:
    async with press.hold.unit(tenant=press.orgs["acme"]) as unit:
        return (await unit[Memo].add(Memo(title=title))).id


async def someone(press: Press) -> tuple[str, dict[str, UUID]]:
    """The key of a new user in a new organisation, which have answered already, and the ids of all."""
    hold = press.hold
    async with hold.unit(tenant=ALL) as unit:
        user = await unit[User].add(User(external_id=f"somebody {len(press.users)}"))
        organization = await unit[Organization].add(Organization(name="Initech", tier="enterprise"))
        await unit[OrganizationMember].add(OrganizationMember(org_id=organization.id, user_id=user.id, role="owner"))
        key = await create_api_key(hold, unit, name="ci", user_id=user.id, org_id=organization.id, scopes=("*",))
        press.users[key.text] = user.id
        ids = {"user": user.id, "organization": organization.id, "key": key.row.id}
    for _ in range(3):
        assert (await press.ask(key.text, "GET", "memos")).status_code == 200
    return key.text, ids


async def test_an_answer_is_made_anew_when_its_row_changes(press: Press) -> None:
    place = f"memos/{await memo(press, 'tides')}"
    first = await press.ask("ada", "GET", place)
    assert (first.status_code, first.json()["data"]["title"]) == (200, "tides")
    again = await press.ask("ada", "GET", place)
    assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    told = await press.ask("ada", "GET", place, headers={"If-None-Match": f'"x", W/{first.headers["etag"]}'})
    assert (told.status_code, told.content, told.headers["etag"]) == (304, b"", first.headers["etag"])
    head = await press.ask("ada", "HEAD", place)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(first.content)))
    assert (await press.ask("ada", "GET", f"{place}?fields=title")).json()["data"].keys() == {"id", "title"}
    assert (await press.ask("ada", "GET", f"{place}?nothing=1")).status_code == 422

    changed = await press.ask("ada", "PATCH", place, json={"title": "ebb"}, headers={"If-Match": first.headers["etag"]})
    assert changed.status_code == 200
    after = await press.ask("ada", "GET", place)
    assert (after.json(), after.headers["etag"]) == (changed.json(), changed.headers["etag"])
    assert (await press.ask("ada", "DELETE", place, headers={"If-Match": after.headers["etag"]})).status_code == 204
    assert (await press.ask("ada", "GET", place)).status_code == 404


async def test_an_answer_is_for_those_whose_row_it_is(press: Press) -> None:
    row = await memo(press, "wages")
    for _ in range(2):
        assert (await press.ask("ada", "GET", f"memos/{row}")).status_code == 200
        assert (await press.ask("bob", "GET", f"memos/{row}")).status_code == 404
        assert (await press.ask("", "GET", f"memos/{row}")).status_code == 401
        assert (await press.ask("reader", "GET", f"memos/{row}")).status_code == 200
        assert (await press.ask("reader", "GET", "salaries")).status_code == 403
        written = await press.ask("ada", "GET", f"memos/{str(row).upper()}")
        assert written.status_code == 200


@pytest.mark.parametrize(
    ("whose", "values", "status"),
    [
        ("user", {"is_active": False}, 401),
        ("organization", {"is_active": False}, 401),
        ("organization", {"max_requests_per_month": 2}, 429),
    ],
)
async def test_a_caller_who_is_known_ends_with_what_is_known(
    press: Press, whose: str, values: dict[str, Any], status: int
) -> None:
    key, ids = await someone(press)
    model: Any = {"user": User, "organization": Organization}[whose]
    async with press.hold.unit(tenant=ALL) as unit:
        await unit[model].update(ids[whose], **values)
    assert (await press.ask(key, "GET", "memos")).status_code == status


async def test_a_key_that_was_taken_back_by_another_program_opens_nothing(press: Press) -> None:
    key, ids = await someone(press)
    async with press.hold.unit(tenant=ALL) as unit:
        await press.hold.keys.revoke(unit, ids["key"])
    assert (await press.ask(key, "GET", "memos")).status_code == 401
    other, ids = await someone(press)
    async with press.hold.store.connect(write=True) as connection:  # no unit of ours, and nobody here is told
        await connection.exec_driver_sql("DELETE FROM api_keys WHERE id = ?", (ids["key"].hex,))
    await press.hold.cache.renew()
    assert (await press.ask(other, "GET", "memos")).status_code == 401


async def test_what_a_known_caller_asks_is_counted(press: Press) -> None:
    key, ids = await someone(press)
    await press.hold.counters.flush()
    async with press.hold.read(tenant=ALL) as unit:
        [(row, use)] = await press.hold.keys.list(unit, org_id=ids["organization"])
    assert isinstance(row, ApiKey)
    assert use.usage_count == 3
    assert use.last_used_at is not None
    left = [int((await press.ask(key, "GET", "memos")).headers["x-ratelimit-remaining"]) for _ in range(2)]
    assert left[1] == left[0] - 1


async def test_what_is_given_without_a_look_is_found_out(press: Press, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(self: Derived[Any], key: Any) -> Any:
        found = self._kept.get(key)
        return None if found is None else found[0]

    monkeypatch.setattr(Derived, "get", careless)
    with pytest.raises(AssertionError):
        await test_a_key_that_was_taken_back_by_another_program_opens_nothing(press)
