"""The words of Hrana over HTTP, which libSQL servers speak: requests, answers and values; no I/O.

https://github.com/tursodatabase/libsql/blob/main/docs/HRANA_3_SPEC.md
"""

from __future__ import annotations

import base64
import math
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

# How a constraint that broke is named by the message; the server's code says only that one did.
_CONSTRAINTS = {
    "UNIQUE constraint": "SQLITE_CONSTRAINT_UNIQUE",
    "NOT NULL constraint": "SQLITE_CONSTRAINT_NOTNULL",
    "CHECK constraint": "SQLITE_CONSTRAINT_CHECK",
    "FOREIGN KEY constraint": "SQLITE_CONSTRAINT_FOREIGNKEY",
    "cannot store": "SQLITE_CONSTRAINT_DATATYPE",
}
_CLASSES: dict[str, type[sqlite3.Error]] = {
    "SQLITE_CONSTRAINT": sqlite3.IntegrityError,
    "SQLITE_MISMATCH": sqlite3.IntegrityError,
    "SQLITE_TOOBIG": sqlite3.DataError,
    "SQLITE_CORRUPT": sqlite3.DatabaseError,
    "SQLITE_NOTADB": sqlite3.DatabaseError,
}
# The server's own codes, beside SQLite's.
_NAMES = {
    "SQLITE_UNKNOWN": "SQLITE_ERROR",
    "SQL_PARSE_ERROR": "SQLITE_ERROR",
    "SQL_INPUT_ERROR": "SQLITE_ERROR",
    "TRANSACTION_TIMEOUT": "LIBSQL_TRANSACTION_ENDED",
    "TRANSACTION_BUSY": "SQLITE_BUSY",
    "STREAM_EXPIRED": "LIBSQL_TRANSACTION_ENDED",
    "RESPONSE_TOO_LARGE": "LIBSQL_TOO_LARGE",
}


class Problem(msgspec.Struct):
    """What the server says went wrong."""

    message: str
    code: str | None = None


class Column(msgspec.Struct):
    """A column of a result."""

    name: str | None = None


class Result(msgspec.Struct):
    """What a statement gave; `rows` as the server writes values."""

    cols: list[Column] = []
    rows: list[list[dict[str, Any]]] = []
    affected_row_count: int = 0
    last_insert_rowid: str | None = None


class Answers(msgspec.Struct):
    """One result or error a step: None where a step did not run, as an earlier one had failed."""

    step_results: list[Result | None] = []
    step_errors: list[Problem | None] = []


class Response(msgspec.Struct):
    """What one request of a pipeline gave."""

    result: Answers | None = None
    is_autocommit: bool | None = None


class Outcome(msgspec.Struct):
    """How one request of a pipeline ended."""

    response: Response | None = None
    error: Problem | None = None


class Reply(msgspec.Struct):
    """The reply to a pipeline; `baton` names the stream that it left open."""

    results: list[Outcome]
    baton: str | None = None


class Description(msgspec.Struct):
    """What the server knows of a statement without running it."""

    is_readonly: bool


class Described(msgspec.Struct):
    result: Description | None = None


class DescribedOutcome(msgspec.Struct):
    response: Described | None = None
    error: Problem | None = None


class DescribedReply(msgspec.Struct):
    """The reply to a pipeline of one `describe`."""

    results: list[DescribedOutcome]


Statement = tuple[str, Sequence[Any]]
"""SQL with `?`, and its parameters."""


class Entry(msgspec.Struct):
    """A line of the answer to `cursor`: the first has the baton, the others what a step gives as it goes."""

    baton: str | None = None
    type: str = ""
    cols: list[Column] = []
    row: list[dict[str, Any]] = []
    error: Problem | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Reply).decode
read_entry = msgspec.json.Decoder(Entry).decode
_decode_described = msgspec.json.Decoder(DescribedReply).decode


