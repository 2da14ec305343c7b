"""The command line as a user has it: a process of its own, in an empty folder."""

from pathlib import Path

import pytest

from tests.cli.command import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Commands run in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    return Shell(folder)
