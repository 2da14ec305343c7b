"""What holds for every request: limits, ids, headers, methods, problems."""

import re
from collections.abc import AsyncIterator
from urllib.parse import urljoin

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from holdfast import Holdfast, Settings
from holdfast.cache.statistics import Statistics
from holdfast.errors import StoreError, Unavailable
from holdfast.http import create_app
from tests.http.conftest import client_of
from tests.http.library import LibraryModel
from tests.logs import capture_logs

ADDRESSES = (
    "/",
    "/overview",
    "/health",
    "/metrics",
    "/v1/status",
    "/v1/resources",
    "/v1/resources/books",
    "/openapi.json",
)


@pytest.fixture
async def hold(sqlite_url: str) -> AsyncIterator[Holdfast]:
    """An empty library."""
    async with await Holdfast.open(sqlite_url, metadata=LibraryModel.metadata, migrate=True) as hold:
        yield hold


@pytest.fixture
async def client(hold: Holdfast) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    app = create_app(hold)
    async with client_of(app) as client:
        yield client
    await app.state.live.close()


@pytest.mark.parametrize(
    "path", [*ADDRESSES, "/nothing", "/static/overview.css", "/static/nothing", "/v1/resources/books?x=1"]
)
async def test_every_answer_protects_a_browser(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in answer.headers
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_a_page_of_another_origin_is_given_no_leave_to_read(client: httpx.AsyncClient) -> None:
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
    answer = await client.options("/v1/resources/books", headers=asked)
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("given", "taken"),
    [("abc-123.x:y_z", True), ("a" * 128, True), ("a" * 129, False), ("a b", False), ("x\ty", False)],
)
async def test_a_sane_request_id_is_taken_over_and_another_is_replaced(
    client: httpx.AsyncClient, given: str, taken: bool
) -> None:
    answer = await client.get("/nothing", headers={"X-Request-ID": given})
    assert (answer.headers["x-request-id"] == given) is taken
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_a_problem_has_the_members_of_rfc_9457(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/resources/books", params={"colour": "red"})
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "instance", "request_id"}
    assert (problem["type"], problem["status"]) == ("about:blank", 422)
    assert problem["instance"] == "/v1/resources/books"


@pytest.mark.parametrize("path", ADDRESSES)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
async def test_a_method_that_is_not_taken_is_told_which_are(client: httpx.AsyncClient, path: str, method: str) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    assert answer.json()["status"] == 405


@pytest.mark.parametrize("path", [*ADDRESSES, "/v1/stream"])
async def test_head_is_get_without_the_body_and_options_lists_the_methods(client: httpx.AsyncClient, path: str) -> None:
    head = await client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    if path in ("/v1/resources", "/v1/resources/books", "/openapi.json"):  # the others differ from one to the next
        got = await client.get(path)
        assert head.headers["content-length"] == str(len(got.content))
    options = await client.options(path)
    assert (options.status_code, options.headers["allow"], options.content) == (204, "GET, HEAD, OPTIONS", b"")


