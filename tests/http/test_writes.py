"""Writing resources over HTTP: what may be set, what is answered, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from sqlalchemy import select

from devservers import PostgresServer
from holdfast import ALL
from holdfast.apps.accounts.api_keys import create_api_key
from holdfast.apps.accounts.models import ApiKeyUse, UsageLog, User
from holdfast.guard.audit.export import export
from holdfast.guard.idempotency import Answers, answers
from holdfast.guard.keys.text import new_key
from holdfast.migrate import roles
from holdfast.store import Store
from tests.backends import BACKENDS, settings_for
from tests.http.press import Memo, Press, PressArticle, PressDesk, press_at

pytestmark = pytest.mark.asyncio(loop_scope="module")
MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BACKENDS)
async def press(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> AsyncIterator[Press]:
    """One newspaper for these tests, on each backend; each test writes rows of its own."""
    with contextlib.ExitStack() as stack:
        if request.param == "postgres":
            url = stack.enter_context(postgres_server.database())
        else:
            url = f"sqlite:///{tmp_path_factory.mktemp('press') / 'press.db'}"
        async with press_at(url) as made:
            yield made


FULL: dict[str, Any] = {
    "slug": "tides",
    "headline": "The tides — tomorrow",
    "words": 2**40,
    "column_width": -3,
    "rating": 4.5,
    "worth": str(2**256 - 1),
    "price": "12.50",
    "urgent": True,
    "printed_at": "2026-01-31T12:30:15.250000Z",
    "day": "2026-01-31",
    "state": "ready",
    "cover": "AP8=",
    "details": {"tags": ["sea", {"deep": None}], "pages": 3},
}


async def test_a_row_from_its_making_to_its_end(press: Press) -> None:
    before = await press.hold.journal.make_tick()
    made = await press.ask("ada", "POST", "articles", json=FULL)
    assert made.status_code == 201, made.text
    row = made.json()["data"]
    assert {name: row[name] for name in FULL} == FULL
    assert (row["version"], row["created_by"]) == (1, str(press.users["ada"]))
    assert "draft" not in row
    place = made.headers["location"]
    assert place == f"/v1/resources/articles/{row['id']}"
    got = await press.client.get(place)
    assert (got.json(), got.headers["etag"]) == (made.json(), made.headers["etag"])
    assert made.headers["etag"].startswith('"1.')

    patch = {"headline": "Ebb", "worth": None, "details": {"pages": None, "more": {"a": 1, "b": None}}, "words": 3.0}
    changed = await press.ask("ada", "PATCH", f"articles/{row['id']}", content=json.dumps(patch), headers=MERGE)
    assert changed.status_code == 200, changed.text
    now = changed.json()["data"]
    assert (now["headline"], now["worth"], now["words"], now["version"]) == ("Ebb", None, 3, 2)
    assert now["details"] == {"tags": ["sea", {"deep": None}], "more": {"a": 1}}
    assert now["slug"] == "tides"
    got = await press.client.get(place)
    assert (got.json(), got.headers["etag"]) == (changed.json(), changed.headers["etag"])

    nothing = await press.ask("ada", "PATCH", f"articles/{row['id']}", json={})
    assert (nothing.status_code, nothing.json()) == (200, changed.json())
    gone = await press.ask("ada", "DELETE", f"articles/{row['id']}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await press.client.get(place)).status_code == 404
    for method in ("PATCH", "DELETE"):
        assert (await press.ask("ada", method, f"articles/{row['id']}", json={})).status_code == 404

    # Who did it, and in which request, is in the journal.
    pages = press.hold.journal.read(before, await press.hold.journal.make_tick(), tables=["press_articles"])
    changes = [change async for page in pages for change in page.changes]
    events = [change for change in changes if UUID(change.key) == UUID(row["id"])]
    assert [change.op for change in events] == ["insert", "update", "delete"]
    assert {change.actor for change in events} == {str(press.users["ada"])}
    assert events[0].request == made.headers["x-request-id"]


WRONG: tuple[tuple[dict[str, Any], set[str]], ...] = (
    ({}, {"#/headline"}),
    ({"headline": None}, {"#/headline"}),
    ({"headline": 7, "words": "7", "rating": "x", "urgent": 1}, {"#/headline", "#/words", "#/rating", "#/urgent"}),
    ({"headline": "x", "words": 2**63}, {"#/words"}),
    ({"headline": "x", "words": 1.5, "column_width": 40_000}, {"#/words", "#/column_width"}),
    ({"headline": "x", "words": True}, {"#/words"}),
    ({"headline": "x" * 201}, {"#/headline"}),
    ({"headline": "a\0b", "details": {"a": ["\0"]}}, {"#/headline", "#/details"}),
    ({"headline": "x", "worth": 5, "price": 12.5}, {"#/worth", "#/price"}),
    ({"headline": "x", "worth": "-5", "price": "1234567.00"}, {"#/worth", "#/price"}),
    ({"headline": "x", "worth": str(2**256), "price": "1.005"}, {"#/worth", "#/price"}),
    ({"headline": "x", "printed_at": "2026-01-31T12:00:00", "day": "2026-02-29"}, {"#/printed_at", "#/day"}),
    ({"headline": "x", "state": "gone", "cover": "!!"}, {"#/state", "#/cover"}),
    ({"headline": "x", "desk_id": "nothing"}, {"#/desk_id"}),
    ({"headline": "x", "rating": 10**400}, {"#/rating"}),
    ({"headline": "x", "id": str(uuid4()), "version": 9, "draft": "x"}, {"#/id", "#/version", "#/draft"}),
    ({"headline": "x", "created_by": "me", "a/b~c ": 1}, {"#/created_by", "#/a~1b~0c%20"}),
)


async def test_what_is_wrong_is_told_field_by_field(press: Press) -> None:
    for given, pointers in WRONG:
        answer = await press.ask("ada", "POST", "articles", json=given)
        assert answer.status_code == 422, given
        assert answer.headers["content-type"] == "application/problem+json"
        assert {fault["pointer"] for fault in answer.json()["errors"]} == pointers, given
        assert all(fault["detail"] for fault in answer.json()["errors"])
    many = await press.ask("ada", "POST", "articles", json={f"n{n}": 1 for n in range(500)})
    assert len(many.json()["errors"]) == 50


BODIES: tuple[tuple[bytes, str, int], ...] = (
    (b'{"headline": "x"}', "text/plain", 415),
    (b'{"headline": "x"}', "", 415),
    (b'{"headline": "x"}', "application/json; charset=utf-16", 415),
    (b'{"headline": "x"}', "application/x-www-form-urlencoded", 415),
    (b'{"headline": "x"}', "application/merge-patch+json", 415),
    (b'{"headline": ', "application/json", 400),
    (b"", "application/json", 400),
    (b"[]", "application/json", 400),
    (b"null", "application/json", 400),
    (b'{"headline": NaN}', "application/json", 400),
    (b'{"headline": "\xff"}', "application/json", 400),
    (b'{"details": ' * 40 + b"1" + b"}" * 40, "application/json", 400),
    (b'{"details": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", "application/json", 400),
    (b'{"headline": "' + b"x" * 66_000 + b'"}', "application/json", 413),
)


async def test_a_body_that_is_none_or_too_much_is_refused(press: Press) -> None:
    for data, kind, status in BODIES:
        headers = {"Content-Type": kind} if kind else {}
        answer = await press.ask("ada", "POST", "articles", content=data, headers=headers)
        assert answer.status_code == status, (data[:40], kind, answer.text)
        assert answer.json()["status"] == status
    taken = await press.ask("ada", "POST", "articles", content=b"x", headers={"Content-Type": "text/plain"})
    assert taken.headers["accept-post"] == "application/json"
    deep = {"headline": "deep", "details": _nested(30)}
    assert (await press.ask("ada", "POST", "articles", json=deep)).status_code == 201
    deep["details"] = _nested(32)
    assert (await press.ask("ada", "POST", "articles", json=deep)).status_code == 400


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


async def test_what_conflicts_is_told_by_its_fields_and_without_sql(press: Press) -> None:
    desk = (await press.ask("ada", "POST", "desks", json={"room": 77})).json()["data"]
    first = await press.ask("ada", "POST", "articles", json={"headline": "a", "slug": "taken", "desk_id": desk["id"]})
    assert first.status_code == 201
    other = (await press.ask("ada", "POST", "articles", json={"headline": "b"})).json()["data"]["id"]
    conflicts: tuple[tuple[str, str, dict[str, Any], list[str]], ...] = (
        ("POST", "articles", {"headline": "c", "slug": "taken"}, ["#/slug"]),
        ("PATCH", f"articles/{other}", {"slug": "taken"}, ["#/slug"]),
        ("POST", "articles", {"headline": "c", "desk_id": str(uuid4())}, ["#/desk_id"]),
        ("POST", "articles", {"headline": "c", "words": -1}, ["#/words"]),
        ("PATCH", f"articles/{other}", {"words": -1}, ["#/words"]),
        ("POST", "desks", {"room": 77}, ["#/room"]),
        ("DELETE", f"desks/{desk['id']}", {}, []),
    )
    for method, path, given, pointers in conflicts:
        answer = await press.ask("ada", method, path, json=given)
        assert answer.status_code == 409, (method, path, answer.text)
        assert [fault["pointer"] for fault in answer.json().get("errors", [])] == pointers
        told = answer.text.lower()
        assert not [word for word in ("insert", "update ", "constraint", "press_", "uq_", "ck_", "sql") if word in told]
    unless = await press.ask("ada", "POST", "desks", json={"room": 77}, headers={"If-None-Match": "*"})
    assert unless.status_code == 412
    assert (await press.ask("ada", "DELETE", "desks/77")).status_code == 409
    assert (await press.ask("ada", "GET", "desks/77")).json()["data"]["name"] == "nameless"


async def test_nobody_overwrites_what_he_has_not_seen(press: Press) -> None:
    made = await press.ask("ada", "POST", "articles", json={"headline": "first"})
    path, tag = f"articles/{made.json()['data']['id']}", made.headers["etag"]
    for fits in (tag, '"1"', f'"x", {tag}', "*"):
        same = await press.ask("ada", "PATCH", path, json={"words": 0}, headers={"If-Match": fits})
        assert same.status_code == 200, fits
    for other in ('"2"', '"0.abc"', f"W/{tag}", "nonsense", "", '"', '"1'):
        for method in ("PATCH", "DELETE"):
            answer = await press.ask("ada", method, path, json={"words": 9}, headers={"If-Match": other})
            assert (answer.status_code, answer.headers["etag"]) == (412, tag), (method, other)
    assert (await press.ask("ada", "PATCH", path, json={}, headers={"If-None-Match": f"W/{tag}"})).status_code == 412
    # Of two who have seen the same, one is told that he has not seen the other's.
    both = [press.ask("ada", "PATCH", path, json={"words": n}, headers={"If-Match": tag}) for n in (5, 6)]
    statuses = sorted([answer.status_code for answer in await asyncio.gather(*both)])
    assert statuses == [200, 412]
    assert (await press.ask("", "GET", path)).json()["data"]["version"] == 2
    # Rows without a version are compared as a whole.
    desk = await press.ask("ada", "POST", "desks", json={"room": 78})
    assert (await press.ask("ada", "DELETE", "desks/78", headers={"If-Match": '"1"'})).status_code == 412
    gone = await press.ask("ada", "DELETE", "desks/78", headers={"If-Match": desk.headers["etag"]})
    assert gone.status_code == 204


async def test_where_the_policy_says_so_he_must_say_what_he_has_seen(press: Press) -> None:
    made = await press.ask("ada", "POST", "memos", json={"title": "m1"})
    path = f"memos/{made.json()['data']['id']}"
    for method in ("PATCH", "DELETE"):
        assert (await press.ask("ada", method, path, json={"title": "x"})).status_code == 428
    changed = await press.ask("ada", "PATCH", path, json={"title": "m2"}, headers={"If-Match": made.headers["etag"]})
    assert changed.status_code == 200
    assert (await press.ask("ada", "GET", path)).headers["etag"] == changed.headers["etag"]
    gone = await press.ask("ada", "DELETE", path, headers={"If-Match": changed.headers["etag"]})
    assert gone.status_code == 204
    assert (await press.ask("ada", "GET", path)).status_code == 404
    async with press.hold.read(tenant=ALL) as unit:
        kept = await unit[Memo].first(unit[Memo].query().only_deleted().where(Memo.title == "m2"))
        assert kept is not None
    # What was deleted softly takes no name from anybody.
    assert (await press.ask("ada", "POST", "memos", json={"title": "m2"})).status_code == 201
    assert (await press.ask("ada", "POST", "memos", json={"title": "m2"})).status_code == 409


async def test_a_request_that_is_sent_again_is_answered_again(press: Press) -> None:
    key = {"Idempotency-Key": "2b3d-1"}
    given = {"headline": "once"}
    first = await press.ask("ada", "POST", "articles", json=given, headers=key)
    again = await press.ask("ada", "POST", "articles", json=given, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    for name in ("location", "etag", "content-type"):
        assert again.headers[name] == first.headers[name]
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (None, "true")
    other = await press.ask("ada", "POST", "articles", json={"headline": "twice"}, headers=key)
    assert (other.status_code, "another request" in other.json()["detail"]) == (422, True)
    assert (await press.ask("ada", "POST", "desks", json={"room": 500}, headers=key)).status_code == 422
    # It is the caller's own: another one's key of the same name is another.
    theirs = await press.ask("bob", "POST", "articles", json=given, headers=key)
    assert (theirs.status_code, theirs.json()["data"]["id"] != first.json()["data"]["id"]) == (201, True)
    assert (await press.ask("reader", "POST", "articles", json=given, headers=key)).status_code == 403
    # What was refused did nothing, and may be sent again under its key.
    refused = {"Idempotency-Key": "2b3d-2"}
    assert (await press.ask("ada", "POST", "articles", json={}, headers=refused)).status_code == 422
    assert (await press.ask("ada", "POST", "articles", json=given, headers=refused)).status_code == 201
    for bad in ("", "x" * 256, "a b", "\x7f"):
        answer = await press.ask("ada", "POST", "articles", json=given, headers={"Idempotency-Key": bad})
        assert answer.status_code == 422, bad
    # The answer outlives the row.
    assert (await press.ask("ada", "DELETE", f"articles/{first.json()['data']['id']}")).status_code == 204
    assert (await press.ask("ada", "POST", "articles", json=given, headers=key)).content == first.content


async def test_of_many_at_once_one_does_it(press: Press) -> None:
    key = {"Idempotency-Key": "at-once"}
    asked = [press.ask("ada", "POST", "articles", json={"headline": "at once"}, headers=key) for _ in range(8)]
    got = await asyncio.gather(*asked)
    assert {answer.status_code for answer in got} <= {201, 409}
    assert len({answer.content for answer in got if answer.status_code == 201}) == 1
    assert all(answer.headers["retry-after"] == "1" for answer in got if answer.status_code == 409)
    async with press.hold.read() as unit:
        assert await unit[PressArticle].count(unit[PressArticle].query().where(PressArticle.headline == "at once")) == 1


@pytest.mark.parametrize("press", ["postgres"], indirect=True)  # on SQLite the second one waits, and finds the answer
async def test_another_process_that_answers_is_not_waited_for(press: Press) -> None:
    caller = f"org:{press.orgs['acme']}"
    async with press.hold.unit(tenant=ALL) as unit:
        assert await Answers(press.hold.store).find(unit, caller, "elsewhere", b"") is None
        answer = await press.ask(
            "ada", "POST", "articles", json={"headline": "x"}, headers={"Idempotency-Key": "elsewhere"}
        )
        assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")


async def test_answers_are_kept_for_a_day_and_found_out_where_they_were_changed(press: Press) -> None:
    store = Answers(press.hold.store)
    for key in ("aged", "forged"):
        headers = {"Idempotency-Key": key}
        assert (await press.ask("ada", "POST", "articles", json={"headline": key}, headers=headers)).status_code == 201
    async with press.hold.unit() as unit:
        await unit.execute(answers.update().where(answers.c.key == "aged").values(ends=1))
        await unit.execute(answers.update().where(answers.c.key == "forged").values(body=b"{}"))
    forged = await press.ask(
        "ada", "POST", "articles", json={"headline": "forged"}, headers={"Idempotency-Key": "forged"}
    )
    assert forged.status_code == 409
    later = await press.ask("ada", "POST", "articles", json={"headline": "later"}, headers={"Idempotency-Key": "aged"})
    assert later.status_code == 201
    async with press.hold.unit() as unit:
        await unit.execute(answers.update().where(answers.c.key == "aged").values(ends=1))
    assert await store.prune() == 1
    assert await store.prune() == 0


async def test_who_may_what(press: Press) -> None:
    article = (await press.ask("ada", "POST", "articles", json={"headline": "x"})).json()["data"]["id"]
    memo = await press.ask("ada", "POST", "memos", json={"title": "who may"})
    mine, tag = f"memos/{memo.json()['data']['id']}", {"If-Match": memo.headers["etag"]}
    cases: tuple[tuple[str, str, str, int], ...] = (
        ("", "GET", "articles", 200),
        ("", "POST", "articles", 401),
        ("", "PATCH", f"articles/{article}", 401),
        ("", "DELETE", f"articles/{article}", 401),
        ("hold_live_nonsense", "POST", "articles", 401),
        ("reader", "POST", "articles", 403),
        ("reader", "PATCH", f"articles/{article}", 403),
        ("", "GET", "memos", 401),
        ("", "GET", mine, 401),
        ("reader", "GET", mine, 200),
        ("reader", "DELETE", mine, 403),
        ("reader", "PATCH", mine, 200),
        ("", "GET", "salaries", 401),
        ("reader", "GET", "salaries", 403),
        ("ada", "GET", "salaries", 200),
        ("ada", "POST", "salaries", 405),
        ("ada", "PATCH", "desks/1", 405),
        ("ada", "DELETE", "memos", 405),
        ("ada", "POST", "nothing", 404),
        # Another tenant's row is not there.
        ("bob", "GET", mine, 404),
        ("bob", "PATCH", mine, 404),
        ("bob", "DELETE", mine, 404),
        ("eve", "GET", mine, 404),
        ("eve", "PATCH", mine, 404),
    )
    for who, method, path, status in cases:
        given = {} if method in ("GET", "DELETE") else {"json": {"title": "who may"} if "memos" in path else {}}
        answer = await press.ask(who, method, path, headers=tag, **given)
        assert answer.status_code == status, (who, method, path, answer.text)
        if status == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (await press.ask("bob", "GET", "memos", params={"title": "who may"})).json()["data"] == []
    made = (await press.ask("bob", "POST", "memos", json={"title": "who may"})).json()["data"]
    assert made["org_id"] == str(press.orgs["globex"])
    for given in ({"title": "x", "org_id": str(press.orgs["acme"])},):
        assert (await press.ask("bob", "POST", "memos", json=given)).status_code == 422
    allowed = await press.client.options("/v1/resources/articles/x")
    assert allowed.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH"
    assert allowed.headers["accept-patch"] == "application/merge-patch+json, application/json"


async def test_what_is_there_for_whom_is_listed(press: Press) -> None:
    listed = (await press.client.get("/v1/resources")).json()["data"]
    needs = {resource["name"]: resource["needs_key"] for resource in listed}
    assert needs == {"desks": False, "articles": False, "memos": True, "salaries": True}
    assert {r["name"]: r["writes"] for r in listed if r["writes"]} == {
        "desks": ["create", "delete"],
        "articles": ["create", "update", "delete"],
        "memos": ["create", "update", "delete"],
    }


async def test_limits_and_usage_are_those_of_who_asks(press: Press) -> None:
    await press.hold.appends.flush()
    async with press.hold.unit(tenant=ALL) as unit:
        await unit.execute("DELETE FROM usage_logs")
        await unit.execute("UPDATE users SET tier = 'free' WHERE external_id = 'eve'")
        await unit.execute("UPDATE api_keys SET tier = 'free' WHERE name = 'eve'")
    await press.hold.cache.clear()
    answer = await press.ask("eve", "POST", "articles", json={"headline": "counted"})
    assert (answer.status_code, answer.headers["x-ratelimit-limit"]) == (201, "60")
    left = int(answer.headers["x-ratelimit-remaining"])
    statuses = [(await press.ask("eve", "POST", "articles", json={})).status_code for _ in range(left + 1)]
    assert statuses == [422] * left + [429]
    refused = await press.ask("eve", "GET", "salaries")
    assert (refused.status_code, "retry-after" in refused.headers) == (429, True)
    assert (await press.ask("eve", "GET", "articles")).status_code == 429  # what is open counts who says who he is
    assert (await press.ask("", "GET", "articles")).status_code == 200
    await press.hold.appends.flush()
    async with press.hold.read(tenant=ALL) as unit:
        rows = await unit.execute(
            "SELECT endpoint, method, status_code, error_message, count(*) AS n, count(user_id) AS users,"
            " count(api_key_id) AS keys, min(response_time_ms) AS ms FROM usage_logs GROUP BY 1, 2, 3, 4 ORDER BY 3"
        )
        logged = rows.all()
    assert [tuple(row)[:5] for row in logged] == [
        ("/v1/resources/articles", "POST", 201, None, 1),
        ("/v1/resources/articles", "POST", 422, "Unprocessable Entity", left),
    ]
    assert all(row.users == row.keys == row.n and row.ms >= 0 for row in logged)


async def test_all_that_is_written_is_described_and_the_answers_are_as_described(press: Press) -> None:
    document = (await press.client.get("/openapi.json")).json()
    validate(document)
    schemas = {"$defs": document["components"]["schemas"]}

    def fits(answer: Any, path: str, method: str) -> None:
        described = document["paths"][path][method]["responses"]
        assert str(answer.status_code) in described, (path, method, answer.status_code)
        if answer.status_code == 204:
            return
        response = described[str(answer.status_code)]
        if "$ref" in response:
            response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        shape = response["content"][answer.headers["content-type"]]["schema"]
        text = json.dumps({**shape, **schemas}).replace("#/components/schemas/", "#/$defs/")
        Draft202012Validator(json.loads(text)).validate(answer.json())
        wrong = Draft202012Validator(json.loads(text)).iter_errors({"data": {"surprise": 1}})
        assert list(wrong)

    many, one = "/v1/resources/articles", "/v1/resources/articles/{key}"
    made = await press.ask("ada", "POST", "articles", json={**FULL, "slug": None})
    path = f"articles/{made.json()['data']['id']}"
    fits(made, many, "post")
    fits(await press.ask("ada", "POST", "articles", json={}), many, "post")
    fits(await press.ask("", "POST", "articles", json={}), many, "post")
    fits(await press.ask("ada", "PATCH", path, json={"words": -1}), one, "patch")
    fits(await press.ask("ada", "PATCH", path, json={"words": 1}), one, "patch")
    fits(await press.ask("ada", "PATCH", path, json={}, headers={"If-Match": '"9"'}), one, "patch")
    fits(await press.ask("ada", "DELETE", path), one, "delete")
    fits(await press.ask("ada", "DELETE", path), one, "delete")
    memo = await press.ask("ada", "PATCH", "memos/x", json={})
    fits(memo, "/v1/resources/memos/{key}", "patch")
    assert memo.status_code == 428
    operation = document["paths"][many]["post"]
    assert operation["security"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert (await press.ask("ada", "POST", "articles", json=example)).status_code in (201, 409)
    created, patched = schemas["$defs"]["Create.articles"], schemas["$defs"]["Patch.articles"]
    assert created["required"] == ["headline"]
    assert set(created["properties"]) == set(patched["properties"]) == set(PressArticle.__policy__.aspects[0].writable)  # type: ignore[attr-defined]
    assert "required" not in patched
    assert "security" not in document["paths"][many]["get"]
    assert document["paths"]["/v1/resources/memos"]["get"]["security"]


async def test_who_says_who_he_is_is_known_where_anybody_may_read(press: Press) -> None:
    hold = press.hold
    async with hold.unit(tenant=ALL) as unit:
        cy = await unit[User].add(User(external_id="cy"))
        weak = await create_api_key(
            hold, unit, name="weak", user_id=cy.id, scopes=("nothing:read",), limits=("3/minute",)
        )
        away = await create_api_key(hold, unit, name="away", user_id=cy.id, scopes=("*",), networks=("192.0.2.0/24",))
    await press.ask("ada", "POST", "articles", json={"headline": "open", "day": "2026-01-01", "words": 1})
    [article] = (await press.ask("", "GET", "articles?limit=1")).json()["data"]
    open_to_all = ("articles", f"articles/{article['id']}")
    for path in open_to_all:
        nobody = await press.ask("", "GET", path)
        assert (nobody.status_code, "ratelimit" in nobody.headers) == (200, False)
        for wrong in ("hold_live_nonsense", new_key("hold", "live"), weak.text[:-1]):
            assert (await press.ask(wrong, "GET", path)).status_code == 401
        assert (await press.ask("", "GET", path, headers={"Authorization": "Basic YTpi"})).status_code == 401
        assert (await press.ask("", "GET", path, headers={"Holdfast-Signature": "v1.x"})).status_code == 401
        assert (await press.ask(away.text, "GET", path)).status_code == 403
    before = await used(press, weak.row.id)
    first = await press.ask(weak.text, "GET", open_to_all[0])  # it wants no scope, as from nobody
    assert '"key-per-minute";r=2' in first.headers["ratelimit"]
    assert first.json() == (await press.ask("", "GET", open_to_all[0])).json()
    assert (await press.ask(weak.text, "GET", open_to_all[1])).status_code == 200
    assert (await press.ask(weak.text, "GET", "articles/none")).status_code == 404  # what is not there counts too
    assert (await press.ask(weak.text, "GET", open_to_all[1])).status_code == 429
    await hold.counters.flush()
    await hold.appends.flush()
    assert await used(press, weak.row.id) - before == 4  # as often as it was verified, whatever its limits said
    async with hold.read(tenant=ALL) as unit:
        logged = await unit[UsageLog].list(unit[UsageLog].query().where(UsageLog.api_key_id == weak.row.id))
    assert sorted(one.status_code for one in logged) == [200, 200, 404]
    document = (await press.client.get("/openapi.json")).json()
    assert {"401", "403", "429"} <= document["paths"]["/v1/resources/articles"]["get"]["responses"].keys()


async def used(press: Press, key_id: UUID) -> int:
    """How often a key was used."""
    await press.hold.counters.flush()
    async with press.hold.read(tenant=ALL) as unit:
        return int((await unit.execute(select(ApiKeyUse.usage_count).where(ApiKeyUse.key_id == key_id))).scalar_one())


async def test_reads_can_be_closed_for_all(tmp_path: Path) -> None:
    async with press_at(f"sqlite:///{tmp_path / 'closed.db'}", http_reads="closed") as press:
        async with press.hold.unit() as unit:
            desk = await unit[PressDesk].add(PressDesk(room=1))
            unit.add(PressArticle(headline="x", desk_id=desk.id, day=dt.date(2026, 1, 1)))
        assert (await press.ask("", "GET", "articles")).status_code == 401
        assert (await press.ask("reader", "GET", "articles")).status_code == 200
        assert (await press.ask("reader", "GET", "articles", params={"include": "desk"})).status_code == 403
        assert (await press.ask("ada", "GET", "articles", params={"include": "desk"})).status_code == 200


async def test_answers_are_kept_under_row_security_too(postgres_server: PostgresServer) -> None:
    with postgres_server.database() as url:
        store = Store(settings_for(url))
        async with store.engine.begin() as connection:
            await roles.create(connection)
        await store.close()
        async with press_at(url, row_security=True) as press:
            for who in ("ada", "bob"):
                key = {"Idempotency-Key": "confined"}
                first = await press.ask(who, "POST", "memos", json={"title": "mine"}, headers=key)
                again = await press.ask(who, "POST", "memos", json={"title": "mine"}, headers=key)
                assert (first.status_code, again.status_code) == (201, 201), first.text
                assert again.content == first.content
                listed = (await press.ask(who, "GET", "memos")).json()["data"]
                assert [row["id"] for row in listed] == [first.json()["data"]["id"]]


async def test_what_is_written_and_what_is_denied_is_on_record(press: Press) -> None:
    hold = press.hold
    await hold.audit.start()
    sent = {"headers": {"User-Agent": "press/1", "X-Request-Id": "00000000000070008000000000000001"}}
    made = await press.ask("ada", "POST", "memos", json={"title": "on record"}, **sent)
    assert made.status_code == 201
    place = f"memos/{made.json()['data']['id']}"
    refused = await press.ask("reader", "DELETE", place, headers={"If-Match": made.headers["etag"]})
    assert refused.status_code == 403
    await hold.audit.caught_up()
    ours = [one async for one in export(hold.store, hold.audit.tables, tenant=str(press.orgs["acme"]))]
    [insert] = [one for one in ours if one.target_id == made.json()["data"]["id"]]
    assert (insert.action, insert.actor) == ("insert", str(press.users["ada"]))
    assert [one.action for one in ours if one.request_id == insert.request_id] == ["request", "insert"]
    denied = [one for one in ours if one.outcome == "denied" and one.actor == str(press.users["reader"])]
    assert any(one.action == "key" and "memos:admin" in str(one.reason) for one in denied)
