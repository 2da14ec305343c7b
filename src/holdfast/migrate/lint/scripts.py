"""A file as the scripts that are run of it: several steps in one file, the way up and the way down.

Migration tools mark these by comments: dbmate (`-- migrate:up`), goose and sql-migrate (`-- +goose Up`),
node-pg-migrate (`-- Up Migration`); a comment that is only a file's name begins that file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from holdfast.migrate.lint.statements import Statement
from holdfast.migrate.lint.syntax import Control, Record, Setting

_NEW = re.compile(r"^(?:(?:file|script)s?:?\s+)?[\w./-]+\.sql\s*$|^(?:migration|script|file)\s*#?\d+\b", re.I)
_UP = re.compile(r"^(?:\+goose up|\+migrate up|migrate:up|@?up(?: migration)?$|up:?$)(?P<options>.*)", re.I | re.S)
_DOWN = re.compile(r"^(?:\+goose down|\+migrate down|migrate:down|@?(?:down|undo|rollback)(?: migration)?:?$)", re.I)
_ALONE = re.compile(r"^\+goose no transaction|^atlas:txmode\s+none", re.I)
_NOT_WRAPPED = re.compile(r"transaction\s*:\s*false|notransaction", re.I)
_WRAPS = re.compile(r"^(?:\+goose|\+migrate|migrate:)", re.I)


class Script(msgspec.Struct):
    """Statements that are run together."""

    parts: list[tuple[Statement, Record]]
    wrapped: bool = False
    down: bool = False


def scripts_of(parts: Iterable[tuple[Statement, Record]], in_transaction: bool = False) -> Iterator[Script]:
    """The scripts of a file in order.

    A script is wrapped in a transaction when `in_transaction` says so, when the mark of its tool does, or when it
    has a SET LOCAL outside of BEGIN … COMMIT, which means nothing elsewhere.
    """
    parts = list(parts)
    alone = any(_ALONE.match(comment.value) for statement, _ in parts for comment in statement.comments)
    script = Script([], wrapped=in_transaction)
    for part in parts:
        for comment in part[0].comments:
            said = comment.value.lstrip("- ")
            up = _UP.match(said)
            if up or _DOWN.match(said) or _NEW.match(said):
                if script.parts:
                    yield _settled(script)
                wraps = bool(up and _WRAPS.match(said)) and not _NOT_WRAPPED.search(said) and not alone
                script = Script([], wrapped=in_transaction or wraps, down=not up and bool(_DOWN.match(said)))
        script.parts.append(part)
    if script.parts:
        yield _settled(script)


def _settled(script: Script) -> Script:
    inside = False
    for _, record in script.parts:
        if isinstance(record, Control):
            inside = record.what == "begin" or (inside and record.what == "savepoint")
        elif isinstance(record, Setting) and record.local and not inside:
            script.wrapped = True
            break
    return script
