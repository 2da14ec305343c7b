"""Full-text search: the same words find the same rows on every backend, whoever wrote them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped, mapped_column

from holdfast.errors import InvalidValue, ModelError
from holdfast.model import NAMING, Encrypted, KeyedModel, Model, Policy, SoftDeleted, uuid7
from holdfast.store import ALL, Query, Searchable, Store
from holdfast.store.search import Words
from tests.store.opening import opened


class Kind(Enum):
    ONE = "one"


class Base(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class KeyedBase(KeyedModel):
    __abstract__ = True
    metadata = Base.metadata


class Note(Base):
    __tablename__ = "notes"
    __policy__ = Policy(Searchable("title", "text", weights=(5, 1)), private=("title",))

    title: Mapped[str]
    body: Mapped[str | None] = mapped_column("text")
    code: Mapped[str | None] = mapped_column(unique=True)


class Letter(SoftDeleted, Base):
    """An organisation's."""

    __tablename__ = "letters"
    __policy__ = Policy(Searchable("text"), tenant="org")

    org: Mapped[str]
    text: Mapped[str]


class Line(KeyedBase):
    """By two columns, one with another name in the table."""

    __tablename__ = 'some "lines'
    __policy__ = Policy(Searchable("text", "rank", language="english"))

    order: Mapped[int] = mapped_column("order_number", primary_key=True)
    part: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]
    rank: Mapped[str] = mapped_column(default="")


class Turned(Base):
    __tablename__ = "turned"
    __policy__ = Policy(Searchable("title", "text", weights=(1, 9.5)))

    title: Mapped[str]
    text: Mapped[str]


class Plain(Base):
    __tablename__ = "plain"


class Entry(KeyedBase):
    __tablename__ = "entries"
    __policy__ = Policy(Searchable("text"))

    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, Base.metadata) as store:
        yield store


async def add(store: Store, *texts: str, model: Any = Note, **more: Any) -> list[UUID]:
    """Rows with these titles, or texts; returns their keys."""
    name = "title" if model is Note else "text"
    rows = [{"id": uuid7(), name: text, **more} for text in texts]
    async with store.unit(tenant=ALL) as unit:
        await unit[model].add_many(rows)
    return [row["id"] for row in rows]


async def found(store: Store, text: str) -> list[str]:
    """The titles of the notes that `text` finds, sorted."""
    async with store.read() as unit:
        return sorted(note.title for note in await unit[Note].list(Query(Note).search(text)))


async def run(store: Store, *statements: str) -> None:
    async with store.unit() as unit:
        for statement in statements:
            await unit.execute(statement)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("rock", ["A rock", "hold, fast: rock"]),
        ("ROCK", ["A rock", "hold, fast: rock"]),
        ("rock hold", ["hold, fast: rock"]),
        ("rock or hold", []),
        ('"hold fast"', ["hold, fast: rock"]),
        ('"fast hold"', ["fast/hold"]),
        ("hold-fast", ["hold, fast: rock"]),
        ('hold -"fast rock"', ["fast/hold"]),
        ("hold -rock -nothing", ["fast/hold"]),
        ('hold "fast', ["fast/hold", "hold, fast: rock"]),
        ("roc", []),
        ("roc*", []),
        ("title:rock", []),
        ("NEAR(rock hold)", []),
        ("below", ["A rock"]),
        ('"rock below"', []),  # one is in the title, the other in the text
        ("", []),
        ("  \t", []),
        ('""', []),
        ("-rock", []),
        ("- -- ' \" ; () *", []),
        ("seaweed@rock.example/a?b=c", ["seaweed@rock.example/a?b=c"]),
        ("example", ["seaweed@rock.example/a?b=c"]),
        ("a", ["A rock", "seaweed@rock.example/a?b=c"]),
        ("hold\0fast", ["hold, fast: rock"]),
        ("“quoted”", ["so-called “quoted” — über 3,5"]),
        ("über", ["so-called “quoted” — über 3,5"]),
        ("3.5 called", ["so-called “quoted” — über 3,5"]),
    ],
)
async def test_words_are_all_required_in_any_case_and_punctuation_only_separates(
    searched: Store, asked: str, expected: list[str]
) -> None:
    if asked in ("rock", "ROCK"):
        expected = [*expected, "seaweed@rock.example/a?b=c"]
    assert await found(searched, asked) == sorted(expected)


@pytest.fixture
async def searched(store: Store) -> Store:
    await add(store, "A rock", body="Below the sea")
    await add(store, "hold, fast: rock", "fast/hold", "seaweed@rock.example/a?b=c", "so-called “quoted” — über 3,5")
    return store


