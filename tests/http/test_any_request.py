"""Whatever a request holds: an answer or a refusal, never a failure."""

import random
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import InvalidValue
from holdfast.http import parameters
from holdfast.http.exposed import Resource, resources_of
from tests.apps.payments import payment
from tests.http.agents import agents_client
from tests.http.library import Book, Shelf

BOOKS = resources_of([Book, Shelf])["books"]
HOSTILE = (
    *(
        "",
        "0",
        "-1",
        "1.5",
        "1e400",
        "-1e400",
        "NaN",
        "inf",
        "0x10",
        "٣",
        "1_000",
        " 1",
        "+1",
        "%00",
        "null",
        "true",
        "TRUE",
    ),
    *(str(2**31), str(2**63 - 1), str(2**63), str(-(2**63)), str(2**256 - 1), str(2**256), "9" * 400),
    *(
        "0001-01-01",
        "9999-12-31",
        "9999-12-31T23:59:59.999999Z",
        "2026-02-29",
        "2026-01-01T00:00:00+23:59",
        "1970-01-01T00:00:00-23:59",
    ),
    *(
        "00000000-0000-0000-0000-000000000000",
        "{0}",
        "a" * 5_000,
        "a,b,,c",
        ",",
        "'; DROP TABLE agents; --",
        "\\",
        "%",
        "_",
    ),
    *("\u202e", "\ud7ff", "\U0010ffff", "<script>", "../..", "{{7*7}}", "${7*7}", "\r\nX: y", "😀"),
)


@given(st.binary(max_size=400) | st.text(alphabet="&=%[],+aeiltrs0123456789", max_size=200).map(str.encode))
def test_any_query_string_is_read_or_refused(query: bytes) -> None:
    told = ""
    try:
        BOOKS.query(parameters.pairs(query))
    except InvalidValue as refused:
        told = str(refused)
    assert len(told) < 1_500


@given(st.sampled_from(sorted(BOOKS.list_parameters)), st.text(max_size=60))
def test_any_value_of_any_parameter_is_read_or_refused_by_name(name: str, value: str) -> None:
    told = name
    try:
        query, _ = BOOKS.query([(name, value)])
        str(query.build())
    except InvalidValue as refused:
        told = str(refused)
    assert name in told


@pytest.mark.parametrize("seed", [1])
async def test_no_request_fails_inside(database_url: str, seed: int) -> None:
    draw = random.Random(seed)
    async with agents_client(database_url, [payment(n) for n in range(3)]) as (_, client):
        document = (await client.get("/openapi.json")).json()
        failed = []
        for path, names in described(document):
            for _ in range(12):
                chosen = draw.sample(names, min(len(names), draw.choice([1, 1, 2, 3])))
                query = "&".join(f"{quote(name)}={quote(draw.choice(HOSTILE))}" for name in chosen)
                url = f"{path.replace('{key}', quote(draw.choice(HOSTILE), safe=''))}?{query}"
                answer = await client.get(url)
                if answer.status_code not in (200, 404, 414, 422):
                    failed.append((url, answer.status_code))
        assert failed == []


def described(
    document: dict[str, dict[str, dict[str, dict[str, list[dict[str, str]]]]]],
) -> Iterator[tuple[str, list[str]]]:
    """Every path with the names of its query parameters."""
    for path, operations in document["paths"].items():
        if path != "/v1/stream" and "get" in operations:
            named = [p["name"] for p in operations["get"].get("parameters", []) if p["in"] == "query"]
            yield path, [*named, "surprise"]


def test_a_resource_is_made_of_its_declaration_alone() -> None:
    assert isinstance(BOOKS, Resource)
    assert {column for column, _ in BOOKS.filters.values()} == set(BOOKS.expose.filters)
