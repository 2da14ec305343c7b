"""The files of migrations: one line, from the first to the newest."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.errors import MigrationError
from holdfast.migrate import files, repair
from tests.migrate.versions import write


def names(folder: Path) -> list[str]:
    return [file.revision for file in files.read_folder(folder)]


def test_they_stand_in_the_order_in_which_they_follow_each_other(folder: Path) -> None:
    write(folder, "b", "pass", follows="c")
    write(folder, "a", "pass", follows="b")
    write(folder, "c", "pass")
    assert names(folder) == ["c", "b", "a"]


def test_without_a_folder_there_are_none(folder: Path) -> None:
    assert names(folder) == []


def test_two_that_follow_the_same_one_are_told_with_what_to_do(folder: Path) -> None:
    write(folder, "0001_begin", "pass")
    write(folder, "0002_ada", "pass", follows="0001_begin")
    write(folder, "0002_bob", "pass", follows="0001_begin")
    with pytest.raises(MigrationError, match=r"0002_ada and 0002_bob both follow 0001_begin.*--move 0002_bob"):
        names(folder)
    repair.move(folder, "0002_ada")
    assert names(folder) == ["0001_begin", "0002_bob", "0002_ada"]


def test_moving_one_from_the_middle_closes_the_gap(folder: Path) -> None:
    write(folder, "a", "pass")
    write(folder, "b", "pass", follows="a")
    write(folder, "c", "pass", follows="b")
    repair.move(folder, "a")
    assert names(folder) == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "is no migration: it has no down_revision"),
        ("down_revision = None\ndef upgrade(): pass", r"no function downgrade\(\).*irreversible"),
        ("down_revision = None\ndef downgrade(): pass", r"no function upgrade\(\)"),
        ("down_revision = None\ndef upgrade(:", "line 2 cannot be loaded: SyntaxError"),
        ("down_revision = None\nimport nothing_of_that_name", "cannot be loaded: ModuleNotFoundError"),
        ("down_revision = 7\ndef upgrade(): pass\ndef downgrade(): pass", "down_revision is 7, which is no str"),
        ("down_revision = None\nphase = 'soon'\ndef upgrade(): pass\ndef downgrade(): pass", "write 'pre' or 'post'"),
        ("down_revision = None\nirreversible = ' '\ndef upgrade(): pass", "say why it cannot be taken back"),
        (
            "down_revision = 'gone'\ndef upgrade(): pass\ndef downgrade(): pass",
            "follows 'gone', of which there is no file",
        ),
        ("down_revision = 'odd'\ndef upgrade(): pass\ndef downgrade(): pass", "does not lead back to a first"),
    ],
)
def test_a_file_that_is_no_migration_is_told(folder: Path, text: str, message: str) -> None:
    folder.mkdir()
    (folder / "odd.py").write_text(text)
    with pytest.raises(MigrationError, match=message):
        files.read_folder(folder)


def test_one_name_twice_is_told(folder: Path) -> None:
    write(folder, "a", "pass")
    (folder / "b.py").write_text((folder / "a.py").read_text())
    with pytest.raises(MigrationError, match=r"b.py and a.py both are the revision 'a'"):
        files.read_folder(folder)


def test_a_file_that_is_no_text_is_told(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MigrationError, match="cannot be read"):
        files.read_folder(folder)


def test_what_is_not_declared_a_migration_is_not_run(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (folder / "env.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    with pytest.raises(MigrationError):
        files.read_folder(folder)
    assert not (tmp_path / "run").exists()


def test_line_ends_do_not_count_and_everything_else_does() -> None:
    assert files.checksum("a\nb\n") == files.checksum("a\r\nb") != files.checksum("a\nb c")


def test_names_count_on_and_hold_the_words(folder: Path) -> None:
    assert files.next_name([], "Begin") == "0001_begin"
    write(folder, "0009_x", "pass")
    assert files.next_name(files.read_folder(folder), "Add *titles* & more!") == "0010_add_titles_more"
    assert files.next_name([], "日本") == "0001_migration"
