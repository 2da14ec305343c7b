"""Alembic revisions as SQL: `upgrade()` is run offline, and each statement remembers which line asked for it.

Nothing is connected to. The file's own code is run, as Alembic itself would.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import sys
import tokenize
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import MetaData

from holdfast.errors import MissingExtra
from holdfast.migrate.files import Phase
from holdfast.migrate.lint.finding import Dialect, Finding, Problem
from holdfast.migrate.lint.lint import Known, finding_of, lint_sql, not_allowed
from holdfast.migrate.lint.offline import empty_database
from holdfast.migrate.lint.stand_ins import stand_ins
from holdfast.model import NAMING

if TYPE_CHECKING:
    from alembic.migration import MigrationContext
    from alembic.operations.ops import AlterColumnOp

_DIRECTIVE = "holdfast:"
_OURS = ("phase", "transactional", "irreversible")
_SAID = ("revision", "down_revision", *_OURS)
DIRECTIVES = (
    "capture", "release", "set_not_null", "validate_constraint", "add_unique", "check_amounts", "uncheck_amounts",
    "create_partitions", "create_search", "drop_search", "add_foreign_key", "rename_index", "rename_constraint",
)  # fmt: skip
"""What `holdfast.migrate` adds to Alembic's `op`."""


class Revision(msgspec.Struct, frozen=True):
    """What a revision file says of itself, read without running it."""

    revision: str
    down: tuple[str, ...]
    phase: Phase = "pre"
    transactional: bool = True
    is_ours: bool = False
    """It says what only Holdfast's runner knows: a phase, `transactional`, `op.capture`."""


def revision_of(source: str, name: str) -> Revision | None:
    """The revision that a Python file is, or None when it is none; `name` is what it is called unless it says so."""
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    said: dict[str, Any] = {}
    upgrade = False
    for node in module.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        upgrade = upgrade or (isinstance(node, ast.FunctionDef) and node.name == "upgrade")
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in targets:
                if isinstance(target, ast.Name) and target.id in _SAID:
                    said[target.id] = _literal(node.value)
    if not upgrade or said.keys().isdisjoint(("revision", "down_revision")):
        return None
    down = said.get("down_revision") or ()
    return Revision(
        str(said.get("revision") or name),
        (down,) if isinstance(down, str) else tuple(map(str, down)),
        phase="post" if said.get("phase") == "post" else "pre",
        transactional=said.get("transactional") is not False,
        is_ours=not said.keys().isdisjoint(_OURS) or any(_is_directive(node) for node in ast.walk(module)),
    )


def _is_directive(node: ast.AST) -> bool:
    attribute = node.func if isinstance(node, ast.Call) else None
    return (
        isinstance(attribute, ast.Attribute)
        and attribute.attr in DIRECTIVES
        and isinstance(attribute.value, ast.Name)
        and attribute.value.id == "op"
    )


def lint_revision(
    path: Path, source: str, file: str, dialect: Dialect, known: Known | None = None, ours: Revision | None = None
) -> list[Finding]:
    """What is unsafe about the revision's `upgrade()`; lines are those of the Python file.

    `ours` is given where Holdfast's runner will run it. What cannot be rendered without a database (it reads rows,
    say) is a finding `migration-not-rendered`; what was rendered before that is looked at all the same.

    Raises:
        MissingExtra: Alembic is not installed.
    """
    rendered, failed = render(path, source, dialect, ours)
    phase = ours.phase if ours is not None else None
    findings = [
        msgspec.structs.replace(finding, line=rendered.line_of(finding.line))
        for finding in lint_sql(
            rendered.text, file=file, dialect=dialect, known=known, phase=phase, told_line=rendered.line_of
        )
    ]
    problems = list(rendered.problems)
    if failed is not None:
        line, is_innermost = rendered.line_of_error(failed)
        unfinished = isinstance(failed, NotImplementedError) and is_innermost
        problems.append((line, _unfinished(failed) if unfinished else _not_rendered(failed)))
    for line, problem in problems:
        comments = rendered.directives(line)
        finding = finding_of(problem, file, comments.count("\n") + 1)
        for kept in not_allowed(f"{comments}SELECT 1", [finding]):
            findings.append(msgspec.structs.replace(kept, line=line))
    return sorted(dict.fromkeys(findings), key=lambda finding: finding.line)


def _unfinished(error: BaseException) -> Problem:
    return Problem(
        "unfinished-migration",
        f"somebody must still write this part, and it refuses to run until then: {error}",
        "-- write it, and remove the `raise NotImplementedError`",
    )


def _not_rendered(error: BaseException) -> Problem:
    said = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
    return Problem(
        "migration-not-rendered",
        f"upgrade() cannot be rendered as SQL without a database, so the rest is not looked at: {said}",
        "keep what reads rows out of the migration: a backfill, or a .sql file of its own",
    )


def render(
    path: Path, source: str, dialect: Dialect, ours: Revision | None = None
) -> tuple[Rendered, BaseException | None]:
    """The revision's `upgrade()` as SQL, as far as it came, and what ended it before its end.

    Raises:
        MissingExtra: Alembic is not installed.
    """
    path = path.absolute()  # as the frames of its code name it
    rendered = Rendered(str(path), source)
    return rendered, _run(path, dialect, rendered, ours)


