"""Rules that a comment allows: where it holds, and what it must say."""

import pytest

from holdfast.migrate.lint import lint_sql


def rules(text: str) -> list[tuple[int, str]]:
    return [(finding.line, finding.rule) for finding in lint_sql(text)]


def test_a_comment_allows_a_rule_for_the_statement_after_it_alone() -> None:
    text = "SELECT 1;\n-- holdfast: allow drop-table because it is empty\nDROP TABLE a;\nDROP TABLE b;\n"
    assert rules(text) == [(4, "drop-table")]


def test_above_the_first_statement_it_holds_for_that_and_before_a_blank_line_for_the_file() -> None:
    comment = "-- holdfast: allow drop-table because both are empty\n"
    assert rules(comment + "DROP TABLE a;\nDROP TABLE b;\n") == [(3, "drop-table")]
    assert rules(comment + "\nDROP TABLE a;\nDROP TABLE b;\n") == []
    assert rules("SELECT 1;\n" + comment + "\nDROP TABLE a;\nDROP TABLE b;\n") == [(5, "drop-table")]


def test_several_rules_and_block_comments() -> None:
    text = "/* Holdfast: ALLOW drop-column, set-not-null\n BECAUSE it is empty */\n"
    text += "ALTER TABLE a DROP b, ALTER c SET NOT NULL"
    assert rules(text) == []


def test_another_rule_is_still_found() -> None:
    text = "-- holdfast: allow drop-column because nobody reads it\nALTER TABLE a DROP b, ALTER c SET NOT NULL"
    assert rules(text) == [(2, "set-not-null")]


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ("-- holdfast: allow drop-table", "drop-table is allowed without a reason"),
        ("-- holdfast: allow drop-table because", "drop-table is allowed without a reason"),
        ("-- holdfast: allow drop-tables because it is empty", "there is no rule drop-tables"),
        ("-- holdfast: ignore drop-table", "not understood: holdfast: ignore drop-table"),
        ("-- holdfast:", "not understood: holdfast: "),
    ],
)
def test_a_bad_suppression_is_an_error_and_allows_nothing(comment: str, said: str) -> None:
    found = lint_sql(f"SELECT 1;\n{comment}\nDROP TABLE a;")
    assert [(finding.line, finding.rule, finding.level) for finding in found] == [
        (2, "bad-suppression", "error"),
        (3, "drop-table", "error"),
    ]
    assert found[0].message == said


def test_a_comment_inside_of_a_string_is_no_suppression() -> None:
    assert rules("SELECT '\n-- holdfast: allow nonsense\n';") == []


@pytest.mark.parametrize(
    "comment",
    [
        "-- eugene: ignore E2, E4",
        "-- eugene: ignore E99",
        "-- squawk-ignore adding-not-nullable-field",
        "-- squawk-ignore renaming-column,adding-not-nullable-field",
        "-- squawk-ignore",
        "-- squawk-ignore-file adding-not-nullable-field",
        "-- atlas:nolint",
        "-- atlas:nolint data_depend",
        "/* atlas:nolint MF104 */",
        "-- pgfence-ignore",
        "-- pgfence-ignore: set-not-null",
        "-- pgvet_nolint:add-column, set-not-null it is small",
        "-- pgls-ignore lint/safety/addingNotNullField: it is small",
        "-- drizzle-migration-lint:disable-file set-not-null deployed together",
        "-- migrationpilot-disable-next-line MP018",
    ],
)
def test_what_is_accepted_towards_another_tool_is_a_warning_that_asks_for_a_reason(comment: str) -> None:
    [finding] = lint_sql(f"SELECT 1;\n{comment}\nALTER TABLE a ALTER b SET NOT NULL;")
    assert (finding.line, finding.rule, finding.level) == (3, "set-not-null", "warning")
    assert comment.strip("-/* ") in finding.message
    assert "-- holdfast: allow set-not-null because …" in finding.message


@pytest.mark.parametrize(
    "text",
    [
        "-- eugene: ignore E6\nALTER TABLE a ALTER b SET NOT NULL;",
        "-- squawk-ignore prefer-text-field\nALTER TABLE a ALTER b SET NOT NULL;",
        "-- squawk-ignored\nALTER TABLE a ALTER b SET NOT NULL;",
        "-- pgfence-ignore: drop-table\nALTER TABLE a ALTER b SET NOT NULL;",
        "-- pgfence-ignored\nALTER TABLE a ALTER b SET NOT NULL;",
        "-- we could say eugene: ignore E2\nALTER TABLE a ALTER b SET NOT NULL;",
        "SELECT '-- atlas:nolint'; ALTER TABLE a ALTER b SET NOT NULL;",
        "-- atlas:nolint\nSELECT 1;\nALTER TABLE a ALTER b SET NOT NULL;",
        "SELECT 1; -- eugene: ignore E2\nALTER TABLE a ALTER b SET NOT NULL;",
    ],
)
def test_what_is_about_something_else_accepts_nothing(text: str) -> None:
    assert [finding.level for finding in lint_sql(text)] == ["error"]


def test_a_comment_for_the_whole_file_of_another_tool_holds_for_it() -> None:
    text = "ALTER TABLE a ALTER b SET NOT NULL;\nTRUNCATE a;"
    for comment in ("-- atlas:nolint\n\n", "SELECT 1;\n-- squawk-ignore-file\n"):
        assert [finding.level for finding in lint_sql(comment + text)] == ["warning", "warning"]


def test_a_reason_of_ours_takes_the_warning_away() -> None:
    text = (
        "-- eugene: ignore E2\n-- holdfast: allow set-not-null because it is small\nALTER TABLE a ALTER b SET NOT NULL"
    )
    assert lint_sql(text) == []


def test_a_statement_that_cannot_be_read_is_an_error_whatever_is_accepted() -> None:
    assert [finding.level for finding in lint_sql("-- atlas:nolint\nSELECT 'a")] == ["error"]
