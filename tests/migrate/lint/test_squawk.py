"""squawk as a second reader: what it adds, and that nothing depends on it."""

from pathlib import Path

import pytest

from holdfast.errors import ConfigurationError, MissingExtra
from holdfast.migrate.lint import lint_path, squawk
from holdfast.migrate.lint.squawk import squawk_findings


def test_statements_that_fail_are_added(tmp_path: Path) -> None:
    path = tmp_path / "a.sql"
    path.write_text("SELECT 1;\nUPDATE b SET a = 1, a = 2 WHERE id = 1;\n")
    assert lint_path(path) == []
    [finding] = lint_path(path, squawk=squawk.DEFAULT_RULES)
    assert (finding.file, finding.line, finding.rule) == (str(path), 2, "squawk/ban-duplicate-column-assignments")
    assert finding.message
    assert finding.fix


def test_its_style_is_found_only_when_asked_for_and_allowed_like_any_rule(tmp_path: Path) -> None:
    path = tmp_path / "a.sql"
    path.write_text("ALTER TABLE b ADD COLUMN c varchar(10);\n")
    assert lint_path(path, squawk=squawk.DEFAULT_RULES) == []
    assert [finding.rule for finding in lint_path(path, squawk=["prefer-text-field"])] == ["squawk/prefer-text-field"]
    path.write_text("-- holdfast: allow squawk/prefer-text-field because it is a code\n" + path.read_text())
    assert lint_path(path, squawk=["prefer-text-field"]) == []


def test_where_both_speak_of_a_hazard_ours_is_the_judgement() -> None:
    safe = "CREATE TABLE t (id int);\nCREATE INDEX i ON t (id);\nALTER TABLE t ALTER COLUMN id SET NOT NULL;"
    assert squawk_findings({"a.sql": safe, "b.sql": "DROP TABLE b; ALTER TABLE b DROP COLUMN c;"}) == []


def test_a_rule_that_it_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="squawk has no rule no-such"):
        squawk_findings({"a.sql": "SELECT 1"}, ["no-such"])


def test_without_squawk_our_rules_work_and_asking_for_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(squawk, "squawk_path", lambda: None)
    path = tmp_path / "a.sql"
    path.write_text("DROP TABLE b;")
    assert [finding.rule for finding in lint_path(path)] == ["drop-table"]
    with pytest.raises(MissingExtra, match=r"holdfast\[lint\]"):
        lint_path(path, squawk=())
