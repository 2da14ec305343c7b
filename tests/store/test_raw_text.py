"""Text within a statement cannot end what stands around it, whoever reads it."""

import sqlite3

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.store.raw_text import is_closed

PIECES = (*"()'\"`[];\\1a \n", "--", "/*", "*/", "$$", "$a$", "E'", " OR ")


@pytest.mark.parametrize(
    "sql",
    [
        "a = 1 OR b = 2",
        "a IN (1, (2)) AND b = ')' AND \"c)\" = 'it''s (--;'",
        "a LIKE '50\\%' ESCAPE '\\'",
        "tags && ARRAY['a', 'b'] AND tags[1] = :x",
        "a::text = :a",
    ],
)
def test_what_people_write_is_closed(sql: str) -> None:
    assert is_closed(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "1 = 1) OR (1 = 1",
        "(1 = 1",
        "1 = 1) --",
        "1 = 1 /* ",
        "1 = 1; DROP TABLE books",
        "a = 'open",
        "E'a\\'' ) OR ('' = '",  # to PostgreSQL \' is a quote within E'…'
        "$$'$$ = a) OR (a = $$'$$",  # and what stands between dollar signs is a string
        "[']) OR (1 = 1) OR ([']",  # to SQLite what stands in brackets is a name
        "`'`) OR (1 = 1) OR (`'`",
        "[ ) OR (1 = 1",
    ],
)
def test_what_gets_out_is_not(sql: str) -> None:
    assert not is_closed(sql)


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@example("'a' = [b])) OR ((1")
def test_nothing_closed_gets_out_of_sqlites_parentheses(sql: str) -> None:
    """A row that the criterion beside it denies is not found, as far as SQLite reads the text at all."""
    if not is_closed(sql):
        return
    with sqlite3.connect(":memory:") as connection:
        connection.execute('CREATE TABLE t (a TEXT, "b" TEXT)')
        connection.execute("INSERT INTO t VALUES ('x', 'y')")
        try:
            found = connection.execute(f"SELECT * FROM t WHERE ({sql}) AND a = 'mine'").fetchall()
        except sqlite3.Error:
            return
        assert found == []