async def test_a_search_is_one_more_condition_of_its_query(store: Store) -> None:
    keys = await add(store, "hold fast", "hold on", "let go", model=Letter, org="a")
    await add(store, "hold fast", model=Letter, org="b")
    query = Query(Letter).search("hold")
    async with store.unit(tenant="a") as unit:
        letters = unit[Letter]
        await letters.delete(keys[1])
        assert [row.id for row in await letters.list(query)] == [keys[0]]
        assert await letters.count(query) == 1
        assert {row.id for row in await letters.list(query.with_deleted())} == set(keys[:2])
        assert [row.id for row in await letters.list(query.only_deleted())] == [keys[1]]
        assert not await letters.exists(query.where(text="let go"))
        assert await letters.exists(query.where(text="hold fast"))
        first = await letters.first(query.select("text"))
        assert first is not None
        assert first.text == "hold fast"
        assert [row.id async for row in letters.stream(query.with_deleted().order_by("-id"))] == keys[1::-1]
        assert [row.id for row in await letters.list(query.with_deleted().order_by("id").limit(1).offset(1))] == keys[
            1:2
        ]
    async with store.read(tenant=ALL) as unit:
        assert await unit[Letter].count(query) == 2


async def test_what_fits_best_comes_first_and_the_key_breaks_ties(store: Store) -> None:
    [other] = await add(store, "the sea", body="hold fast")
    keys = await add(store, "hold fast", "hold fast", "hold fast")
    async with store.read() as unit:
        rows = await unit[Note].list(Query(Note).search("hold fast"))
        assert [row.id for row in rows] == [*keys, other]
        assert next(row.id for row in await unit[Note].list(Query(Note).search("fast").order_by("-title"))) == other


async def test_weights_say_which_column_counts(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Turned].add_many([{"title": "rock", "text": "sea"}, {"title": "sea", "text": "rock"}])
        rows = await unit[Turned].list(Query(Turned).search("rock"))
        assert [row.text for row in rows] == ["rock", "sea"]


async def test_pages_by_relevance_have_numbers_and_others_cursors(store: Store) -> None:
    keys = await add(store, *["hold fast"] * 5)
    query = Query(Note).search("hold")
    async with store.read() as unit:
        notes = unit[Note]
        pages = [await notes.page(query, limit=2, number=number, total=True) for number in (1, 2, 3, 4)]
        assert [row.id for page in pages for row in page.items] == keys
        assert {page.total for page in pages} == {5}
        assert {page.next for page in pages} == {None}
        for options in ({}, {"after": "x"}):
            with pytest.raises(InvalidValue, match=r"number=1, 2, …"):
                await notes.page(query, **options)
        ordered = query.order_by("-id")
        first = await notes.page(ordered, limit=3)
        second = await notes.page(ordered, limit=3, after=first.next)
        assert [row.id for row in (*first.items, *second.items)] == keys[::-1]


async def test_raw_sql_that_writes_rows_counts(store: Store) -> None:
    key, other = "0" * 32, "1" * 32
    await run(
        store,
        f"INSERT INTO notes (id, title) VALUES ('{key}', 'hold')",
        f"INSERT INTO notes (id, title) VALUES ('{other}', 'let go') ON CONFLICT (id) DO UPDATE SET title = 'x'",
    )
    assert await found(store, "hold") == ["hold"]
    await run(
        store, f"INSERT INTO notes (id, title) VALUES ('{key}', 'x') ON CONFLICT (id) DO UPDATE SET title = 'fast'"
    )
    assert (await found(store, "hold"), await found(store, "fast")) == ([], ["fast"])
    await run(
        store,
        f"UPDATE notes SET text = 'rock' WHERE id = '{key}'",
        f"UPDATE notes SET id = '{key[1:]}2' WHERE id = '{key}'",
    )
    assert (await found(store, "rock"), await found(store, "fast rock")) == (["fast"], ["fast"])
    await run(store, f"UPDATE notes SET id = '{key}', title = 'all', text = 'new' WHERE id = '{key[1:]}2'")
    assert (await found(store, "rock"), await found(store, "all new")) == ([], ["all"])
    await run(store, f"UPDATE notes SET text = NULL WHERE id = '{key}'")
    assert (await found(store, "new"), await found(store, "all")) == ([], ["all"])
    await run(store, f"DELETE FROM notes WHERE id = '{key}'")
    assert (await found(store, "all"), await found(store, "let")) == ([], ["let go"])


