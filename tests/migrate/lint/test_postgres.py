"""What the rules take PostgreSQL to do, asked of a real server."""

import asyncio

import asyncpg
import pytest

from holdfast.migrate.lint import lint_sql

REFUSED = [
    "CREATE DATABASE shop_of_lint",
    "DROP DATABASE shop_of_lint",
    "CREATE TABLESPACE fast LOCATION '/nowhere'",
    "DROP TABLESPACE fast",
    "ALTER SYSTEM SET work_mem = '4MB'",
    "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1' PUBLICATION p",
    "CREATE INDEX CONCURRENTLY i ON books (title)",
    "REINDEX TABLE CONCURRENTLY books",
    "VACUUM books",
]
TAKEN = [
    "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1' PUBLICATION p WITH (connect = false)",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY totals",
    "ALTER TYPE mood ADD VALUE 'calm'",
    "ALTER TABLE books ADD COLUMN at timestamptz NOT NULL DEFAULT now()",
]
SCHEMA = """
CREATE TABLE books (id bigint PRIMARY KEY, title text, price int);
INSERT INTO books VALUES (1, 'a', 2);
CREATE MATERIALIZED VIEW totals AS SELECT id FROM books;
CREATE UNIQUE INDEX ON totals (id);
CREATE TYPE mood AS ENUM ('sad');
"""


def answer(url: str, *statements: str) -> str:
    """The SQLSTATE of the first statement that is refused, or an empty text."""

    async def ask() -> str:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            for statement in (SCHEMA, *statements):
                await connection.execute(statement)
        except asyncpg.PostgresError as error:
            return error.sqlstate or ""
        finally:
            await connection.close(timeout=5)
        return ""

    return asyncio.run(ask())


@pytest.mark.parametrize("statement", REFUSED)
def test_what_is_called_refused_in_a_transaction_is_refused(postgres_url: str, statement: str) -> None:
    assert answer(postgres_url, "BEGIN", statement) == "25001"  # active_sql_transaction
    rules = [finding.rule for finding in lint_sql(f"BEGIN; {statement}; COMMIT;")]
    assert "concurrently-in-transaction" in rules


@pytest.mark.parametrize("statement", TAKEN)
def test_what_is_let_through_in_a_transaction_is_taken(postgres_url: str, statement: str) -> None:
    assert answer(postgres_url, "BEGIN", statement) == ""
    assert lint_sql(f"BEGIN; {statement}; COMMIT;") == []


@pytest.mark.parametrize(
    "fill",
    ["CREATE TABLE t AS SELECT 1 AS n", "SELECT 1 AS n INTO t", "CREATE TABLE t (n int); INSERT INTO t VALUES (1)"],
)
def test_a_new_table_with_rows_takes_no_column_that_must_have_a_value(postgres_url: str, fill: str) -> None:
    change = "ALTER TABLE t ADD COLUMN a text NOT NULL"
    assert answer(postgres_url, fill, change) == "23502"  # not_null_violation
    assert [finding.rule for finding in lint_sql(f"{fill}; {change};")] == ["add-column-not-null"]


def test_a_new_table_without_rows_takes_any_column(postgres_url: str) -> None:
    made = "CREATE TABLE t (n int)", "ALTER TABLE t ADD COLUMN a text NOT NULL"
    assert answer(postgres_url, *made) == ""
    assert lint_sql(";".join(made)) == []


CHANGES = [
    ("varchar(10)", "varchar(20)"), ("varchar(10)", "text"), ("text", "varchar"), ("text", "varchar(20)"),
    ("varchar(20)", "varchar(10)"), ("char(10)", "char(20)"), ("char(10)", "varchar(20)"), ("char(10)", "text"),
    ("numeric(10,2)", "numeric(12,2)"), ("numeric(10,2)", "numeric(12,3)"), ("numeric(10)", "numeric(12,0)"),
    ("numeric(10,2)", "numeric"), ("numeric", "numeric(10)"), ("integer", "bigint"), ("integer", "text"),
    ("bit(16)", "bit varying"), ("bit(16)", "bit varying(32)"), ("bit varying(8)", "bit varying(16)"),
    ("bit varying(16)", "bit varying(8)"), ("timestamp(3)", "timestamp(6)"), ("timestamp", "timestamp(6)"),
    ("timestamp(6)", "timestamp(3)"), ("timestamptz(3)", "timestamptz"), ("time(3)", "time(6)"), ("cidr", "inet"),
    ("interval(3)", "interval"), ("xml", "text"), ("inet", "cidr"), ("jsonb", "json"), ("bytea", "text"),
]  # fmt: skip


async def rewrites(url: str, changes: list[tuple[str, str]]) -> list[tuple[str, str]]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    found = []
    for old, new in changes:
        await connection.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t (a {old})")
        before = await connection.fetchval("SELECT pg_relation_filenode('t')")
        await connection.execute(f"ALTER TABLE t ALTER a TYPE {new}")
        if await connection.fetchval("SELECT pg_relation_filenode('t')") != before:
            found.append((old, new))
    await connection.close()
    return found


def test_the_changes_of_type_that_rewrite_the_table_are_those_that_postgresql_rewrites(postgres_url: str) -> None:
    told = [
        (old, new) for old, new in CHANGES if lint_sql(f"-- holdfast: t.a was {old}\nALTER TABLE t ALTER a TYPE {new}")
    ]
    assert told == asyncio.run(rewrites(postgres_url, CHANGES))