@pytest.mark.parametrize(
    ("url", "headers", "status"),
    [
        ("/v1/resources/books?title=" + "a" * 25_000, {}, 414),
        ("/v1/resources/" + "a" * 2_100, {}, 414),
        ("/health", {"Content-Length": "65537"}, 413),
        ("/health", {"Content-Length": "9" * 5_000}, 413),
        ("/health", {"Content-Length": "-1"}, 400),
        ("/health?x=1", {}, 422),
        ("/metrics?x=1", {}, 422),
        ("/?x=1", {}, 422),
        ("/openapi.json?x=1", {}, 422),
        ("/v1/stream?x=1", {}, 422),
    ],
)
async def test_what_is_too_much_or_unknown_is_refused(
    client: httpx.AsyncClient, url: str, headers: dict[str, str], status: int
) -> None:
    answer = await client.get(url, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


async def test_a_body_without_an_announced_length_is_bounded_too(hold: Holdfast) -> None:
    from holdfast.http.edge import Edge

    read = []

    async def greedy(scope: object, receive: object, send: object) -> None:
        while True:
            message = await receive()  # type: ignore[operator]
            read.append(len(message["body"]))
            if not message["more_body"]:
                raise AssertionError("the whole body was read")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield b"x" * 10_000

    app = Edge(greedy, route_of=lambda scope: "", observe=lambda *given: None, counted=Statistics())  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://holdfast.test") as client:
        answer = await client.post("/", content=endless())
    assert answer.status_code == 413
    assert sum(read) <= 65_536


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (Unavailable("db.internal cannot be reached"), 503, "cannot be reached just now"),
        (StoreError("SELECT secret_column broke"), 500, "request_id"),
        (ZeroDivisionError("secret_column"), 500, "request_id"),
    ],
)
async def test_what_fails_inside_is_told_only_where_the_caller_can_act_on_it(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, told: str
) -> None:
    async def fail(*given: object, **named: object) -> None:
        raise error

    monkeypatch.setattr("holdfast.store.Repository.page", fail)
    answer = await client.get("/v1/resources/books")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert told in answer.json()["detail"]
    assert "secret_column" not in answer.text
    assert answer.headers.get("retry-after") == ("1" if status == 503 else None)
    assert "default-src 'self'" in answer.headers["content-security-policy"]


async def test_the_access_log_has_no_query(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        await client.get("/v1/resources/books", params={"title": "my secret"})
    (entry,) = [line for line in logs if line["event"] == "request"]
    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/v1/resources/books", 200)
    assert "secret" not in str(logs)


async def test_it_works_when_mounted_in_another_application(hold: Holdfast) -> None:
    app = create_app(hold)
    outer = Starlette(routes=[Mount("/data", app)])
    async with client_of(outer) as client:
        assert (await client.get("/data/health")).status_code == 200
        page = await client.get("/data/")
        assert page.status_code == 200
        links = re.findall(r'(?:href|src)="([^"]+)"', page.text)
        assert links
        assert not [link for link in links if link.startswith(("/", "http"))]
        for link in links:
            if not link.startswith(("#", "?")):
                assert (await client.get(urljoin("/data/", link))).status_code == 200, link
        listed = (await client.get("/data/v1/resources")).json()["data"]
        assert [r["href"] for r in listed] == ["/data/v1/resources/shelves", "/data/v1/resources/books"]
        missing = await client.get("/data/nothing")
        assert (missing.status_code, missing.json()["instance"]) == (404, "/data/nothing")
    await app.state.live.close()


async def test_files_outside_the_pages_own_are_not_served(client: httpx.AsyncClient) -> None:
    for path in (
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/",
    ):
        answer = await client.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_name_that_is_not_ours_is_not_answered(hold: Holdfast) -> None:
    async with client_of(create_app(hold, hosts=("localhost", "127.0.0.1", "::1"))) as client:
        for url in (
            "http://localhost/health",
            "http://127.0.0.1:8000/health",
            "http://[::1]:8000/",
            "http://LOCALHOST/",
        ):
            assert (await client.get(url)).status_code == 200, url
        for url in ("http://evil.example/health", "http://localhost.evil.example/", "http://127.0.0.2/v1/resources"):
            answer = await client.get(url)
            assert (answer.status_code, answer.headers["content-type"]) == (421, "application/problem+json"), url


async def test_a_host_header_that_is_none_is_no_failure(hold: Holdfast) -> None:
    for hosts, status in (((), 404), (("localhost",), 421)):
        async with client_of(create_app(hold, hosts=hosts)) as client:
            for host in ("", "[", "[::1", "a b", "localhost:x", "::", "%"):
                answer = await client.get("/nothing", headers={"Host": host})
                assert answer.status_code == status, host


async def test_an_application_can_open_and_close_its_database_itself(sqlite_url: str) -> None:
    hold = Holdfast(Settings.from_environment(database_url=sqlite_url), metadata=LibraryModel.metadata)
    app = create_app(hold, open_on_startup=True)
    async with app.router.lifespan_context(app), client_of(app) as client:
        assert (await client.get("/v1/resources/books")).json() == {"data": [], "next": None}
    with pytest.raises(Unavailable, match="closed"):
        async with hold.unit():
            pass
