"""`holdfast migrate lint` as a user runs it."""

from pathlib import Path

from tests.cli.command import Shell


def test_findings_are_one_json_array_and_decide_the_exit_code(shell: Shell) -> None:
    folder = Path(shell.folder)
    (folder / "bad.sql").write_text("SELECT 1;\nTRUNCATE books;\n")
    (folder / "good.sql").write_text("ALTER TABLE books ADD COLUMN n int;\n")
    done = shell.run("migrate", "lint", "bad.sql", "good.sql", "--json")
    assert (done.code, done.err) == (1, "")
    [finding] = done.json
    assert list(finding) == ["file", "line", "rule", "level", "message", "fix"]
    assert (finding["file"], finding["line"], finding["rule"], finding["level"]) == (
        "bad.sql",
        2,
        "truncate",
        "error",
    )
    done = shell.run("migrate", "lint", "good.sql", "--json")
    assert (done.code, done.json) == (0, [])
    done = shell.run("migrate", "lint", ".")
    assert done.code == 1
    assert done.out.splitlines()[:2] == ["bad.sql", "  2: error truncate"]
    assert done.out.splitlines()[-1] == "1 error, 0 warnings"


def test_a_warning_alone_is_no_failure(shell: Shell) -> None:
    (Path(shell.folder) / "a.sql").write_text("CREATE INDEX CONCURRENTLY i ON t (a, b, c, d);")
    done = shell.run("migrate", "lint", "a.sql", "--json")
    assert (done.code, [finding["level"] for finding in done.json]) == (0, ["warning"])


def test_wrong_usage_is_said_on_standard_error(shell: Shell) -> None:
    (Path(shell.folder) / "a.sql").write_text("SELECT 1")
    for arguments, said in (
        (("nowhere.sql",), "'nowhere.sql' does not exist"),
        (("a.sql", "--dialect", "oracle"), "neither postgresql nor sqlite"),
        (("a.sql", "--schema", "a.sql"), "--schema is for --trace"),
        ((), "Missing argument"),
    ):
        done = shell.run("migrate", "lint", *arguments)
        assert (done.code, done.out) == (2, ""), arguments
        assert said in done.err


def test_sqlite_has_rules_of_its_own(shell: Shell) -> None:
    (Path(shell.folder) / "a.sql").write_text("CREATE INDEX i ON books (title);")
    assert shell.run("migrate", "lint", "a.sql", "--dialect", "sqlite", "--json").json == []
    assert shell.run("migrate", "lint", "a.sql", "--json").code == 1


def test_the_trace_adds_what_only_running_shows(shell: Shell, postgres_url: str) -> None:
    folder = Path(shell.folder)
    (folder / "schema.sql").write_text(
        "CREATE TABLE books (id int); CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'LOCK TABLE books';"
    )
    (folder / "a.sql").write_text("SELECT f();")
    arguments = ("migrate", "lint", "a.sql", "--json", "--trace", postgres_url, "--schema", "schema.sql")
    done = shell.run(*arguments)
    assert (done.code, [finding["rule"] for finding in done.json]) == (1, ["lock-taken"])
