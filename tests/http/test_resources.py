"""Resources as they follow from `Expose`, on every backend."""

import datetime as dt
from uuid import UUID

import httpx
import pytest

from holdfast import Expose, Holdfast, Policy
from holdfast.errors import ModelError
from holdfast.http import create_app
from holdfast.http.exposed import resources_of
from tests.http.conftest import U256, client_of
from tests.http.library import Book, Ledger, Loan, Shelf

PATH = "/v1/resources/books"


async def titles(client: httpx.AsyncClient, **query: str) -> list[str]:
    answer = await client.get(PATH, params=query)
    assert answer.status_code == 200, answer.text
    return [row["title"].partition(" ")[0].strip('<b>",') for row in answer.json()["data"]]


async def refusal(client: httpx.AsyncClient, url: str, **query: str) -> str:
    answer = await client.get(url, params=query or None)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    detail: str = answer.json()["detail"]
    return detail


async def test_a_row_shows_every_column_but_the_secret_ones(books: httpx.AsyncClient) -> None:
    answer = await books.get(PATH, params={"sort": "title", "limit": "10"})
    rows = {row["title"]: row for row in answer.json()["data"]}
    assert set(answer.json()) == {"data", "next"}
    assert answer.json()["next"] is None
    algae = rows["Algae"]
    assert list(algae) == [
        *("id", "title", "pages", "rating", "worth", "price", "lent", "printed", "state", "cover", "shelf_id")
    ]
    assert algae["worth"] == str(U256)
    assert UUID(algae["id"]).version == 7
    assert rows["Barnacles"]["printed"] == "2026-01-31T12:30:15.250000Z"
    assert rows["Corals"]["cover"] == "AP8="
    assert rows["Eelgrass, a life"]["price"] == "12.50"
    assert "hush" not in answer.text


async def test_filters_compare_by_the_type_of_the_column(books: httpx.AsyncClient) -> None:
    for query, found in FILTERS:
        assert sorted(await titles(books, **query)) == found, query


FILTERS: tuple[tuple[dict[str, str], list[str]], ...] = (
    ({"title": "Algae"}, ["Algae"]),
    ({"title[eq]": "Algae"}, ["Algae"]),
    ({"title[in]": "Algae,Corals,Nothing"}, ["Algae", "Corals"]),
    ({"title[ne]": "Algae", "pages": "80"}, ["Barnacles", "Corals"]),
    ({"pages[gt]": "120"}, ["Dulse", "Eelgrass"]),
    ({"pages[gte]": "120", "pages[lt]": "300"}, ["Algae"]),
    ({"pages[lte]": "80"}, ["Barnacles", "Corals"]),
    ({"pages": "1099511627776"}, ["Eelgrass"]),
    ({"rating[gte]": "4.5"}, ["Algae", "Eelgrass"]),
    ({"rating[ne]": "4.5"}, ["Barnacles", "Corals", "Dulse"]),
    ({"rating[null]": "true"}, ["Barnacles"]),
    ({"rating[null]": "false", "lent": "false"}, ["Corals", "Eelgrass"]),
    ({"worth": str(U256)}, ["Algae"]),
    ({"worth[gt]": "7", "worth[lt]": str(U256)}, ["Dulse", "Eelgrass"]),
    ({"worth[in]": "0,7"}, ["Barnacles", "Corals"]),
    ({"price[gt]": "12.49"}, ["Eelgrass"]),
    ({"lent": "true"}, ["Algae", "Dulse"]),
    ({"printed[lt]": "2026-02-01"}, ["Barnacles"]),
    ({"printed[gte]": "2026-02-01"}, ["Dulse"]),
    ({"printed": "2026-01-31T18:00:15.250+05:30"}, ["Barnacles"]),
    ({"state": "used"}, ["Corals"]),
    ({"state[ne]": "new", "pages": "80"}, ["Barnacles", "Corals"]),
)


