"""Locks that migrations really take, on a real server."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from holdfast.errors import ConfigurationError, MigrationError
from holdfast.migrate.lint import lint_path
from holdfast.migrate.lint.trace import trace_paths

SCHEMA = """
CREATE TABLE books (id bigint PRIMARY KEY, title text, price int);
CREATE TABLE orders (id bigint PRIMARY KEY, book bigint);
CREATE FUNCTION quietly() RETURNS void LANGUAGE plpgsql AS $$
BEGIN LOCK TABLE orders IN ACCESS EXCLUSIVE MODE; END $$;
CREATE FUNCTION rewriting() RETURNS void LANGUAGE plpgsql AS $$
BEGIN EXECUTE 'ALTER TABLE bo' || 'oks ALTER COLUMN price TYPE numeric'; END $$;
CREATE FUNCTION scanning() RETURNS void LANGUAGE plpgsql AS $$
BEGIN EXECUTE 'ALTER TABLE bo' || 'oks ALTER COLUMN title SET NOT NULL'; END $$;
"""


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "schema.sql"
    path.write_text(SCHEMA)
    return path


def traced(folder: Path, url: str, schema: Path, sql: str) -> list[tuple[int, str]]:
    path = folder / "migration.sql"
    path.write_text(sql)
    return [(finding.line, finding.rule) for finding in trace_paths([path], url=url, schema=schema)]


@pytest.mark.parametrize(
    ("planted", "rule"),
    [("quietly", "lock-taken"), ("rewriting", "table-rewritten"), ("scanning", "table-scanned")],
)
def test_what_a_function_hides_from_the_text_is_seen(
    tmp_path: Path, postgres_url: str, schema: Path, planted: str, rule: str
) -> None:
    sql = f"ALTER TABLE books ADD COLUMN n int;\nSELECT {planted}();\nSELECT 1;"
    assert traced(tmp_path, postgres_url, schema, sql) == [(2, rule)]
    assert lint_path(tmp_path / "migration.sql") == []
    inside = f"BEGIN;\nSELECT 1;\nSELECT {planted}();\nCOMMIT;"
    assert traced(tmp_path, postgres_url, schema, inside) == [(3, rule)]
    assert (
        traced(tmp_path, postgres_url, schema, f"-- holdfast: allow {rule} because tested\n\nSELECT {planted}();") == []
    )


def test_a_safe_migration_and_tables_of_its_own_give_no_finding(
    tmp_path: Path, postgres_url: str, schema: Path
) -> None:
    sql = """CREATE TABLE notes (id int);
ALTER TABLE notes ALTER COLUMN id TYPE bigint;
CREATE INDEX CONCURRENTLY i ON books (title);
SET lock_timeout = '2s';
ALTER TABLE books ADD COLUMN n int NOT NULL DEFAULT 1;
ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (book) REFERENCES books (id) NOT VALID;
ALTER TABLE orders VALIDATE CONSTRAINT f;
BEGIN; INSERT INTO books (id) VALUES (1); SAVEPOINT a; SELECT 1; ROLLBACK TO a; COMMIT;
VACUUM books;
"""
    assert traced(tmp_path, postgres_url, schema, sql) == []


def test_what_the_text_shows_already_is_not_said_twice(tmp_path: Path, postgres_url: str, schema: Path) -> None:
    assert traced(tmp_path, postgres_url, schema, "ALTER TABLE books ALTER COLUMN price TYPE bigint;") == []


def test_a_statement_that_fails_is_found_and_the_next_file_starts_anew(
    tmp_path: Path, postgres_url: str, schema: Path
) -> None:
    (tmp_path / "1.sql").write_text("BEGIN;\nCREATE TABLE half (id int);\nALTER TABLE gone ADD COLUMN x int;\nCOMMIT;")
    (tmp_path / "2.sql").write_text("CREATE TABLE half (id int);")
    found = trace_paths([tmp_path / "1.sql", tmp_path / "2.sql"], url=postgres_url, schema=schema)
    assert [(Path(finding.file).name, finding.line, finding.rule) for finding in found] == [
        ("1.sql", 3, "statement-failed")
    ]
    assert '"gone" does not exist' in found[0].message


def test_nothing_of_it_stays_on_the_server(tmp_path: Path, postgres_url: str, schema: Path) -> None:
    async def databases() -> set[str]:
        connection = await asyncpg.connect(postgres_url)
        try:
            rows = await connection.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'holdfast_trace_%'")
            tables = await connection.fetch("SELECT relname FROM pg_class WHERE relname = 'books'")
        finally:
            await connection.close()
        return {row[0] for row in (*rows, *tables)}

    traced(tmp_path, postgres_url, schema, "SELECT quietly();")
    broken = tmp_path / "broken.sql"
    broken.write_text("CREATE TABLE books (")
    with pytest.raises(MigrationError, match="schema to start from fails"):
        trace_paths([schema], url=postgres_url, schema=broken)
    assert asyncio.run(databases()) == set()


def test_a_server_that_is_not_there_or_not_postgresql_is_said_without_the_password(
    tmp_path: Path, schema: Path
) -> None:
    with pytest.raises(MigrationError, match="cannot connect") as refused:
        trace_paths([schema], url="postgresql://me:hush@127.0.0.1:1/x")
    assert "hush" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="name a postgresql:// server"):
        trace_paths([schema], url=f"sqlite:///{tmp_path}/a.db")
