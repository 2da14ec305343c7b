"""Hostile requests: every parameter, member and header of every operation with every value of the lists: no failure
inside, no word of the inside, nothing of another's, and the tables stand as they stood."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from devservers import PostgresServer
from holdfast import ALL
from holdfast.http.writing import Writing
from tests.http.conformance import filled
from tests.http.press import Press, press_at

pytestmark = pytest.mark.asyncio(loop_scope="module")

INJECTION = (
    *("'", '"', "''", "`", "\\", "\\'", "%27", "%2527", "--", "#", "/*", "*/", ";", "||", "0x27", "\u02bc", "\uff07"),
    *("' OR '1'='1", "' OR 1=1--", '" OR ""="', "1 OR 1=1", "1' OR '1'='1' /*", "') OR ('1'='1", "admin'--"),
    *(
        "1; DROP TABLE press_articles",
        "'; DROP TABLE press_articles; --",
        "1; SELECT pg_sleep(9)--",
        "'||pg_sleep(9)--",
    ),
    *("' UNION SELECT NULL,NULL--", "1 UNION SELECT lookup FROM api_keys", "' AND 1=CAST(version() AS int)--"),
    *("${jndi:ldap://x}", "{{7*7}}", "$(id)", "`id`", "; cat /etc/passwd", "../../etc/passwd", "%n%s%x", "(SELECT 1)"),
    *("words; --", "words,(SELECT 1)", "-words NULLS FIRST", "id) FROM press_salaries--", "rowid", "sqlite_version()"),
)
NAUGHTY = (
    *("", " ", "\t", "\n", "\r\n", "\0", "\x01", "\x7f", "\u0085", "\u00a0", "\u200b", "\u202e", "\u2028", "\ufeff"),
    *("undefined", "null", "None", "nil", "NaN", "-NaN", "Infinity", "-Infinity", "true", "True", "(null)", "\\N"),
    *("0", "-0", "+1", "1e1000", "-1e-1000", "1.", ".5", "0x1F", "0b1", "1_000", "1,000", "٣", "Ⅷ", "½", "1\u0660"),
    *(str(2**31), str(2**63), str(-(2**63) - 1), str(2**64), str(2**256), "9" * 500, "0" * 500, "1" + "0" * 4_400),
    *("0000-00-00", "10000-01-01", "2026-02-30T25:61:61Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"),
    *("2026-W01-1", "20260131T120000Z", "2026-01-01T00:00:00,5Z", "12:00", "-2026-01-01T00:00:00Z"),
    *(
        "ÅÍÎÏ˝ÓÔ",
        "田中さん",
        "パーティー",
        "🏳️‍🌈",
        "Z̮̞̠͙͔ͅḀ̗̞͈̻̗A̶L̝̣",
        "ﷺ" * 50,
        "\U0010ffff",
        "\ufffe",
        "\ue000",
        "مرحبا",
        "a\u0301" * 200,
    ),
    *("<script>alert(1)</script>", "javascript:alert(1)", '"><img src=x>', "<!--#exec cmd=x-->", "&lt;", "]]>"),
    *("../" * 20, "..%2f" * 9, "%00", "%", "%zz", "%c0%ae", "\\\\server\\share", "CON", "file:///etc/passwd", "//x"),
    *("a" * 300, "a," * 200, ",", "[]", "{}", "a[b]", "a[]", "[in]", "__proto__", "constructor", "__class__"),
    *("00000000-0000-0000-0000-000000000000", "g" * 32, "urn:uuid:0", "{0}", 'W/"1"', '"1"', "*"),
)
VALUES = (*INJECTION, *NAUGHTY)
INSIDE = (
    *(
        "Traceback",
        "sqlalchemy",
        "asyncpg",
        "sqlite3",
        "aiosqlite",
        "SELECT ",
        "INSERT ",
        "UPDATE press",
        "site-packages",
    ),
    *("press_articles", "press_memos", "press_salaries", "api_keys.", "lookup", "pepper", "hold_live_", "syntax error"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def press(postgres_server: PostgresServer) -> AsyncIterator[Press]:
    """A newspaper with rows, one of which is somebody else's; on PostgreSQL, which takes less than SQLite does."""
    with postgres_server.database() as url:
        async with press_at(url, key_guesses="unlimited") as made:
            await filled(made)
            await made.ask("bob", "POST", "memos", json={"title": "bob's own"})
            yield made