@pytest.mark.parametrize(
    ("sort", "found"),
    [
        ("pages,-title", ["Corals", "Barnacles", "Algae", "Dulse", "Eelgrass"]),
        ("-rating,title", ["Algae", "Eelgrass", "Corals", "Dulse", "Barnacles"]),
        ("rating,title", ["Dulse", "Corals", "Algae", "Eelgrass", "Barnacles"]),
        ("-worth", ["Algae", "Dulse", "Eelgrass", "Barnacles", "Corals"]),
    ],
)
async def test_pages_follow_one_another_in_the_order_asked_for(
    books: httpx.AsyncClient, sort: str, found: list[str]
) -> None:
    assert await titles(books, sort=sort) == found
    seen: list[str] = []
    url: str | None = f"{PATH}?sort={sort}&limit=2&total=true"
    while url is not None:
        answer = await books.get(url)
        assert answer.json()["total"] == 5
        assert len(answer.json()["data"]) <= 2
        seen += [row["id"] for row in answer.json()["data"]]
        following = answer.links.get("next", {}).get("url")
        assert (following is None) == (answer.json()["next"] is None)
        url = following
    everything = await books.get(PATH, params={"sort": sort})
    assert seen == [row["id"] for row in everything.json()["data"]]


async def test_only_the_fields_asked_for_are_shown_and_the_cursor_still_works(books: httpx.AsyncClient) -> None:
    first = (await books.get(PATH, params={"fields": "title", "sort": "-pages", "limit": "1"})).json()
    assert [list(row) for row in first["data"]] == [["id", "title"]]
    query = {"fields": "title", "sort": "-pages", "limit": "1", "after": first["next"]}
    assert "Dulse" in (await books.get(PATH, params=query)).json()["data"][0]["title"]


async def test_related_rows_are_shown_where_they_are_asked_for(books: httpx.AsyncClient) -> None:
    shelves = (await books.get("/v1/resources/shelves", params={"include": "books", "sort": "room"})).json()["data"]
    assert [[book["title"] for book in shelf["books"]] for shelf in shelves] == [["Algae", "Barnacles"], []]
    assert "note" not in shelves[0]["books"][0]
    algae = (await books.get(PATH, params={"title": "Algae", "include": "shelf"})).json()["data"][0]
    assert algae["shelf"]["room"] == 1
    assert (await books.get(PATH, params={"title": "Corals", "include": "shelf"})).json()["data"][0]["shelf"] is None


async def test_more_related_rows_than_an_answer_may_have_are_refused(
    library: Holdfast, books: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.http.resources.MOST_INCLUDED", 1)
    told = await refusal(books, "/v1/resources/shelves", include="books")
    assert "more than 1 rows" in told
    assert PATH in told


async def test_one_row_is_found_by_its_id_or_its_key(books: httpx.AsyncClient) -> None:
    by_key = await books.get("/v1/resources/shelves/2")
    assert by_key.json()["data"]["room"] == 2
    by_id = await books.get(f"/v1/resources/shelves/{by_key.json()['data']['id']}", params={"fields": "room"})
    assert by_id.json() == {"data": {"id": by_key.json()["data"]["id"], "room": 2}}


async def test_what_is_not_there_is_a_404_with_a_reason(books: httpx.AsyncClient) -> None:
    for path in MISSING:
        answer = await books.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path
        problem = answer.json()
        assert (problem["status"], problem["title"]) == (404, "Not Found")
        assert len(problem["detail"]) > 20


MISSING = (
    "/v1/resources/shelves/7",
    "/v1/resources/shelves/not-a-number",
    "/v1/resources/shelves/99999999999999999999999999",
    "/v1/resources/shelves/",
    "/v1/resources/shelves/%00",
    "/v1/resources/books/Algae",
    "/v1/resources/books/01a1f9cb-1811-7000-8fbc-9c7e82e2b0f9",
    "/v1/resources/library_ledger",
    "/v1/resources/ledger",
    "/v1/resources/../../etc/passwd",
)


async def test_a_parameter_that_is_wrong_is_named_with_what_is_allowed(books: httpx.AsyncClient) -> None:
    for query, told in WRONG:
        detail = await refusal(books, f"{PATH}?{query}")
        assert [words for words in told if words not in detail] == [], (query, detail)


WRONG: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("colour=red", ("colour", "title", "pages")),
    ("note=hush", ("note",)),
    ("pages[like]=8", ("pages[like]", "pages[gte]")),
    ("title[gt]=A", ("title[gt]", "title[in]")),
    ("pages=many", ("pages='many'", "whole number")),
    ("pages=1e3", ("pages='1e3'", "whole number")),
    ("pages=9223372036854775808", ("9223372036854775808", "64-bit")),
    ("rating[gt]=nan", ("'nan'", "number")),
    ("rating=1_0", ("'1_0'", "number")),
    ("worth=-1", ("worth='-1'", str(U256))),
    (f"worth={U256 + 1}", ("from 0 to", str(U256))),
    ("worth=1.5", ("worth='1.5'", "whole number")),
    ("lent=yes", ("lent='yes'", "true or false")),
    ("rating[null]=1", ("rating[null]", "true or false")),
    ("printed=yesterday", ("'yesterday'", "moment")),
    ("printed=2026-01-31T12:30", ("zone",)),
    ("printed=2026-01-31T12:30:00+05:30", ("%2B",)),
    ("printed=2026-02-30", ("2026-02-30",)),
    ("state=old", ("'old'", "new, used")),
    ("shelf_id=1", ("shelf_id='1'", "UUID")),
    ("title=a%00b", ("NUL",)),
    ("title=%ff", ("UTF-8",)),
    ("title=a&title=b", ("title", "twice")),
    ("sort=note", ("'note'", "rating")),
    ("sort=title,-title", ("once",)),
    ("sort=", ("''",)),
    ("fields=note", ("'note'",)),
    ("fields=title,title", ("twice",)),
    ("include=author", ("'author'", "shelf")),
    ("limit=0", ("limit=0", "1 to 1000")),
    ("limit=1001", ("limit=1001", "1 to 1000")),
    ("limit=ten", ("'ten'",)),
    ("total=1", ("total='1'", "true or false")),
    ("after=nonsense", ("cursor",)),
    ("after=", ("after",)),
    ("title[in]=" + ",".join(["a"] * 101), ("101", "100")),
    ("&".join(f"p{i}=1" for i in range(33)), ("32", "33")),
)