def pipeline(statements: Sequence[Statement], baton: str | None, *, close: bool, answers_from: int = 0) -> bytes:
    """The body of a request that runs `statements` until one fails, and says whether a transaction is open.

    Args:
        baton: of the stream to go on with; None for a new one.
        close: give the stream up afterwards, which rolls back what is open.
        answers_from: the first statement whose rows are wanted.

    Raises:
        sqlite3.Error, OverflowError, UnicodeEncodeError: a parameter cannot be sent.
    """
    steps = _steps(statements, answers_from)
    requests: list[dict[str, Any]] = [{"type": "batch", "batch": {"steps": steps}}] if steps else []
    requests.append({"type": "close"} if close else {"type": "get_autocommit"})
    return _encode({"baton": baton, "requests": requests})


def cursor(statements: Sequence[Statement], baton: str | None) -> bytes:
    """The body of a request that runs `statements` until one fails, and answers row by row: see `entries`."""
    return _encode({"baton": baton, "batch": {"steps": _steps(statements, 0)}})


def _steps(statements: Sequence[Statement], answers_from: int) -> list[dict[str, Any]]:
    steps = []
    for number, (sql, parameters) in enumerate(statements):
        step: dict[str, Any] = {"stmt": {"sql": sql, "want_rows": number >= answers_from}}
        if parameters:
            step["stmt"]["args"] = [_sent(value, place) for place, value in enumerate(parameters, 1)]
        if number:
            step["condition"] = {"type": "ok", "step": number - 1}
        steps.append(step)
    return steps


def description(sql: str) -> bytes:
    """The body of a request that asks what a statement would do."""
    return _encode({"baton": None, "requests": [{"type": "describe", "sql": sql}, {"type": "close"}]})


def read_reply(body: bytes) -> Reply:
    """The reply to `pipeline`. Raises `msgspec.DecodeError` when it is none."""
    return _decode(body)


def is_reading(body: bytes) -> bool:
    """Whether the statement of `description` writes nothing; what is no statement at all counts as reading."""
    response = _decode_described(body).results[0].response
    return response is None or response.result is None or response.result.is_readonly


def rows(result: Result) -> list[tuple[Any, ...]]:
    """The rows as Python values."""
    return [row(values) for values in result.rows]


def row(values: Sequence[dict[str, Any]]) -> tuple[Any, ...]:
    """One row as Python values."""
    return tuple(_received(value) for value in values)


def error(problem: Problem) -> sqlite3.Error:
    """The exception that sqlite3 would raise for what the server says; a code of its own where SQLite has none."""
    message = problem.message.removeprefix("SQLite error: ").removeprefix("SQL input error: ")
    code = problem.code or "SQLITE_ERROR"
    name = _NAMES.get(code, code)
    if code == "SQL_PARSE_ERROR" and "unsupported statement" in message:
        message = "the libSQL server does not take this statement over HTTP" + message.partition("statement")[2]
    for words, constraint in _CONSTRAINTS.items() if name == "SQLITE_CONSTRAINT" else ():
        if message.startswith(words):
            name = constraint
    kind = next((kind for prefix, kind in _CLASSES.items() if name.startswith(prefix)), sqlite3.OperationalError)
    return named(kind(message), name)


def named(error: sqlite3.Error, name: str) -> sqlite3.Error:
    """`error` with the result code that the rules of failures look for."""
    error.sqlite_errorname = name
    return error


def _sent(value: Any, place: int) -> dict[str, Any]:
    if value is None:
        return {"type": "null"}
    if isinstance(value, str):
        return {"type": "text", "value": str(value)}  # a plain one: SQLAlchemy's names are more
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        return {"type": "integer", "value": str(int(value))}
    if isinstance(value, float):
        if math.isnan(value):
            return {"type": "null"}  # as SQLite has it
        if math.isinf(value):
            raise OverflowError("libSQL over HTTP carries no infinity")
        return {"type": "float", "value": value}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"type": "blob", "base64": base64.b64encode(value).decode()}
    raise sqlite3.ProgrammingError(f"Error binding parameter {place}: type '{type(value).__name__}' is not supported")


def _received(value: dict[str, Any]) -> Any:
    match value["type"]:
        case "text" | "float":
            return value["value"]
        case "integer":
            return int(value["value"])
        case "blob":
            text = value["base64"]
            return base64.b64decode(text + "=" * (-len(text) % 4))
        case _:
            return None
