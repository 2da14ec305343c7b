"""`holdfast migrate` as a person runs it: models in a module, files in a folder, an own history."""

from __future__ import annotations

import sqlite3

import pytest

from tests.cli.command import Outcome, Shell

MODELS = """
from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped
from holdfast import Model
from holdfast.migrate import before_migrate
from holdfast.model import NAMING


class Base(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Note(Base):
    __tablename__ = "notes"
    title: Mapped[str]
"""
BODY = "    body: Mapped[str | None]\n"


class Notes:
    """The models of a folder, and one database."""

    def __init__(self, shell: Shell, url: str) -> None:
        self.shell = shell
        self.environment = {"HOLDFAST_MODELS": "notes_models", "HOLDFAST_DATABASE_URL": url}
        self.declare()

    def declare(self, more: str = "") -> None:
        (self.shell.folder / "notes_models.py").write_text(MODELS + more)

    def migrate(self, *arguments: str) -> Outcome:
        return self.run("migrate", *arguments)

    def run(self, *arguments: str) -> Outcome:
        return self.shell.run(*arguments, **self.environment)


@pytest.fixture
def notes(shell: Shell, sqlite_url: str) -> Notes:
    return Notes(shell, sqlite_url)


def test_from_a_model_to_a_table_and_on(shell: Shell, database_url: str) -> None:
    notes = Notes(shell, database_url)
    assert notes.migrate("new", "Begin").out == "wrote migrations/0001_begin.py\n"
    status = notes.migrate("status")
    assert "0001_begin" in status.out
    assert "pending" in status.out
    assert "CREATE TABLE notes" in notes.migrate("plan").out
    assert "0001_begin  Begin" in notes.migrate("up").out
    assert notes.migrate("up").out == f"{database_url}: nothing to do\n"
    assert notes.migrate("new", "Nothing").out == "the migrations make what the models have; nothing to write\n"
    assert notes.migrate("check").code == 0
    notes.declare(BODY)
    check = notes.migrate("check", "--json")
    assert check.code == 1
    assert check.json["undeclared"] == ["notes: column body is missing (VARCHAR)"]
    written = notes.migrate("new", "Bodies", "--json").json
    assert written["paths"] == ["migrations/0002_bodies.py"]
    assert [one["revision"] for one in notes.migrate("up", "--json").json["applied"]] == ["0002_bodies"]
    assert notes.migrate("check").code == 0
    assert notes.migrate("down").out == "0002_bodies  Bodies\ntook back 1\n"
    events = notes.migrate("history", "--json").lines
    assert [(event["kind"], event["revision"]) for event in events] == [
        ("up", "0001_begin"),
        ("up", "0002_bodies"),
        ("down", "0002_bodies"),
    ]
    doctor = notes.run("doctor")
    assert "the database lacks migration 0002_bodies" in doctor.out + doctor.err


def test_an_edited_file_stops_everything_and_says_the_way_out(notes: Notes) -> None:
    notes.migrate("new", "Begin")
    notes.migrate("up")
    path = notes.shell.folder / "migrations" / "0001_begin.py"
    path.write_text(path.read_text() + "# a word\n")
    for command in ("up", "down", "plan"):
        refused = notes.migrate(command)
        assert refused.code == 1
        assert "0001_begin.py was edited after it was applied" in refused.err
        assert "holdfast migrate repair --accept 0001_begin" in refused.err
    status = notes.migrate("status")
    assert status.code == 1
    assert "repair --accept" in status.out
    assert notes.migrate("repair", "--accept", "0001_begin").out == "accepted 0001_begin\n"
    assert notes.migrate("status").code == 0


def test_production_takes_nothing_back_unless_told_twice(notes: Notes) -> None:
    notes.environment["HOLDFAST_ENV"] = "production"
    notes.migrate("new", "Begin")
    notes.migrate("up")
    refused = notes.migrate("down")
    assert refused.code == 1
    assert "say --yes" in refused.err
    assert notes.migrate("down", "--yes").code == 0


