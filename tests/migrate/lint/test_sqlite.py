"""The few rules that make sense on SQLite."""

import sqlite3

import pytest

from holdfast.migrate.lint import lint_sql

REBUILD = """
CREATE TABLE new_books (id INTEGER PRIMARY KEY, title TEXT NOT NULL);
INSERT INTO new_books SELECT id, title FROM books;
DROP TABLE books;
ALTER TABLE new_books RENAME TO books;
"""


def rules(text: str) -> list[str]:
    return [finding.rule for finding in lint_sql(text, dialect="sqlite")]


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("DROP TABLE books", "drop-table"),
        ("ALTER TABLE books DROP COLUMN title", "drop-column"),
        ("ALTER TABLE `books` RENAME COLUMN `title` TO name", "rename-column"),
        ("ALTER TABLE books RENAME TO works", "rename-table"),
        ("UPDATE books SET title = ''", "update-all-rows"),
        ("DELETE FROM books", "delete-all-rows"),
        ("BEGIN; VACUUM; COMMIT", "concurrently-in-transaction"),
        ("BEGIN; PRAGMA foreign_keys = OFF; COMMIT", "pragma-in-transaction"),
        ("BEGIN IMMEDIATE;" + REBUILD + "COMMIT;", "rebuild-with-foreign-keys"),
        ("PRAGMA foreign_keys = ON; BEGIN;" + REBUILD + "COMMIT;", "rebuild-with-foreign-keys"),
        ("BEGIN; SELECT 1", "uncommitted-transaction"),
    ],
)
def test_what_is_unsafe_is_found(sql: str, rule: str) -> None:
    assert rules(sql) == [rule]


REFUSED = {
    "ALTER TABLE books ADD COLUMN isbn TEXT UNIQUE": "add-column-unique",
    "ALTER TABLE books ADD COLUMN n INTEGER PRIMARY KEY": "add-column-unique",
    "ALTER TABLE books ADD COLUMN n INTEGER NOT NULL": "add-column-not-null",
    "ALTER TABLE books ADD COLUMN at TEXT DEFAULT CURRENT_TIMESTAMP": "add-column-not-constant",
    "ALTER TABLE books ADD COLUMN at TEXT DEFAULT (datetime('now'))": "add-column-not-constant",
    "ALTER TABLE books ADD COLUMN n INTEGER GENERATED ALWAYS AS (id + 1) STORED": "add-column-stored-generated",
}


@pytest.mark.parametrize(("sql", "rule"), REFUSED.items())
def test_what_sqlite_refuses_is_found(sql: str, rule: str) -> None:
    assert rules(sql) == [rule]
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE books (id INTEGER PRIMARY KEY)")
    database.execute("INSERT INTO books VALUES (1)")
    with pytest.raises(sqlite3.OperationalError):
        database.execute(sql)
    database.close()


@pytest.mark.parametrize(
    "sql",
    [
        "PRAGMA foreign_keys = OFF; BEGIN;" + REBUILD + "COMMIT; PRAGMA foreign_keys = ON;",
        "PRAGMA foreign_keys(0);" + REBUILD,
        "CREATE INDEX i ON books (title); DROP INDEX i; CREATE UNIQUE INDEX j ON books (isbn)",
        "ALTER TABLE books ADD COLUMN n INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE books ADD COLUMN author INTEGER REFERENCES authors (id)",
        "CREATE TABLE t (id INTEGER); ALTER TABLE t DROP COLUMN id; DROP TABLE t",
        "CREATE TRIGGER t AFTER INSERT ON b BEGIN DELETE FROM b; SELECT CASE WHEN 1 THEN 2 END; END; SELECT 1",
        "VACUUM; REINDEX; ANALYZE",
        "UPDATE books SET title = '' WHERE id < 10",
    ],
)
def test_what_is_safe_is_let_through(sql: str) -> None:
    assert rules(sql) == []
