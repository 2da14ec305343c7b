"""Migrations as files: which of a folder are linted, in which order, and what one tells about the next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from holdfast.errors import ConfigurationError
from holdfast.migrate.lint.alembic_files import Revision, lint_revision, revision_of
from holdfast.migrate.lint.finding import Dialect, Finding
from holdfast.migrate.lint.lint import Known, lint_sql, not_allowed
from holdfast.migrate.lint.squawk import squawk_findings

_VERSIONED = re.compile(r"^[vVuU]?\d")
_BACKWARD = re.compile(r"(?:^|[._-])(?:down|undo|rollback|revert)$", re.IGNORECASE)
_DIGITS = re.compile(r"(\d+)")
MAX_BYTES = 64 * 2**20


class Migration(msgspec.Struct, frozen=True):
    """A file to lint."""

    path: Path
    text: str
    revision: Revision | None = None
    ours: Revision | None = None
    """The same where Holdfast's runner runs it: it, or another one of its folder, says what only that one knows."""


def lint_path(
    path: str | Path, *, dialect: Dialect = "postgresql", squawk: Sequence[str] | None = None
) -> list[Finding]:
    """What is unsafe about a `.sql` file, an Alembic revision, or everything of that kind in a folder.

    See `lint_paths`, which says what is raised.
    """
    return lint_paths([path], dialect=dialect, squawk=squawk)


def lint_paths(
    paths: Iterable[str | Path],
    *,
    dialect: Dialect = "postgresql",
    squawk: Sequence[str] | None = None,
    ours: bool = False,
) -> list[Finding]:
    """What is unsafe about the files and folders, file by file in the order in which they would be run.

    Of files that are numbered, or that are revisions of one history, the later ones know what the earlier made.
    `ours` says that Holdfast's runner runs the revisions, whatever they and their folder look like.
    `squawk` names rules of squawk to add for `.sql` files, `()` those for statements that our grammar does not know.

    Raises:
        ConfigurationError: a path is missing, is neither SQL nor a revision, is too large, or is no text.
        MissingExtra: there is an Alembic revision, and no Alembic; squawk is wanted, and not installed.
    """
    findings: list[Finding] = []
    migrations = migrations_of(paths)
    theirs: dict[str, list[Finding]] = {}
    if squawk is not None and dialect == "postgresql":
        texts = {str(migration.path): migration.text for migration in migrations if migration.revision is None}
        for finding in squawk_findings(texts, squawk) if texts else ():
            theirs.setdefault(finding.file, []).append(finding)
    schemas: dict[Path, Known] = {}
    for migration in migrations:
        known = schemas.setdefault(_history(migration), {}) if _has_history(migration) else None
        file = str(migration.path)
        if migration.revision is not None:
            runs = migration.revision if ours else migration.ours
            findings += lint_revision(migration.path, migration.text, file, dialect, known, runs)
        else:
            found = lint_sql(migration.text, file=file, dialect=dialect, known=known)
            added = not_allowed(migration.text, theirs.get(file, []))
            findings += sorted((*found, *added), key=lambda finding: finding.line)
    return findings


def migrations_of(paths: Iterable[str | Path]) -> list[Migration]:
    """The files that `paths` name, each once; of folders those that move the schema forward, by number or history."""
    found: dict[Path, Migration] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = [migration for file in sorted(_files(path), key=_order) if (migration := _read(file, True))]
            for migration in _by_history(inside):
                found.setdefault(migration.path, migration)
        elif (migration := _read(path, False)) is not None:
            found.setdefault(path, migration)
    return _with_ours(list(found.values()))


def _with_ours(migrations: list[Migration]) -> list[Migration]:
    folders: dict[Path, bool] = {}
    for migration in migrations:
        if migration.revision is not None and migration.revision.is_ours:
            folders[migration.path.parent] = True
    marked = []
    for migration in migrations:
        folder = migration.path.parent
        if migration.revision is not None and folder not in folders:
            folders[folder] = any(_is_ours(path) for path in folder.glob("*.py"))
        ours = migration.revision if folders.get(folder) else None
        marked.append(msgspec.structs.replace(migration, ours=ours))
    return marked


def _is_ours(path: Path) -> bool:
    try:
        revision = revision_of(path.read_text("utf-8"), path.stem)
    except (OSError, UnicodeDecodeError):
        return False
    return revision is not None and revision.is_ours


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        hidden = any(part.startswith((".", "__")) for part in relative.parts)
        if not hidden and path.is_file() and path.suffix.lower() in (".sql", ".py") and not _BACKWARD.search(path.stem):
            yield path


def _read(path: Path, from_folder: bool) -> Migration | None:
    if not path.exists():
        raise ConfigurationError(f"{str(path)!r} does not exist; name a .sql file, an Alembic revision or a folder")
    if path.suffix.lower() not in (".sql", ".py"):
        raise ConfigurationError(f"{str(path)!r} is neither a .sql file nor an Alembic revision (.py)")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ConfigurationError(f"{str(path)!r} has {size:,} bytes; a migration has at most {MAX_BYTES:,}")
    content = path.read_bytes()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{str(path)!r} is not UTF-8 text (byte {error.start}); save it as UTF-8, or leave it out"
        ) from None
    if "\0" in text:
        raise ConfigurationError(f"{str(path)!r} holds NUL characters: it is no text; leave it out")
    if path.suffix.lower() == ".sql":
        return Migration(path, text)
    revision = revision_of(text, path.stem)
    if revision is None:
        if from_folder:
            return None
        raise ConfigurationError(f"{str(path)!r} is no Alembic revision: it needs `revision` and `upgrade()`")
    return Migration(path, text, revision)


def _order(path: Path) -> list[tuple[list[tuple[int, str]], int]]:
    """By folder, then by number: 2 before 10."""
    return [
        ([(int(piece), "") if piece.isdigit() else (-1, piece) for piece in _DIGITS.split(part) if piece], len(part))
        for part in path.parts
    ]


def _by_history(migrations: list[Migration]) -> Iterator[Migration]:
    """The same, with each revision after those that it builds on."""
    waiting = {migration.revision.revision: migration for migration in migrations if migration.revision is not None}
    done: set[Path] = set()
    for migration in migrations:
        chain = [migration]
        while chain:
            last = chain[-1]
            before = [] if last.revision is None else [waiting[down] for down in last.revision.down if down in waiting]
            missing = [other for other in before if other.path not in done and other not in chain]
            if missing:
                chain.append(missing[0])
                continue
            chain.pop()
            if last.path not in done:
                done.add(last.path)
                yield last


def _has_history(migration: Migration) -> bool:
    return migration.revision is not None or bool(_VERSIONED.match(_step(migration.path).name))


def _history(migration: Migration) -> Path:
    return _step(migration.path).parent


def _step(path: Path) -> Path:
    """What carries the number: the file, or of `0007_add_index/up.sql` its folder."""
    return path.parent if path.stem.lower() in ("up", "migration") else path
