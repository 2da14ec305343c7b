"""Pages of other origins: let in by name, and never anywhere else."""

import httpx
import pytest

from holdfast import Holdfast
from holdfast.errors import ConfigurationError
from holdfast.http import create_app
from holdfast.http.cors import origins_of
from tests.backends import settings_for
from tests.http.conftest import client_of
from tests.http.library import LibraryModel

ASKED = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization"}


def allowed(answer: httpx.Response) -> dict[str, str]:
    return {
        n: v for n, v in answer.headers.items() if n.startswith("access-control-") and n != "access-control-max-age"
    }


async def test_a_page_may_ask_where_its_origin_is_named(sqlite_url: str) -> None:
    settings = settings_for(sqlite_url, cors_origins="https://app.example, http://localhost:3000")
    async with await Holdfast.open(settings=settings, metadata=LibraryModel.metadata) as hold:
        app = create_app(hold)
        async with client_of(app) as client:
            for origin in ("https://app.example", "http://localhost:3000"):
                got = await client.get("/v1/resources/books", headers={"Origin": origin})
                assert got.status_code == 200
                assert got.headers["access-control-allow-origin"] == origin
                assert "ETag" in got.headers["access-control-expose-headers"]
                assert got.headers["vary"] == "Origin"
                first = await client.options("/v1/resources/books/1", headers={"Origin": origin, **ASKED})
                assert first.status_code == 204
                assert "PATCH" in first.headers["access-control-allow-methods"]
                assert "Authorization" in first.headers["access-control-allow-headers"]
                assert "access-control-allow-credentials" not in first.headers
                missing = await client.get("/v1/nothing", headers={"Origin": origin})
                assert (missing.status_code, missing.headers["access-control-allow-origin"]) == (404, origin)
            for origin in (
                "https://app.example.evil",
                "https://APP.example",
                "null",
                "https://app.example/",
                "",
                "x\xff",
            ):
                for method in ("GET", "OPTIONS"):
                    headers = [(b"origin", origin.encode("latin-1")), (b"access-control-request-method", b"GET")]
                    answer = await client.request(method, "/v1/resources/books", headers=headers)
                    assert allowed(answer) == {}, origin
                    assert answer.headers["vary"] == "Origin"
            for path in ("/", "/health", "/metrics", "/admin/cache/metrics"):
                assert allowed(await client.get(path, headers={"Origin": "https://app.example"})) == {}
        await app.state.live.close()


@pytest.mark.parametrize(
    "text",
    ["*", "https://*.example", "app.example", "https://app.example/", "https://a b", "null", "ftp://x", "https://"],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no origin"):
        origins_of(f"https://fine.example, {text}")
    assert origins_of(" , ") == frozenset()
