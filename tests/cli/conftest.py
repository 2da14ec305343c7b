"""The command line as a user has it: a process of its own, in an empty folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from holdfast.cli.main import app
from holdfast.errors import HoldfastError
from tests.cli.command import Outcome, Shell

Run = Callable[..., Outcome]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Commands run in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    return Shell(folder)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **env: str) -> Outcome:
        done = CliRunner().invoke(app, arguments, env=env)
        if isinstance(done.exception, HoldfastError | OSError):
            return Outcome(1, done.stdout, done.stderr + str(done.exception))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return Outcome(done.exit_code, done.stdout, done.stderr)

    return run