class Judge:
    """Looks at answers: what was wrong with which request."""

    def __init__(self) -> None:
        self.asked = 0
        self.wrong: list[str] = []

    def judge(self, request: str, answer: httpx.Response, given: str = "") -> None:
        """Note what is wrong with an answer. What was given may come back, and nothing more may."""
        self.asked += 1
        text = answer.text
        for part in (given, json.dumps(given)[1:-1], repr(given)[1:-1], quote(given)):
            text = text.replace(part, "") if len(part) > 3 else text
        leaks = [word for word in INSIDE if word in text and word not in given]
        if answer.status_code >= 500 or leaks or "bob's own" in text:
            self.wrong.append(f"{request}: {answer.status_code} {leaks} {answer.text[:300]}")
        if answer.status_code >= 400 and answer.headers.get("content-type") != "application/problem+json":
            self.wrong.append(f"{request}: {answer.status_code} is no problem")


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of what may be asked from elsewhere."""
    for path, methods in document["paths"].items():
        if path not in ("/v1/stream",) and not path.startswith("/admin"):
            for method, operation in methods.items():
                yield method.upper(), path, operation


async def test_every_parameter_with_every_value(press: Press) -> None:
    document = (await press.client.get("/openapi.json")).json()
    judge, key = Judge(), {"X-API-Key": press.keys["ada"]}
    values = itertools.cycle(VALUES)
    for method, path, operation in operations(document):
        if method != "GET":
            continue
        for parameter in operation.get("parameters", []):
            # Each value for what is read by rules of its own, and for others the next ones of the list.
            several = parameter["name"] in ("sort", "after", "headline", "words", "printed_at", "title", "key")
            for value in VALUES if several and "articles" in path else [next(values) for _ in range(4)]:
                place = path.replace("{key}", "x").replace("{id}", "x")
                if parameter["in"] == "path":
                    answer = await press.client.get(path.partition("{")[0] + quote(value, safe=""), headers=key)
                elif parameter["in"] == "query":
                    answer = await press.client.get(
                        f"{place}?{quote(parameter['name'])}={quote(value, safe='')}", headers=key
                    )
                else:
                    raw = [(parameter["name"].encode(), value.encode()), (b"x-api-key", key["X-API-Key"].encode())]
                    answer = await press.client.get(place, headers=raw)
                judge.judge(f"{method} {path} {parameter['name']}={value[:60]!r}", answer, value)
    assert judge.wrong == []
    assert judge.asked > 600
    await still_stands(press)


async def test_every_member_with_every_value(press: Press) -> None:
    judge = Judge()
    article = (await press.ask("ada", "POST", "articles", json={"headline": "target"})).json()["data"]["id"]
    columns = ("headline", "slug", "words", "rating", "worth", "price", "urgent", "printed_at", "day", "state", "cover")
    others: tuple[Any, ...] = (None, True, 0, -1, 1.5, 1e308, 2**63, 10**400, [], {}, [[]], {"a": None}, [1, "2"])
    values: list[Any] = [*VALUES, *others]
    turns, members = itertools.cycle(VALUES), itertools.cycle(("id", "version", "draft", "created_by"))
    for name in (*columns, "details", "desk_id"):
        is_read_whole = name in ("headline", "printed_at")
        for value in values if is_read_whole else [*others, *(next(turns) for _ in range(20))]:
            answer = await press.ask("ada", "PATCH", f"articles/{article}", json={name: value})
            judge.judge(f"PATCH {name}={str(value)[:60]!r}", answer, value if isinstance(value, str) else "")
    for value in VALUES:
        answer = await press.ask("ada", "PATCH", f"articles/{article}", json={value: 1, "details": {value: [value]}})
        judge.judge(f"PATCH member {value[:60]!r}", answer, value)
        refused = await press.ask("ada", "PATCH", f"articles/{article}", json={next(members): value})
        assert refused.status_code == 422
    assert judge.wrong == []
    await still_stands(press)


def bombs() -> Iterator[bytes]:
    """Bodies that are small to send and dear to read."""
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}"), (b'{"details":[', b"]}")):
        for depth in (33, 1_000, 12_000):
            yield opening * depth + b"1" + closing * depth
            yield opening * depth
    yield b'{"details": [' + b"{}," * 20_000 + b"{}]}"
    yield b'{"details": {' + b",".join(b'"%d":0' % n for n in range(5_000)) + b"}}"
    yield b'{"details": ' + b"9" * 60_000 + b"}"
    yield b'{"rating": 1e' + b"9" * 5_000 + b"}"
    yield b'{"headline": "' + b"\\u0000" * 9_000 + b'"}'
    yield b'{"headline": "\\ud800"}'
    yield b'{"headline": "\\ud800\\u0041", "details": {"\\udfff": 1}}'
    yield b'{"headline": "a", "headline": "b", "__proto__": {}}'
    yield b"\xff\xfe{\x00}\x00"
    yield b"\xef\xbb\xbf{}"
    yield b" " * 60_000 + b"{}"
    yield b'{"headline": "x"}' * 2
    yield b"\x1f\x8b\x08\x00"


async def test_bombs(press: Press) -> None:
    judge = Judge()
    for body in bombs():
        for method, path, kind in (
            ("POST", "articles", "application/json"),
            ("PATCH", "articles/x", "application/merge-patch+json"),
        ):
            answer = await press.ask("ada", method, path, content=body, headers={"Content-Type": kind})
            judge.judge(f"{method} {body[:40]!r}", answer, "x" * 4)
    packed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    judge.judge("gzip", await press.ask("ada", "POST", "articles", content=b"\x1f\x8b\x08\x00", headers=packed))
    keys = await press.client.post(
        "/v1/api-keys",
        content=b"[" * 60_000,
        headers={"X-API-Key": press.keys["ada"], "Content-Type": "application/json"},
    )
    judge.judge("api-keys", keys)
    assert judge.wrong == []
    await still_stands(press)


async def test_what_a_person_says_of_himself(press: Press) -> None:
    judge = Judge()
    headers = {"X-API-Key": press.keys["eve"]}
    consents, erasure = "/v1/privacy/consents", "/v1/privacy/erasure"
    for value in VALUES:
        plain = {"purpose": "news", "text": "We write.", "source": "web"}
        for name in plain:
            answer = await press.client.post(consents, json={**plain, name: value}, headers=headers)
            judge.judge(f"consent {name}={value[:60]!r}", answer, value)
        answer = await press.client.delete(f"{consents}/{quote(value, safe='')}", headers=headers)
        judge.judge(f"withdraw {value[:60]!r}", answer, value)
        answer = await press.client.post(erasure, json={"confirm": value, "reason": value}, headers=headers)
        judge.judge(f"erase {value[:60]!r}", answer, value)
        assert answer.status_code == 422
    for body in bombs():
        for path in (consents, erasure):
            sent = {**headers, "Content-Type": "application/json"}
            answer = await press.client.post(path, content=body, headers=sent)
            judge.judge(f"{path} {body[:40]!r}", answer, "x" * 4)
            assert 400 <= answer.status_code < 500
    assert judge.wrong == []
    assert (await press.client.get("/v1/privacy/export", headers=headers)).status_code == 200
    await still_stands(press)


SMUGGLED: tuple[tuple[list[tuple[bytes, bytes]], int | None], ...] = (
    ([(b"content-length", b"5"), (b"content-length", b"6")], 400),
    ([(b"content-length", b"5"), (b"transfer-encoding", b"chunked")], 400),
    ([(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"identity")], 400),
    ([(b"content-length", b"+5")], 400),
    ([(b"content-length", b"5, 5")], 400),
    ([(b"content-length", b"0x5")], 400),
    ([(b"content-length", "٥".encode())], 400),
    ([(b"content-length", b"-1")], 400),
    ([(b"content-length", b"9" * 40)], 413),
    ([(b"host", b"a"), (b"host", b"b")], 400),
    ([(b"content-type", b"application/json"), (b"content-type", b"text/plain")], 400),
    # What a proxy may have been told and we must not believe.
    ([(b"x-http-method-override", b"DELETE")], None),
    ([(b"x-method-override", b"DELETE"), (b"x-http-method", b"DELETE")], None),
    ([(b"x-original-url", b"/admin/cache/metrics"), (b"x-rewrite-url", b"/metrics/redis")], None),
    ([(b"x-forwarded-for", b"127.0.0.1"), (b"x-forwarded-host", b"evil.example")], None),
    ([(b"x-forwarded-prefix", b"//evil.example"), (b"forwarded", b"for=127.0.0.1")], None),
    ([(b"connection", b"x-api-key"), (b"upgrade", b"h2c")], None),
    ([(b"x-request-id", b"a\r\nSet-Cookie: x=1")], None),
    ([(b"x-request-id", b"\x00\xff" * 10)], None),
    ([(b"origin", b"https://evil.example"), (b"cookie", b"session=1")], None),
    ([(b"if-match", b'"' + b"x" * 5_000)], None),
    ([(b"if-none-match", b'"a",' * 3_000)], None),
    ([(b"idempotency-key", b"a"), (b"idempotency-key", b"b")], None),
    ([(b"x" * 8_000, b"y")], None),
)


async def test_headers_that_say_two_things_and_headers_that_are_not_believed(press: Press) -> None:
    judge = Judge()
    article = (await press.ask("ada", "POST", "articles", json={"headline": "stays"})).json()["data"]["id"]
    for headers, status in SMUGGLED:
        names = {name for name, _ in headers}
        for method, path in (("GET", f"/v1/resources/articles/{article}"), ("POST", "/v1/resources/articles")):
            given = [*headers, (b"x-api-key", press.keys["ada"].encode())]
            given += [] if b"host" in names else [(b"host", b"holdfast.test")]
            scope: dict[str, Any] = {"method": method, "path": path, "headers": given}
            answer = await called(press, scope)
            judge.judge(f"{method} {headers}", answer)
            if status is not None:
                assert answer.status_code == status, headers
            assert "evil.example" not in str(answer.headers)
            assert "set-cookie" not in answer.headers
    assert judge.wrong == []
    assert (await press.client.get(f"/v1/resources/articles/{article}")).status_code == 200
    # Two who say who they are, or one who says it in two ways, are nobody.
    for two in (["x-api-key", "x-api-key"], ["x-api-key", "authorization"]):
        answer = await press.client.request(
            "DELETE", f"/v1/resources/articles/{article}", headers=[(name, press.keys["ada"]) for name in two]
        )
        assert answer.status_code == 401


async def called(press: Press, given: dict[str, Any]) -> httpx.Response:
    """The answer of the application to a request that no client of ours would send."""
    transport: Any = press.client._transport
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "query_string": b"",
        "root_path": "",
        "client": ("192.0.2.1", 1),
        "server": ("holdfast.test", 80),
        **given,
    }
    scope["raw_path"] = scope["path"].encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await transport.app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=body)


async def still_stands(press: Press) -> None:
    """The tables are there, and what is another's is as it was."""
    async with press.hold.read(tenant=ALL) as unit:
        for table in ("press_articles", "press_memos", "press_salaries", "api_keys"):
            assert (await unit.execute(f"SELECT count(*) FROM {table}")).scalar_one() >= 0
        assert (await unit.execute("SELECT title FROM press_memos WHERE title LIKE 'bob%'")).scalar_one() == "bob's own"


async def test_what_leaks_is_seen(press: Press, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge()

    def telling(self: Writing, error: Exception, *, deleting: bool = False) -> None:
        raise RuntimeError("not translated")

    monkeypatch.setattr(Writing, "conflict", telling)
    judge.judge("conflict", await press.ask("ada", "POST", "desks", json={"room": 1}))
    judge.judge("words", httpx.Response(409, json={"detail": "UNIQUE failed: press_articles.slug"}))
    judge.judge("another's", httpx.Response(200, json={"data": [{"title": "bob's own"}]}))
    assert len(judge.wrong) == 4