def test_a_folder_that_was_named_and_has_none_is_told_and_nothing_is_run(notes: Notes) -> None:
    notes.migrate("new", "Begin")
    for run in (
        lambda: notes.migrate("up", "--folder", "migratoins"),
        lambda: notes.shell.run("migrate", "up", **notes.environment, HOLDFAST_MIGRATIONS="migratoins"),
    ):
        wrong = run()
        assert wrong.code == 1
        assert "there are no migrations in migratoins" in wrong.err
    assert "pending" in notes.migrate("status").out


def test_production_changes_no_table_in_use_without_migrations(notes: Notes) -> None:
    notes.environment["HOLDFAST_ENV"] = "production"
    assert notes.migrate("up").code == 0  # the tables are new
    notes.declare(BODY)
    refused = notes.migrate("up")
    assert refused.code == 1
    assert "tables that are there lack notes.body" in refused.err
    assert "column notes.body" in notes.migrate("up", "--unsafe").out


HOOK = """
from holdfast.migrate import before_migrate


@before_migrate
async def back_up(store, planned):
    raise RuntimeError("backup disk full")
"""


@pytest.mark.parametrize("has_folder", [True, False])
def test_what_runs_before_may_stop_it(notes: Notes, has_folder: bool) -> None:
    if has_folder:
        notes.migrate("new", "Begin")
    models = notes.shell.folder / "notes_models.py"
    models.write_text(models.read_text() + HOOK)
    stopped = notes.migrate("up")
    assert stopped.code == 1
    assert "back_up, which runs before migrations, stopped them; nothing was run: RuntimeError: backup" in stopped.err
    tables = sqlite3.connect(notes.shell.folder / "holdfast.db").execute("SELECT name FROM sqlite_master").fetchall()
    assert ("notes",) not in tables


DROPPING = """from alembic import op
import sqlalchemy as sa

down_revision = "0001_begin"


def upgrade() -> None:
    op.drop_column("notes", "body")


def downgrade() -> None:
    op.add_column("notes", sa.Column("body", sa.String()))
"""


def test_what_is_unsafe_is_told_and_refused_in_production_unless_said(shell: Shell, database_url: str) -> None:
    notes = Notes(shell, database_url)
    notes.declare(BODY)
    notes.migrate("new", "Begin")
    assert notes.migrate("up", "--json").json["unsafe"] == []
    notes.declare()
    path = shell.folder / "migrations" / "0002_drop.py"
    path.write_text(DROPPING)
    check = notes.migrate("check", "--json")
    assert check.code == 1
    [line] = check.json["unsafe"]
    assert line.startswith("0002_drop.py:8: drop-column: ")
    assert 'instead: phase = "post"' in line
    notes.environment["HOLDFAST_ENV"] = "production"
    refused = notes.migrate("up")
    assert (refused.code, refused.out) == (1, "")
    assert line in refused.err
    assert "nothing was run" in refused.err
    assert "--unsafe" in refused.err
    assert notes.migrate("up", "--unsafe", "--json").json["unsafe"] == [line]
    assert notes.migrate("down", "--yes").code == 0
    notes.environment["HOLDFAST_ENV"] = "development"
    told = notes.migrate("up")
    assert told.code == 0
    assert f"unsafe beside a running application: {line}" in told.out
    assert notes.migrate("check").code == 0


def test_in_production_a_reason_or_the_right_phase_lets_it_run(notes: Notes) -> None:
    notes.declare(BODY)
    notes.migrate("new", "Begin")
    notes.environment["HOLDFAST_ENV"] = "production"
    path = notes.shell.folder / "migrations" / "0002_drop.py"
    call = '    op.drop_column("notes", "body")\n'
    path.write_text(DROPPING.replace(call, f"    # holdfast: allow drop-column because nobody has it yet\n{call}"))
    assert notes.migrate("up").code == 0
    assert notes.migrate("down", "--yes").code == 0
    path.write_text(DROPPING.replace("\n\n\ndef upgrade", '\nphase = "post"\n\n\ndef upgrade'))
    assert notes.migrate("up", "--phase", "post").code == 0


