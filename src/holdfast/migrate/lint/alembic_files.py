"""Alembic revisions as SQL: `upgrade()` is run offline, and each statement remembers which line asked for it.

Nothing is connected to. The file's own code is run, as Alembic itself would.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import sys
import tokenize
from contextlib import redirect_stdout
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.errors import MissingExtra
from holdfast.migrate.lint.finding import Dialect, Finding
from holdfast.migrate.lint.lint import Known, lint_sql

if TYPE_CHECKING:
    from alembic.migration import MigrationContext
    from alembic.operations.ops import AlterColumnOp

_DIRECTIVE = "holdfast:"


class Revision(msgspec.Struct, frozen=True):
    """What a revision file says of its place, read without running it."""

    revision: str
    down: tuple[str, ...]


def revision_of(source: str) -> Revision | None:
    """The revision that a Python file is, or None when it is none."""
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
                if isinstance(target, ast.Name) and target.id in ("revision", "down_revision"):
                    said[target.id] = _literal(node.value)
    if not upgrade or "revision" not in said:
        return None
    down = said.get("down_revision") or ()
    return Revision(str(said["revision"]), (down,) if isinstance(down, str) else tuple(map(str, down)))


def lint_revision(path: Path, source: str, file: str, dialect: Dialect, known: Known | None = None) -> list[Finding]:
    """What is unsafe about the revision's `upgrade()`; lines are those of the Python file.

    What cannot be rendered without a database (it reads rows, say) is a finding `migration-not-rendered`; what was
    rendered before that is looked at all the same.

    Raises:
        MissingExtra: Alembic is not installed.
    """
    rendered, failed = render(path, source, dialect)
    findings = [
        msgspec.structs.replace(finding, line=rendered.line_of(finding.line))
        for finding in lint_sql(rendered.text, file=file, dialect=dialect, known=known)
    ]
    if failed is not None:
        said = f"{type(failed).__name__}: {failed}".partition("\n")[0][:200]
        findings.append(
            Finding(
                file=file,
                line=rendered.last_line(failed),
                rule="migration-not-rendered",
                level="error",
                message=f"upgrade() cannot be rendered as SQL without a database, so the rest is not looked at: {said}",
                fix="keep what reads rows out of the migration: a backfill, or a .sql file of its own",
            )
        )
    return sorted(findings, key=lambda finding: finding.line)


def render(path: Path, source: str, dialect: Dialect) -> tuple[Rendered, BaseException | None]:
    """The revision's `upgrade()` as SQL, as far as it came, and what ended it before its end.

    Raises:
        MissingExtra: Alembic is not installed.
    """
    path = path.absolute()  # as the frames of its code name it
    rendered = Rendered(str(path), source)
    return rendered, _run(path, dialect, rendered)


def _run(path: Path, dialect: Dialect, rendered: Rendered) -> BaseException | None:
    try:
        from alembic.migration import MigrationContext
        from alembic.operations import Operations
        from alembic.operations.ops import AlterColumnOp, MigrateOperation
    except ImportError:
        raise MissingExtra("Alembic revisions need Alembic: pip install alembic") from None
    context = MigrationContext.configure(
        dialect_name=dialect, opts={"as_sql": True, "output_buffer": rendered, "transactional_ddl": True}
    )
    name = f"_holdfast_lint_{abs(hash(str(path)))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:  # pragma: no cover - a .py file has a loader
        return ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    # As Alembic's own configuration has it: a revision may import the application that it stands beside.
    here = str(Path.cwd())
    sys.path.insert(0, here)
    rendered.write("BEGIN;\n")
    try:
        # What it prints must not get among the findings.
        with redirect_stdout(sys.stderr), Operations.context(context) as operations:
            invoke = operations.invoke

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
        first = _first_line(source)
        for line in sorted(self._comments):
            if line < first and self._comments[line].lower().startswith(_DIRECTIVE):
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
        above = line - 1
        said = []
        while above in self._comments:
            if self._comments[above].lower().startswith(_DIRECTIVE):
                said.append((self._comments[above], above))
            above -= 1
        if piece.strip():
            for comment, at in reversed(said):
                self._add(f"-- {comment}\n", at)
        self._add(piece, line)
        return len(piece)

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

    def last_line(self, error: BaseException) -> int:
        """The line of the file where `error` came from."""
        line, trace = 1, error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self._path:
                line = trace.tb_lineno
            trace = trace.tb_next
        return line


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