async def test_rows_that_replace_evicts_are_not_found_and_what_replaced_them_is(sqlite_stores: Store) -> None:
    store, (one, two, three) = sqlite_stores, ("1" * 32, "2" * 32, "3" * 32)
    await run(
        store,
        f"INSERT INTO notes (id, title, code) VALUES ('{one}', 'first', 'a'), ('{two}', 'second', 'b')",
        f"INSERT OR REPLACE INTO notes (id, title, code) VALUES ('{one}', 'first again', 'a')",
    )
    assert await found(store, "first") == ["first again"]
    await run(store, f"INSERT OR REPLACE INTO notes (id, title, code) VALUES ('{three}', 'third', 'b')")
    assert (await found(store, "second"), await found(store, "third")) == ([], ["third"])
    await run(store, f"INSERT OR IGNORE INTO notes (id, title, code) VALUES ('{three}', 'fourth', 'c')")
    assert (await found(store, "fourth"), await found(store, "third")) == ([], ["third"])
    await run(store, f"UPDATE OR REPLACE notes SET id = '{three}' WHERE id = '{one}'")
    assert (await found(store, "third"), await found(store, "first")) == ([], ["first again"])
    # A key that was evicted may be taken again.
    await run(store, f"INSERT INTO notes (id, title) VALUES ('{two}', 'back')")
    assert (await found(store, "second"), await found(store, "back")) == ([], ["back"])


@pytest.fixture(params=["sqlite", "sqld"])
async def sqlite_stores(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    async with opened(request.getfixturevalue(f"{request.param}_url"), Base.metadata) as store:
        yield store


async def test_rows_that_come_to_have_other_rowids_are_still_found(sqlite_stores: Store) -> None:
    store = sqlite_stores
    await add(store, *(f"word{number}" for number in range(10, 20)))
    # As VACUUM and a table that is made anew may do, and no trigger is told.
    await run(store, "UPDATE notes SET rowid = 100 - rowid", "DELETE FROM notes WHERE title = 'word14'")
    for number in (10, 13, 15, 19):
        assert await found(store, f"word{number}") == [f"word{number}"]
    assert await found(store, "word14") == []


async def test_keys_of_several_columns_and_numbers_given_by_the_database(store: Store) -> None:
    async with store.unit() as unit:
        await unit[Line].add_many(
            [{"order": n, "part": part, "text": f"holding {part}"} for n in range(3) for part in ("a1", "b1")]
        )
        lines = await unit[Line].list(Query(Line).search("HOLDS b1"))  # brought to the stem, as all of English
        assert [(line.order, line.part) for line in lines] == [(0, "b1"), (1, "b1"), (2, "b1")]
        assert await unit[Line].count(Query(Line).search("holds -b1")) == 3
        one, two = await unit[Entry].add(Entry(text="one")), await unit[Entry].add(Entry(text="two"))
        assert (one.number, two.number) == (1, 2)
        assert await unit[Entry].list(Query(Entry).search("two")) == [two]


few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WORDS = st.sampled_from(["hold", "Fast", "a", "b", "aa", "7", "x1", "007"]) | st.text("ab12", min_size=1, max_size=3)
BETWEEN = st.sampled_from(
    [" ", "  ", "-", "/", ".", ", ", "'", '"', "_", "@", "://", "\n", "<", ">", " — ", "“", "…", "&", "+"]
)
TEXTS = st.lists(st.tuples(BETWEEN, WORDS, BETWEEN).map("".join), max_size=6).map("".join)
TERMS = st.lists(st.tuples(st.booleans(), st.lists(WORDS, min_size=1, max_size=2)), min_size=1, max_size=3)


@few
@given(st.lists(st.tuples(TEXTS, st.none() | TEXTS), max_size=5), TERMS)
async def test_every_backend_finds_what_plain_python_finds(
    store: Store, texts: list[tuple[str, str | None]], terms: list[tuple[bool, list[str]]]
) -> None:
    rows = [{"id": uuid7(), "title": title, "body": body} for title, body in texts]
    asked = " ".join(("-" if excluded else "") + '"' + " ".join(words) + '"' for excluded, words in terms)
    columns = [[f" {' '.join(_plain(text or ''))} " for text in pair] for pair in texts]

    def has(texts: list[str], words: list[str]) -> bool:
        return any(f" {' '.join(words).lower()} " in text for text in texts)

    expected = {
        row["id"]
        for row, texts in zip(rows, columns, strict=True)
        if all(has(texts, words) != excluded for excluded, words in terms)
        and any(not excluded for excluded, _ in terms)
    }
    with pytest.raises(_UndoneError):
        async with store.unit() as unit:
            await unit[Note].add_many(rows)
            assert {row.id for row in await unit[Note].list(Query(Note).search(asked))} == expected
            assert await unit[Note].count(Query(Note).search(asked)) == len(expected)
            raise _UndoneError


class _UndoneError(Exception):
    """Rolls an example back."""


def _plain(text: str) -> list[str]:
    return re.findall("[a-z0-9]+", text.lower())


@few
@given(st.text(max_size=80) | st.text("\"-* ()+^:NEARODT{}\\;'\0\ud800ab", max_size=40))
async def test_whatever_is_typed_is_no_syntax(store: Store, text: str) -> None:
    async with store.read() as unit:
        assert await unit[Note].list(Query(Note).search(text)) == []


async def test_the_longest_search_is_carried_out_and_a_longer_one_refused(store: Store) -> None:
    async with store.read() as unit:
        for text in ("ü" * 500, "a " * 250, '-"a" ' * 99 + "b", ("x" * 9 + " ") * 50, "a.b" * 166):
            assert await unit[Note].list(Query(Note).search(text)) == []
    with pytest.raises(InvalidValue, match="at most 500 characters, not 10,000"):
        Query(Note).search("a" * 10_000)
    with pytest.raises(InvalidValue, match="a search is a text, not NoneType"):
        Query(Note).search(None)  # type: ignore[arg-type]


async def test_what_cannot_be_searched_is_told(store: Store) -> None:
    with pytest.raises(InvalidValue, match="a query has one search"):
        Query(Note).search("a").search("b")

    with pytest.raises(InvalidValue, match=r"Plain cannot be searched; declare it with Policy\(Searchable"):
        Query(Plain).search("a")


async def test_a_text_too_large_for_postgres_is_told(store: Store) -> None:
    text = " ".join(f"w{number}" for number in range(200_000))
    if store.dialect == "sqlite":
        await add(store, "large", body=text)
        assert await found(store, "w199999") == ["large"]
        return
    with pytest.raises(InvalidValue, match="too long for tsvector"):
        await add(store, "large", body=text)


async def test_a_table_that_is_dropped_takes_its_search_along(store: Store) -> None:
    await add(store, "hold")
    for _ in range(2):
        async with store.engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)
        assert await found(store, "hold") == []
    async with store.engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
    async with store.read() as unit:
        names = "sqlite_master" if store.dialect == "sqlite" else "(SELECT relname AS name FROM pg_class) c"
        left = await unit.execute(f"SELECT count(*) FROM {names} WHERE name LIKE '%holdfast_search_%'")
        assert left.scalar() == 0


