"""The migrations of a folder: one Python file each, in one line from the first to the newest."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

from holdfast.errors import MigrationError

Phase = Literal["pre", "post"]
Direction = Literal["up", "down"]

_NUMBERED = re.compile(r"(\d{4,})_")


@dataclass(frozen=True, kw_only=True)
class MigrationFile:
    """One migration.

    Attributes:
        revision: its name, which is the file's name without `.py` unless the file says otherwise.
        follows: the revision before it, None for the first.
        title: the first line of its docstring.
        checksum: of its text; line ends do not count.
        phase: "pre" runs before the new program is deployed, "post" when no old one runs any more.
        transactional: False for what PostgreSQL does outside a transaction, as building an index without locking.
        irreversible: why it cannot be taken back, or None.
        statement_timeout: seconds a statement may take, where the file says so.
    """

    revision: str
    follows: str | None
    path: Path
    title: str
    checksum: str
    phase: Phase
    transactional: bool
    irreversible: str | None
    statement_timeout: float | None
    module: ModuleType

    def script(self, direction: Direction) -> Callable[[], Any]:
        """`upgrade` or `downgrade`.

        Raises:
            MigrationError: it is declared irreversible.
        """
        if direction == "down" and self.irreversible is not None:
            raise MigrationError(f"{self.revision} cannot be taken back: {self.irreversible}; restore a backup instead")
        name = "upgrade" if direction == "up" else "downgrade"
        return getattr(self.module, name)  # type: ignore[no-any-return]


def read_folder(folder: Path) -> list[MigrationFile]:
    """The migrations of `folder`, first to newest; empty when there is no such folder.

    Raises:
        MigrationError: a file is no migration, or they do not stand in one line.
    """
    if not folder.is_dir():
        return []
    return in_line(read_all(folder))


def read_all(folder: Path) -> list[MigrationFile]:
    """The migrations of `folder` in the order of their names, whatever they follow."""
    paths = sorted(path for path in folder.glob("*.py") if not path.name.startswith(("_", ".")))
    return [read_file(path) for path in paths]


def in_line(files: Iterable[MigrationFile]) -> list[MigrationFile]:
    """`files` from the first to the newest.

    Raises:
        MigrationError: two have one name or follow the same one, one follows what is not there or itself.
    """
    by_name: dict[str, MigrationFile] = {}
    next_of: dict[str | None, MigrationFile] = {}
    for file in files:
        if (other := by_name.get(file.revision)) is not None:
            raise MigrationError(
                f"{file.path.name} and {other.path.name} both are the revision {file.revision!r}; rename one"
            )
        by_name[file.revision] = file
    for file in by_name.values():
        if file.follows is not None and file.follows not in by_name:
            raise MigrationError(
                f"{file.revision} follows {file.follows!r}, of which there is no file; restore it, or correct"
                f" `down_revision` in {file.path.name}"
            )
        if (other := next_of.get(file.follows)) is not None:
            raise TwoHeads(other, file)
        next_of[file.follows] = file
    line: list[MigrationFile] = []
    while (following := next_of.get(line[-1].revision if line else None)) is not None:
        line.append(following)
    if len(line) < len(by_name):
        astray = min(by_name.keys() - {file.revision for file in line})
        raise MigrationError(f"{astray} does not lead back to a first migration; correct its `down_revision`")
    return line


class TwoHeads(MigrationError):
    """Two migrations follow the same one, as after two branches were merged."""

    def __init__(self, first: MigrationFile, second: MigrationFile) -> None:
        after = f"follow {first.follows}" if first.follows is not None else "follow none"
        super().__init__(
            f"{first.revision} and {second.revision} both {after}; put the one that no database has yet behind the"
            f" other: `holdfast migrate repair --move {second.revision}`"
        )
        self.first, self.second = first, second


def next_name(files: Iterable[MigrationFile], title: str) -> str:
    """The name of a new migration: one number up, and the words of its title."""
    numbers = [int(found[1]) for file in files if (found := _NUMBERED.match(file.revision))]
    words = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")[:60].strip("_")
    return f"{max(numbers, default=0) + 1:04d}_{words or 'migration'}"


def move_behind(file: MigrationFile, newest: str | None) -> None:
    """Have `file` follow `newest`: `down_revision` is rewritten in its text.

    Raises:
        MigrationError: the line that says so cannot be found.
    """
    text = file.path.read_text("utf-8")
    changed, count = re.subn(
        r"^(down_revision\b[^=\n]*=\s*).*$",
        lambda found: found[1] + (f'"{newest}"' if newest else "None"),
        text,
        flags=re.M,
    )
    if count != 1:
        raise MigrationError(
            f"{file.path.name} has no single line `down_revision = …`; write {newest!r} there yourself"
        )
    file.path.write_text(changed, "utf-8")


def checksum(text: str) -> str:
    """The checksum of a migration's text, whatever line ends a checkout gave it."""
    return hashlib.sha256("\n".join(text.splitlines()).rstrip().encode()).hexdigest()


def read_file(path: Path) -> MigrationFile:
    """The migration in one file. MigrationError: it is none."""
    try:
        text = path.read_text("utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise MigrationError(f"{path} cannot be read: {error}") from None
    if re.search(r"^down_revision\b", text, re.M) is None:  # before anything of somebody else's is run
        raise MigrationError(
            f"{path} is no migration: it has no down_revision; write one with `holdfast migrate new`, or name their"
            " folder with HOLDFAST_MIGRATIONS"
        )
    module = _load(path, text)
    file = MigrationFile(
        revision=_given(module, path, "revision", str, path.stem),
        follows=_given(module, path, "down_revision", str, None),
        path=path,
        title=(module.__doc__ or "").strip().partition("\n")[0] or path.stem,
        checksum=checksum(text),
        phase=_given(module, path, "phase", str, "pre"),
        transactional=_given(module, path, "transactional", bool, True),
        irreversible=_given(module, path, "irreversible", str, None),
        statement_timeout=_given(module, path, "statement_timeout", int | float, None),
        module=module,
    )
    if file.phase not in get_args(Phase):
        raise MigrationError(f"{path.name}: phase is {file.phase!r}; write 'pre' or 'post'")
    if file.irreversible is not None and not file.irreversible.strip():
        raise MigrationError(f"{path.name}: irreversible is empty; say why it cannot be taken back")
    wanted = ["upgrade"] if file.irreversible is not None else ["upgrade", "downgrade"]
    for name in wanted:
        if not callable(getattr(module, name, None)):
            hint = "; or say why not: irreversible = '…'" if name == "downgrade" else ""
            raise MigrationError(f"{path.name} has no function {name}(); write one{hint}")
    return file


def _load(path: Path, text: str) -> ModuleType:
    specification = importlib.util.spec_from_loader(f"holdfast_migrations.{path.stem}", loader=None, origin=str(path))
    assert specification is not None
    module = importlib.util.module_from_spec(specification)
    module.__file__ = str(path)
    try:
        # Compiled here, from the text that was summed: no cached bytecode of another text can stand in.
        exec(compile(text, str(path), "exec"), module.__dict__)
    except Exception as error:
        place = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise MigrationError(f"{path.name}{place} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def _given(module: ModuleType, path: Path, name: str, kind: Any, default: Any) -> Any:
    value = getattr(module, name, None)
    if value is not None and not isinstance(value, kind):
        raise MigrationError(f"{path.name}: {name} is {value!r}, which is no {getattr(kind, '__name__', 'number')}")
    return default if value is None else value
