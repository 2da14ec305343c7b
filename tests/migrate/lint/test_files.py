"""Files and folders: which are linted, in which order, and what is no migration."""

from pathlib import Path

import pytest

from holdfast.errors import ConfigurationError
from holdfast.migrate.lint import lint_path, lint_paths

REVISION = '''"""Books."""

from alembic import op
import sqlalchemy as sa

revision = "{revision}"
down_revision = {down!r}


def upgrade() -> None:
{body}


def downgrade() -> None:
    op.drop_table("books")
'''


def revision(folder: Path, name: str, body: str, *, down: str | None = None, top: str = "") -> Path:
    path = folder / f"{name}.py"
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    path.write_text(top + REVISION.format(revision=name, down=down, body=lines))
    return path


def found(path: Path) -> list[tuple[str, int, str]]:
    return [(Path(finding.file).name, finding.line, finding.rule) for finding in lint_path(path)]


def test_a_folder_is_linted_with_what_is_in_it_forward_only(tmp_path: Path) -> None:
    for name in ("b.sql", "a.SQL", "sub/c.sql", ".hidden/d.sql", "e.down.sql", "sub/down.sql", "f_down.sql", "g.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("DROP TABLE t;")
    (tmp_path / "env.py").write_text("raise SystemExit('not a revision: never run')")
    assert found(tmp_path) == [("a.SQL", 1, "drop-table"), ("b.sql", 1, "drop-table"), ("c.sql", 1, "drop-table")]
    assert found(tmp_path / "e.down.sql") == [("e.down.sql", 1, "drop-table")]


def test_a_numbered_migration_knows_what_the_ones_before_it_made(tmp_path: Path) -> None:
    (tmp_path / "V1__make.sql").write_text("CREATE TABLE b (t varchar(10), n int);")
    (tmp_path / "V2__widen.sql").write_text("ALTER TABLE b ALTER COLUMN t TYPE varchar(20);")
    (tmp_path / "V3__check.sql").write_text("ALTER TABLE b ADD CONSTRAINT c CHECK (n IS NOT NULL) NOT VALID;")
    (tmp_path / "V4__validate.sql").write_text("ALTER TABLE b VALIDATE CONSTRAINT c;")
    (tmp_path / "V5__not_null.sql").write_text("ALTER TABLE b ALTER COLUMN n SET NOT NULL;")
    (tmp_path / "V10__narrow.sql").write_text(
        "ALTER TABLE b ALTER COLUMN t TYPE varchar(15);\nCREATE INDEX i ON b (t);"
    )
    # What an earlier migration made is in use: its index is not for free.
    assert found(tmp_path) == [("V10__narrow.sql", 1, "alter-column-type"), ("V10__narrow.sql", 2, "create-index")]
    assert ("V2__widen.sql", 1, "alter-column-type") in found(tmp_path / "V2__widen.sql")


def test_what_another_file_added_is_validated_in_another_transaction(tmp_path: Path) -> None:
    (tmp_path / "V1.sql").write_text("BEGIN; ALTER TABLE b ADD CONSTRAINT c CHECK (n > 0) NOT VALID; COMMIT;")
    (tmp_path / "V2.sql").write_text("BEGIN; ALTER TABLE b VALIDATE CONSTRAINT c; COMMIT;")
    assert found(tmp_path) == []


def test_files_without_numbers_know_nothing_of_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text("CREATE TABLE b (t varchar(10));")
    (tmp_path / "b.sql").write_text("ALTER TABLE b ALTER COLUMN t TYPE varchar(20);")
    assert found(tmp_path) == [("b.sql", 1, "alter-column-type")]


def test_a_revision_is_linted_as_the_sql_it_renders_at_its_own_lines(tmp_path: Path) -> None:
    path = revision(
        tmp_path,
        "one",
        """op.create_table("authors", sa.Column("id", sa.Integer, primary_key=True))
op.create_index("i", "authors", ["id"])
op.add_column(
    "books",
    sa.Column("pages", sa.Integer, nullable=False),
)
op.execute(
    \"\"\"
    UPDATE books SET pages = 1
    \"\"\"
)
with op.get_context().autocommit_block():
    op.create_index("j", "books", ["pages"], postgresql_concurrently=True)
op.create_index("k", "books", ["pages"], postgresql_concurrently=True)""",
    )
    assert found(path) == [
        ("one.py", 13, "add-column-not-null"),
        ("one.py", 17, "update-all-rows"),
        ("one.py", 24, "concurrently-in-transaction"),
    ]
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_relative_path_has_the_same_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = revision(tmp_path, "one", 'op.drop_table("a")\n1 / 0')
    monkeypatch.chdir(tmp_path)
    [dropped, failed] = lint_path(path.name)
    assert [(dropped.file, dropped.line), (failed.file, failed.line)] == [("one.py", 11), ("one.py", 12)]


def test_comments_of_a_revision_allow_rules(tmp_path: Path) -> None:
    body = '# holdfast: allow drop-table because it is empty\nop.drop_table("a")\nop.drop_table("b")'
    assert found(revision(tmp_path, "one", body)) == [("one.py", 13, "drop-table")]
    top = "# holdfast: allow drop-table because both are empty\n"
    assert found(revision(tmp_path, "two", body, top=top)) == []
    without = body.replace(" because it is empty", "")
    assert found(revision(tmp_path, "three", without)) == [
        ("three.py", 11, "bad-suppression"),
        ("three.py", 12, "drop-table"),
        ("three.py", 13, "drop-table"),
    ]


def test_revisions_are_read_along_their_history(tmp_path: Path) -> None:
    revision(tmp_path, "a_second", 'op.alter_column("b", "t", type_=sa.String(20))', down="z_first")
    revision(tmp_path, "z_first", 'op.create_table("b", sa.Column("t", sa.String(10)))')
    revision(tmp_path, "b_third", 'op.alter_column("b", "t", type_=sa.String(15))', down="a_second")
    assert found(tmp_path) == [("b_third.py", 11, "alter-column-type")]


def test_the_type_that_a_revision_says_a_column_had_is_believed(tmp_path: Path) -> None:
    body = """op.alter_column("b", "t", existing_type=sa.String(10), type_=sa.String(20), schema="shop")
op.alter_column("b", "u", existing_type=sa.String(20), type_=sa.String(10))
op.alter_column("b", "v", existing_type=sa.Integer(), nullable=True)"""
    assert found(revision(tmp_path, "one", body)) == [
        ("one.py", 12, "alter-column-type"),
        ("one.py", 12, "rewrite-under-lock"),  # shop.b is locked since the line above
    ]


def test_a_message_names_the_line_of_the_revision_where_the_lock_was_taken(tmp_path: Path) -> None:
    body = """op.add_column("b", sa.Column("n", sa.Integer()))
op.execute("UPDATE b SET n = 1 WHERE id < 10")"""
    [finding] = lint_path(revision(tmp_path, "one", body))
    assert (finding.line, finding.rule) == (12, "work-under-lock")
    assert finding.message.startswith("b is under ACCESS EXCLUSIVE since line 11:")


def test_a_revision_may_import_what_it_stands_beside_and_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names_of_tables.py").write_text('BOOKS = "books"\n')
    monkeypatch.chdir(tmp_path)
    body = "import names_of_tables\nprint('hello')\nop.drop_table(names_of_tables.BOOKS)"
    assert found(revision(tmp_path, "one", body)) == [("one.py", 13, "drop-table")]
    assert capsys.readouterr().out == ""


def test_adding_and_validating_in_one_revision_is_one_transaction(tmp_path: Path) -> None:
    body = """op.create_check_constraint("c", "b", "n > 0", postgresql_not_valid=True)
op.execute("ALTER TABLE b VALIDATE CONSTRAINT c")"""
    assert found(revision(tmp_path, "one", body)) == [("one.py", 12, "validate-in-same-transaction")]


def test_what_needs_a_database_to_render_is_said_and_the_rest_is_linted(tmp_path: Path) -> None:
    body = 'op.drop_table("a")\nrows = op.get_bind().execute(sa.text("SELECT 1")).fetchall()\nop.drop_table("b")'
    assert found(revision(tmp_path, "one", body)) == [
        ("one.py", 11, "drop-table"),
        ("one.py", 12, "migration-not-rendered"),
        ("one.py", 13, "drop-table"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"SELECT 1", "neither a .sql file nor an Alembic revision"),
        ("a.sql", b"SELECT '\xff'", "is not UTF-8 text"),
        ("a.sql", b"\x7fELF\x00\x01", "NUL"),
        ("a.py", b"import os", "is no Alembic revision"),
        ("a.py", b"def upgrade(:", "is no Alembic revision"),
    ],
)
def test_what_is_no_migration_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=said) as refused:
        lint_path(tmp_path / name)
    assert name in str(refused.value)


def test_a_missing_path_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"'nowhere\.sql' does not exist"):
        lint_path("nowhere.sql")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_understood(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.sql").write_bytes("DROP TABLE é;".encode(encoding))
    assert found(tmp_path) == [("a.sql", 1, "drop-table")]


def test_a_file_that_is_named_twice_is_linted_once(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text("DROP TABLE a")
    assert len(lint_paths([tmp_path / "a.sql", tmp_path])) == 1
