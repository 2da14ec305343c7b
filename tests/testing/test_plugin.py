"""The pytest plugin, as a project has it: in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devservers import PostgresServer

ROOT = Path(__file__).parents[2]
MODELS = """
from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped, mapped_column
from holdfast import Model
from holdfast.model import NAMING

class Note(Model):
    __tablename__ = "notes"
    metadata = MetaData(naming_convention=NAMING)
    title: Mapped[str] = mapped_column(unique=True)
"""
TESTS = """
import pytest
from notes_models import Note
from holdfast.testing import assert_changes

@pytest.mark.parametrize("turn", range(4))
async def test_each_has_a_database_of_its_own(hold, turn):
    async with assert_changes(hold, notes_insert=1) as changes:
        async with hold.unit(actor="ada") as unit:
            await unit[Note].add(Note(title="the same"))
    assert [change.actor for change in changes] == ["ada"]

async def test_what_was_not_expected_is_told(hold):
    with pytest.raises(AssertionError, match="the journal got notes_insert 1; expected was notes_delete 2"):
        async with assert_changes(hold, notes_delete=2):
            async with hold.unit() as unit:
                await unit[Note].add(Note(title="x"))

async def test_nothing_may_be_expected(hold, holdfast_store):
    assert hold.store is holdfast_store
    async with assert_changes(hold, notes_insert=0):
        pass

def test_the_url_alone(holdfast_database_url):
    assert "PLACE" in holdfast_database_url
"""


class Project:
    """A folder with models and tests, and its pytest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "notes_models.py").write_text(MODELS)
        (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")

    def run(self, tests: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "test_notes.py").write_text(tests)
        paths = os.pathsep.join((str(ROOT / "src"), str(self.folder)))
        given = {**os.environ, "PYTHONPATH": paths, "HOLDFAST_MODELS": "notes_models", **environment}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "holdfast_pytest", "-p", "no:cacheprovider", *arguments]
        return subprocess.run(command, cwd=self.folder, env=given, capture_output=True, text=True, timeout=120)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(folder)


def test_on_sqlite_by_default_and_on_several_workers(project: Project) -> None:
    done = project.run(TESTS.replace("PLACE", "sqlite:///"), "-n", "2")
    assert "7 passed" in done.stdout, done.stdout + done.stderr


def test_on_postgresql_and_nothing_is_left_behind(project: Project, postgres_server: PostgresServer) -> None:
    done = project.run(TESTS.replace("PLACE", "postgresql://"), HOLDFAST_TEST_DATABASE_URL=postgres_server.url)
    assert "7 passed" in done.stdout, done.stdout + done.stderr
    left = "DO $$ BEGIN ASSERT (SELECT count(*) FROM pg_database WHERE datname LIKE 'holdfast_test_%') = 0; END $$"
    postgres_server.execute(left)


def test_a_role_that_may_not_create_databases_is_told(project: Project, postgres_server: PostgresServer) -> None:
    postgres_server.execute("DROP ROLE IF EXISTS plain", "CREATE ROLE plain LOGIN")
    url = postgres_server.database_url("postgres", "plain")
    done = project.run(TESTS, "-k", "url", HOLDFAST_TEST_DATABASE_URL=url)
    assert "the role plain of HOLDFAST_TEST_DATABASE_URL may not create databases" in done.stdout
    assert 'ALTER ROLE "plain" CREATEDB' in done.stdout


def test_models_may_be_given_by_a_fixture(project: Project) -> None:
    own = """
import pytest

@pytest.fixture(scope="session")
def holdfast_models():
    from notes_models import Note
    return Note.metadata
"""
    done = project.run(own + TESTS.replace("PLACE", "sqlite:///"), HOLDFAST_MODELS="nothing.of.that.name")
    assert "7 passed" in done.stdout, done.stdout + done.stderr


def test_who_does_not_use_it_does_not_import_the_library(project: Project) -> None:
    done = project.run("import sys\ndef test(): assert not {'holdfast', 'sqlalchemy'} & set(sys.modules)\n")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_production_is_never_touched(project: Project) -> None:
    environment = {"HOLDFAST_ENV": "production", "HOLDFAST_DATABASE_URL": "postgresql://live.invalid/live"}
    done = project.run(TESTS.replace("PLACE", "sqlite:///"), "-k", "url or own", **environment)
    assert "5 passed" in done.stdout, done.stdout + done.stderr