def _run(path: Path, dialect: Dialect, rendered: Rendered, ours: Revision | None) -> BaseException | None:
    try:
        from alembic.migration import MigrationContext
        from alembic.operations import Operations
        from alembic.operations.ops import AlterColumnOp, MigrateOperation
    except ImportError:
        raise MissingExtra("Alembic revisions need Alembic: pip install alembic") from None
    opts: dict[str, Any] = {"as_sql": True, "output_buffer": rendered, "transactional_ddl": True}
    if ours is not None:
        opts["target_metadata"] = MetaData(naming_convention=NAMING)
    context = MigrationContext.configure(dialect_name=dialect, opts=opts)
    name = f"_holdfast_lint_{abs(hash(str(path)))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:  # pragma: no cover - a .py file has a loader
        return ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    # As Alembic's own configuration has it: a revision may import the application that it stands beside.
    here = str(Path.cwd())
    sys.path.insert(0, here)
    wrapped = ours is None or ours.transactional or dialect == "sqlite"
    lenient: AbstractContextManager[None] = nullcontext()
    if ours is None:
        # Nothing stands here in whose environment somebody else's revision runs.
        lenient = stand_ins(str(path))
        empty_database(context, rendered.write, rendered.note)
    if wrapped:
        rendered.write("BEGIN;\n")
    try:
        # What it prints must not get among the findings.
        with redirect_stdout(sys.stderr), lenient, Operations.context(context) as operations:
            invoke: Callable[[MigrateOperation], Any] = operations.invoke
            if ours is not None:
                from holdfast.migrate.lint.our_operations import as_run

                invoke = as_run(operations, rendered, transactional=wrapped)

            def telling(operation: MigrateOperation) -> Any:
                if isinstance(operation, AlterColumnOp):
                    rendered.write(_old_type(operation, context))
                return invoke(operation)

            # What only Alembic knows, the type that a column had, is rendered too.
            setattr(operations, "invoke", telling)  # noqa: B010 - an assignment to a method has no type
            spec.loader.exec_module(module)
            module.upgrade()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody else's code may raise anything
        return error
    finally:
        sys.path.remove(here)
        sys.dont_write_bytecode = writes_bytecode
        if wrapped:
            rendered.write("COMMIT;\n")
    return None


def _old_type(operation: AlterColumnOp, context: MigrationContext) -> str:
    if operation.existing_type is None:
        return ""
    schema = f"{operation.schema}." if operation.schema else ""
    kind = operation.existing_type.compile(dialect=context.dialect)
    return f"-- {_DIRECTIVE} {schema}{operation.table_name}.{operation.column_name} was {kind}\n"


class Rendered(io.TextIOBase):
    """Where Alembic writes; each piece is kept with the line of the file that asked for it."""

    def __init__(self, path: str, source: str) -> None:
        self._path = path
        self._comments = _comments_of(source)
        self._pieces: list[str] = []
        self._lines: list[int] = []
        self.problems: list[tuple[int, Problem]] = []
        """What was seen while it was rendered, at lines of the file."""
        self._whole: list[str] = []
        first = _first_line(source)
        for line in sorted(self._comments):
            if line < first and self._comments[line].lower().startswith(_DIRECTIVE):
                self._whole.append(self._comments[line])
                self._add(f"-- {self._comments[line]}\n", line)
        if self._pieces:
            self._add("\n", first)

    @property
    def text(self) -> str:
        """All of it as SQL."""
        return "".join(self._pieces)

    def write(self, piece: str, /) -> int:
        """Take a piece of SQL."""
        if not piece:
            return 0
        line = self._asking(sys._getframe(1))
        if piece.strip():
            for comment, at in self._above(line):
                self._add(f"-- {comment}\n", at)
        self._add(piece, line)
        return len(piece)

    def note(self, problem: Problem) -> None:
        """Keep a problem of the line that is being run."""
        self.problems.append((self._asking(sys._getframe(1)), problem))

    def directives(self, line: int) -> str:
        """The comments to us that hold at a line, as SQL: those of the whole file, a blank line, those above it."""
        whole = "".join(f"-- {comment}\n" for comment in self._whole)
        return f"{whole}\n" + "".join(f"-- {comment}\n" for comment, _ in self._above(line))

    def _above(self, line: int) -> list[tuple[str, int]]:
        above = line - 1
        said = []
        while above in self._comments:
            if self._comments[above].lower().startswith(_DIRECTIVE):
                said.append((self._comments[above], above))
            above -= 1
        return said[::-1]

    def _add(self, piece: str, line: int) -> None:
        self._pieces.append(piece)
        self._lines.extend([line] * piece.count("\n"))

    def _asking(self, frame: FrameType | None) -> int:
        while frame is not None:
            if frame.f_code.co_filename == self._path:
                return frame.f_lineno
            frame = frame.f_back
        return self._lines[-1] if self._lines else 1

    def line_of(self, line: int) -> int:
        """The line of the file for a line of the SQL."""
        return self._lines[min(line, len(self._lines)) - 1] if self._lines else 1

    def line_of_error(self, error: BaseException) -> tuple[int, bool]:
        """The line of the file where `error` came from, and whether the file itself raised it."""
        line, itself, trace = 1, False, error.__traceback__
        while trace is not None:
            itself = trace.tb_frame.f_code.co_filename == self._path
            if itself:
                line = trace.tb_lineno
            trace = trace.tb_next
        return line, itself


def _comments_of(source: str) -> dict[int, str]:
    found = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#"):
                found[token.start[0]] = token.string.lstrip("# ").rstrip()
    except (tokenize.TokenError, IndentationError):
        pass
    return found


def _first_line(source: str) -> int:
    body = ast.parse(source).body
    return body[0].lineno if body else 1


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
