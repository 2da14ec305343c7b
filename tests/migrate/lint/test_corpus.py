"""The rules over hundreds of small migrations, each also written in other ways."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.migrate.lint import Finding, lint_sql
from holdfast.migrate.lint.rules import RULES
from holdfast.migrate.lint.tokens import Token, tokens_of
from tests.migrate.lint import safe, unsafe

# What can be made again, and is missed only by a program that still runs.
OF_THE_PHASE = ("drop-view",)
UNSAFE = [(rule, sql) for rule, cases in unsafe.CASES.items() for sql in cases]


def upper(token: Token) -> str:
    return token.text.upper() if token.kind == "word" else token.text


def lower(token: Token) -> str:
    return token.text.lower() if token.kind == "word" else token.text


def spread(token: Token) -> str:
    """Comments between the words; what is already a comment may mean something, and stays."""
    between = token.kind == "space" and "\n" not in token.text
    return " /* a;b '*/\r\n\t" if between else token.text


def as_it_is(token: Token) -> str:
    return token.text


def written_as(sql: str, manner: Callable[[Token], str]) -> str:
    return "".join(manner(token) for token in tokens_of(sql))


MANNERS = (as_it_is, upper, lower, spread)


@pytest.mark.parametrize(("rule", "sql"), UNSAFE)
def test_what_is_unsafe_is_found(rule: str, sql: str) -> None:
    for manner in MANNERS:
        text = written_as(sql, manner)
        found = lint_sql(text)
        is_of_the_phase = rule in OF_THE_PHASE or (rule == "drop-cascade" and "drop column" in sql.lower())
        level = "warning" if is_of_the_phase else "error"
        assert (rule, level) in {(finding.rule, finding.level) for finding in found}, text
        for finding in found:
            assert finding.rule in RULES
            assert finding.message
            assert finding.fix
            assert 1 <= finding.line <= text.count("\n") + 1


@pytest.mark.parametrize("sql", safe.CASES)
def test_what_is_safe_is_let_through(sql: str) -> None:
    for manner in MANNERS:
        text = written_as(sql, manner)
        assert lint_sql(text) == [], text


@pytest.mark.parametrize(("rule", "sql"), UNSAFE)
def test_a_reason_allows_a_rule_in_the_whole_file(rule: str, sql: str) -> None:
    rules = ", ".join(sorted({finding.rule for finding in lint_sql(sql)}))
    assert lint_sql(f"-- holdfast: allow {rules} because the tables are small\n\n{sql}") == []


def test_every_rule_has_its_cases() -> None:
    elsewhere = {
        "add-column-not-constant", "rebuild-with-foreign-keys", "pragma-in-transaction", "migration-not-rendered",
        "needs-steps", "unfinished-migration", "bad-suppression", "lock-taken", "table-rewritten", "table-scanned",
        "statement-failed", "wide-index", "drop-owned", "not-null-before-deployment",
    }  # fmt: skip
    assert set(unsafe.CASES) | elsewhere == RULES


def test_unsafe_statements_are_found_wherever_they_stand_among_safe_ones() -> None:
    chance = random.Random(7)
    plain = [
        sql for sql in safe.CASES if sql and not re.search(r"--|\\|COMMIT|BEGIN|SET |CREATE TYPE", sql, re.IGNORECASE)
    ]
    for rule, sql in UNSAFE:
        if rule in ("unreadable-statement", "uncommitted-transaction") or "--" in sql:
            continue
        around = [re.sub(r"\b(books|b)\b", "elsewhere", chance.choice(plain)) for _ in range(4)]
        around.insert(2, sql)
        found = lint_sql(";\n".join(around))
        assert rule in {finding.rule for finding in found}, around


def test_a_finding_names_the_line_where_the_statement_begins() -> None:
    text = "-- one\n\nSELECT 1;\n\n/* two\nlines */\nALTER TABLE books\n  DROP COLUMN title;\n"
    [finding] = lint_sql(text, file="a.sql")
    assert (finding.file, finding.line, finding.rule) == ("a.sql", 7, "drop-column")


def test_lines_inside_of_a_do_block_are_those_of_the_file() -> None:
    text = "SELECT 1;\nDO $$\nBEGIN\n  PERFORM 1;\n  DROP TABLE a;\n  EXECUTE 'DROP TABLE b';\nEND $$;"
    assert [finding.line for finding in lint_sql(text)] == [5, 6]


@pytest.mark.parametrize("kind", ["text", "character varying", "citext"])
def test_lifting_a_limit_of_an_unknown_type_asks_for_the_old_type(kind: str) -> None:
    change = f"ALTER TABLE books ALTER COLUMN a TYPE {kind}"
    [finding] = lint_sql(change)
    assert (finding.rule, finding.level) == ("alter-column-type", "error")
    assert "-- holdfast: books.a was TYPE" in finding.message
    assert lint_sql(f"-- holdfast: books.a was varchar(20)\n{change}") == []


def fix_of(sql: str) -> str:
    finding: Finding
    [finding] = lint_sql(sql)
    return finding.fix


SAFE_STEPS = [
    "CREATE INDEX i ON shop.books USING gin (words) WHERE sold",
    "DROP INDEX shop.i",
    "REINDEX TABLE books",
    "REFRESH MATERIALIZED VIEW totals",
    "ALTER TABLE books ADD CONSTRAINT c CHECK (a > (b + 1))",
    "ALTER TABLE shop.books ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES authors (id) ON DELETE CASCADE",
    "ALTER TABLE books ADD UNIQUE (a, b)",
    "ALTER TABLE books ADD CONSTRAINT k PRIMARY KEY (id)",
    "ALTER TABLE books ALTER COLUMN title SET NOT NULL",
    "ALTER TABLE books ADD COLUMN isbn text UNIQUE",
    "ALTER TABLE books ADD COLUMN a bigint REFERENCES authors",
    "ALTER TABLE books ADD COLUMN pages int CHECK (pages > 0)",
    "ALTER TABLE books ADD COLUMN t uuid DEFAULT gen_random_uuid()",
    "ALTER TABLE books ADD COLUMN n bigserial",
    "ALTER TABLE books ADD COLUMN n text NOT NULL",
    "ALTER TABLE sales DETACH PARTITION sales_1",
    "ALTER DOMAIN d ADD CHECK (VALUE <> '')",
    "ALTER TABLE books RENAME TO works",
    "VACUUM FULL books",
    "ALTER TABLE books DROP COLUMN title",
    "DROP TABLE books",
]


@pytest.mark.parametrize("sql", SAFE_STEPS)
def test_the_safe_rewrite_is_itself_found_safe(sql: str) -> None:
    assert lint_sql(fix_of(sql)) == []


def test_the_guide_speaks_of_every_rule_and_of_no_other() -> None:
    guide = (Path(__file__).parents[3] / "docs/guides/migrations-lint.md").read_text()
    table = guide.partition("## Rules")[2].partition("##")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    named = {rule for row in rows for rule in re.findall(r"`([a-z-]+)`", row)}
    assert named == RULES