async def test_a_cursor_of_another_order_is_refused(books: httpx.AsyncClient) -> None:
    cursor = (await books.get(PATH, params={"sort": "title", "limit": "1"})).json()["next"]
    assert "cursor" in await refusal(books, PATH, sort="-title", after=cursor)


async def test_an_etag_spares_the_body_until_the_row_changes(library: Holdfast, books: httpx.AsyncClient) -> None:
    shelf = (await books.get("/v1/resources/shelves/1")).json()["data"]["id"]
    first = await books.get(f"/v1/resources/shelves/{shelf}")
    tag = first.headers["etag"]
    for header in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await books.get(f"/v1/resources/shelves/{shelf}", headers={"If-None-Match": header})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    async with library.unit() as unit:
        await unit[Shelf].update(UUID(shelf), room=3)
    changed = await books.get(f"/v1/resources/shelves/{shelf}", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag
    assert changed.json()["data"]["room"] == 3


async def test_rows_of_tenants_are_not_shown_to_a_caller_who_is_not_known(books: httpx.AsyncClient) -> None:
    for path in ("/v1/resources/loans", "/v1/resources/loans/01a1f9cb-1811-7000-8fbc-9c7e82e2b0f9"):
        answer = await books.get(path)
        assert answer.status_code == 403
        assert "tenants" in answer.json()["detail"]
    listed = [resource["name"] for resource in (await books.get("/v1/resources")).json()["data"]]
    assert listed == ["shelves", "books"]


async def test_resources_can_only_be_read(books: httpx.AsyncClient) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = await books.request(method, PATH, json={"title": "mine"})
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
        assert answer.headers["content-type"] == "application/problem+json"


async def test_values_that_look_like_markup_or_sql_are_only_values(books: httpx.AsyncClient) -> None:
    assert await titles(books, title="' OR 1=1 --") == []
    answer = await books.get(PATH, params={"title": '<b>"Dulse" & co</b>'})
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.json()["data"]) == 1


def test_two_models_of_one_name_are_a_mistake_of_the_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "__policy__", Policy(Expose(name="loans")))
    with pytest.raises(ModelError, match="both exposed as 'loans'"):
        resources_of([Loan, Ledger])


def test_an_include_of_a_model_that_is_not_exposed_is_a_mistake_of_the_declaration() -> None:
    with pytest.raises(ModelError, match="Shelf is not exposed itself"):
        resources_of([Book])


async def test_times_in_answers_are_utc_whatever_the_server_thinks(library: Holdfast) -> None:
    async with client_of(create_app(library)) as client:
        rows = (await client.get(PATH, params={"printed[null]": "false", "sort": "printed"})).json()["data"]
    moments = [row["printed"] for row in rows]
    assert moments == ["2026-01-31T12:30:15.250000Z", "2026-02-01T00:00:00Z"]
    assert [dt.datetime.fromisoformat(m).tzinfo for m in moments] == [dt.UTC, dt.UTC]
