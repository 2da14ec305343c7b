"""The tokenizer and the statements: no text makes them fail, and nothing of it is lost."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.migrate.lint import lint_sql
from holdfast.migrate.lint.finding import DIALECTS
from holdfast.migrate.lint.statements import statements_of
from holdfast.migrate.lint.tokens import tokens_of

PIECES = st.sampled_from(
    [
        "'", "''", '"', "$$", "$a$", "$", "--", "/*", "*/", "\n", "\r\n", ";", "(", ")", "[", "]", ",", ".", "::", "\\",
        "\\.\n", "E'", "U&'", "e'\\'", "`", " ", "0", "1.5e3", "COPY b FROM stdin;", "BEGIN ATOMIC", "END", "CASE",
        "CREATE", "TABLE", "ALTER", "ADD", "COLUMN", "CONSTRAINT", "CHECK", "DROP", "INDEX", "ON", "CONCURRENTLY",
        "UPDATE", "DELETE", "FROM", "SET", "WHERE", "DO", "EXECUTE", "IF", "THEN", "LOOP", "TYPE", "RENAME", "TO",
        "VALUE", "DEFAULT", "NOT", "NULL", "FOREIGN KEY", "REFERENCES", "UNIQUE", "PRIMARY KEY", "USING", "WITH", "AS",
        "SELECT", "INSERT INTO", "LOCK", "VACUUM", "REINDEX", "TRUNCATE", "REFRESH MATERIALIZED VIEW", "PRAGMA", "a",
        '"b c"', "public.", "varchar(10)", "numeric(5,2)", "timestamp(3) with time zone", "RULE", "TRIGGER", "BEGIN",
        "-- holdfast: allow x because y\n", "-- holdfast: a.b was text\n", "-- migrate:down\n", "EXCLUDE",
        "ATTACH PARTITION",
        "é", "\x00", "\ud800", "🌊", "ſ", "İ",
    ]
)  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join), st.lists(PIECES, max_size=40).map(" ".join))


@given(TEXTS)
def test_the_tokens_together_are_the_text(text: str) -> None:
    tokens = list(tokens_of(text))
    assert "".join(token.text for token in tokens) == text
    assert all(token.text for token in tokens)
    assert all(text.startswith(token.text, token.start) for token in tokens)


@pytest.mark.parametrize("dialect", DIALECTS.values())
@given(text=TEXTS)
def test_the_statements_together_are_the_text_and_no_text_fails(dialect: str, text: str) -> None:
    known = DIALECTS[dialect]
    statements = list(statements_of(text, known))
    assert "".join(statement.text for statement in statements) == text
    for finding in lint_sql(text, dialect=known):
        assert 1 <= finding.line <= text.count("\n") + 1


@pytest.mark.parametrize(
    "text",
    [
        "(" * 50_000,
        ")" * 50_000,
        "ALTER TABLE t ADD CONSTRAINT c CHECK (" + "(" * 20_000 + "a" + ")" * 20_000 + ");",
        "/*" * 20_000,
        "/*" * 20_000 + "*/" * 20_000 + "SELECT 1",
        "SELECT '" + "''" * 100_000,
        "$a$" * 20_001,
        "CREATE TABLE t (" + ", ".join(f"c{n} varchar({n}) NOT NULL DEFAULT 'x'" for n in range(1600)) + ");",
        "ALTER TABLE t " + ", ".join(f"ADD COLUMN c{n} int" for n in range(1600)) + ";",
        "DO $$ BEGIN " + "IF a THEN " * 20_000 + "END $$",
        "WITH " + ", ".join(f"c{n} AS (SELECT 1)" for n in range(5_000)) + " SELECT 1",
        "DROP TABLE " + ", ".join(f"t{n}" for n in range(20_000)),
        "a." * 50_000 + "b",
    ],
    ids=range(13),
)
def test_deep_and_long_statements_take_bounded_time(text: str) -> None:
    start = time.process_time()
    lint_sql(text)
    assert time.process_time() - start < 10


def test_a_large_file_takes_bounded_time() -> None:
    row = "INSERT INTO books (id, title, price) VALUES (123, 'It''s a title; with (signs)', 12.50);\n"
    text = row * (2**20 // len(row)) + "DROP TABLE books;"
    start = time.process_time()
    [finding] = lint_sql(text)
    assert time.process_time() - start < 15
    assert finding.line == text.count("\n") + 1


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("E'a\\'b' 'c''d'", ["E'a\\'b'", "'c''d'"]),
        ('"a""b" U&"x"', ['"a""b"', 'U&"x"']),
        ("$$a$b$c$$ $x$ $$ $x$", ["$$a$b$c$$", "$x$ $$ $x$"]),
        ("/* a /* b */ c */ d", ["/* a /* b */ c */", "d"]),
        ("a$b$c -- d\n e", ["a$b$c", "-- d", "e"]),
        ("a->>'b' c::int", ["a", "->>", "'b'", "c", "::", "int"]),
    ],
)
def test_quotes_and_comments_are_whole(text: str, values: list[str]) -> None:
    assert [token.text for token in tokens_of(text) if token.kind != "space"] == values