def test_a_hook_of_the_models_module_runs_before_migrations(notes: Notes) -> None:
    notes.declare("\n\n@before_migrate\nasync def note(store, planned):\n    print('before', *planned.revisions)\n")
    notes.migrate("new", "Begin")
    assert notes.migrate("up").out.startswith("before 0001_begin\n")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("new", "***"), 2, "has no letters to make a name of"),
        (("repair",), 2, "say one of --accept, --forget, --move and --adopt"),
        (("repair", "--accept", "a", "--forget", "b"), 2, "say one of"),
        (("repair", "--forget", "a"), 1, "does not have 'a'"),
        (("repair", "--move", "a"), 1, "there is no file of 'a'"),
        (("repair", "--adopt", "a"), 1, "there is no migration 'a'"),
        (("up", "--to", "a"), 1, "there are no migrations in migrations; write one with `holdfast migrate new`"),
        (("up", "--phase", "later"), 2, "later"),
        (("down", "--to", "a"), 1, "there is no migration 'a'"),
    ],
)
def test_bad_input_is_told(notes: Notes, arguments: tuple[str, ...], code: int, said: str) -> None:
    run = notes.migrate(*arguments)
    assert run.code == code
    assert said in run.err


def test_every_tenants_file_is_migrated_and_one_that_fails_stops_nobody(notes: Notes) -> None:
    notes.migrate("new", "Begin")
    folder = notes.shell.folder / "tenants"
    folder.mkdir()
    for name in ("acme", "bolt"):
        sqlite3.connect(folder / f"{name}.db").close()
    done = notes.migrate("tenants", "tenants", "--json")
    assert (done.code, done.json["migrated"], done.json["unchanged"], done.json["failed"]) == (0, 2, 0, [])
    (folder / "cord.db").write_bytes(b"no database at all" * 100)
    sqlite3.connect(folder / "dora.db").close()
    done = notes.migrate("tenants", "tenants")
    assert done.code == 3
    assert "4 databases" in done.out
    assert "1 migrated, 2 unchanged" in done.out
    assert "tenants/cord.db: " in done.out
    assert sqlite3.connect(folder / "dora.db").execute("SELECT count(*) FROM notes").fetchall() == [(0,)]
    refused = notes.migrate("tenants", "nowhere")
    assert refused.code == 2
    assert "nowhere has no *.db" in refused.err


def test_what_is_unsafe_is_refused_for_every_tenant_before_any_is_touched(notes: Notes) -> None:
    notes.declare(BODY)
    notes.migrate("new", "Begin")
    folder = notes.shell.folder / "tenants"
    folder.mkdir()
    for name in ("acme", "bolt"):
        sqlite3.connect(folder / f"{name}.db").close()
    assert notes.migrate("tenants", "tenants").code == 0
    notes.declare()
    (notes.shell.folder / "migrations" / "0002_drop.py").write_text(DROPPING)
    notes.environment["HOLDFAST_ENV"] = "production"
    refused = notes.migrate("tenants", "tenants")
    assert refused.code == 1
    assert refused.err.count("0002_drop.py:") == 1
    assert "--unsafe" in refused.err
    for name in ("acme", "bolt"):
        assert sqlite3.connect(folder / f"{name}.db").execute("SELECT count(body) FROM notes").fetchall() == [(0,)]
    done = notes.migrate("tenants", "tenants", "--unsafe", "--json")
    assert (done.code, done.json["migrated"]) == (0, 2)
    assert "unsafe beside a running application: 0002_drop.py:" in done.err


def test_validate_says_what_is_wrong_and_what_to_do(shell: Shell, database_url: str) -> None:
    notes = Notes(shell, database_url)
    notes.migrate("up")
    whole = notes.migrate("validate")
    assert whole.code == 0
    assert "every row can be read" in whole.out
    notes.declare(BODY)
    found = notes.migrate("validate", "--json")
    assert found.code == 1
    assert found.json["rows"] == {"notes": 0}
    assert [one["message"] for one in found.json["findings"]] == ["notes: column body is missing (VARCHAR)"]
    assert "holdfast migrate up" in notes.migrate("validate").out