def declare(*columns: str, policy: dict[str, Any] | None = None, second: Any = None, **options: Any) -> type[Model]:
    class Declared(Model):
        __tablename__ = "declared"
        __policy__ = Policy(Searchable(*columns, **options), *([second] if second else []), **(policy or {}))
        metadata = MetaData()
        title: Mapped[str]
        number: Mapped[int]
        kind: Mapped[Kind]
        hidden: Mapped[str] = mapped_column(Encrypted(str))

    return Declared


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"columns": ()}, "takes the columns to search"),
        ({"columns": ("title", "title")}, "each once"),
        ({"columns": ("titel",)}, "'titel', which declared does not have"),
        ({"columns": ("number",)}, "'number', which is .*; only text is searched"),
        ({"columns": ("kind",)}, "only text is searched"),
        ({"columns": ("hidden",)}, "'hidden', which is encrypted"),
        ({"columns": ("title",), "policy": {"secret": ("title",)}}, "'title', which the policy keeps secret"),
        ({"columns": ("title",), "second": Searchable("title")}, r"two Searchable\(…\); name all columns in one"),
        ({"columns": ("title",), "language": "englisch"}, "'englisch'.: there are arabic"),
        ({"columns": ("title",), "weights": (1, 2)}, "a number for each of title"),
        ({"columns": ("title",), "weights": (0,)}, "a weight is a number above 0"),
        ({"columns": tuple("abcde"), "weights": (1, 2, 3, 4, 5)}, "four different weights"),
    ],
)
def test_what_is_declared_wrongly_is_told_when_the_class_is_made(given: dict[str, Any], message: str) -> None:
    columns = given.pop("columns")
    with pytest.raises(ModelError, match=message):
        declare(*columns, **given)


def test_what_is_typed_becomes_words() -> None:
    assert Words.parse('Hold "the rock" -sea-weed -"a b"') == Words(("Hold", "the rock"), ("sea weed", "a b"))
    assert Words.parse("a a -b --b") == Words(("a",), ("b",))
    assert Words.parse('a"b c"d').wanted == ("a", "b c", "d")
    assert Words.parse("हिन्दी x́").wanted == ("हिन्दी", "x́")
