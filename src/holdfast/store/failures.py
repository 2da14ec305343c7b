"""What a driver's exception means: rules only, no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import exc
from sqlalchemy.orm.exc import StaleDataError

from holdfast.errors import Conflict, HoldfastError, InvalidValue, StoreError, Unavailable, WrongTenant
from holdfast.store.rules import BrokenRule

# PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html
_RETRY = {"40001", "40P01"}  # serialization_failure, deadlock_detected
_GONE = {"57P01", "57P02", "57P03", "53300"}  # shutdown, crash, starting up, too many connections
_FULL = {"53100", "53200"}  # disk_full, out_of_memory
_READ_ONLY = "25006"
_CLOSED = "55000"  # object_not_in_prerequisite_state: what a database says that takes no connections for now
_DOOMED = "25P02"  # in_failed_sql_transaction
_CANCELLED = "57014"  # query_canceled, which statement_timeout does
_LOGIN = {"28P01", "28000"}
_NO_DATABASE = "3D000"
_DENIED = "42501"  # insufficient_privilege, which is what a policy raises too
_UNFIT = {"23502", "23514"}  # not_null_violation, check_violation: the row cannot be kept, whatever the others are
_TOO_LARGE = "54000"  # program_limit_exceeded: a text for its index, for one
_VALUE = "22"  # class 22: data exception (NUL byte in text, value out of range, …)
_SQLITE_UNFIT = {"SQLITE_CONSTRAINT_NOTNULL", "SQLITE_CONSTRAINT_CHECK", "SQLITE_CONSTRAINT_DATATYPE"}
_LIBSQL: dict[str, tuple[type[StoreError], str]] = {  # what a libSQL server answers beyond SQLite's own codes
    "LIBSQL_AUTH": (
        Unavailable,
        "refuses the token ({reason}); set HOLDFAST_DATABASE_AUTH_TOKEN to one that is valid for this database",
    ),
    "LIBSQL_NO_DATABASE": (
        Unavailable,
        "does not exist ({reason}); create it, or name it as the first label of the host or with ?namespace=",
    ),
    "LIBSQL_TRANSACTION_ENDED": (
        Unavailable,
        "ended the transaction ({reason}): it may stay open for some 5 s while others wait; nothing of this unit was"
        " kept; make it shorter, and run it through hold.run(…)",
    ),
    "LIBSQL_TOO_SLOW": (StoreError, "ended a statement that took too long ({reason}); see HOLDFAST_STATEMENT_TIMEOUT"),
    "LIBSQL_TOO_LARGE": (StoreError, "refuses so much at once ({reason}); read pages, or write fewer rows a time"),
}
_MEMBERS = re.compile(r"among the defined enum values.* Possible values: (?P<names>.+)")
_DRIVERS = ("asyncpg", "aiosqlite", "sqlite3")
_SHORTEST = 3  # characters of a bound value that are looked for in a message; shorter ones tell nothing


class DriverError(Exception):
    """What the driver said, without the values that it said it of: the cause of the errors that are raised instead.

    Attributes:
        sqlstate: PostgreSQL's code, or None.
        sqlite_errorname: SQLite's result code (`SQLITE_FULL`), or None.
        connection_lost: whether the connection is gone or could not be made.
        rule: the constraint that was broken, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        sqlstate: str | None,
        sqlite_errorname: str | None,
        connection_lost: bool,
        rule: BrokenRule | None = None,
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.sqlite_errorname = sqlite_errorname
        self.connection_lost = connection_lost
        self.rule = rule


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE anywhere in the chain of `error`, or None."""
    return next((link.sqlstate for link in _chain(error) if isinstance(getattr(link, "sqlstate", None), str)), None)  # type: ignore[attr-defined]


def sqlite_code(error: BaseException) -> str | None:
    """The name of the SQLite result code in the chain of `error` (`SQLITE_FULL`), or None."""
    names = (getattr(link, "sqlite_errorname", None) for link in _chain(error))
    return next((name for name in names if isinstance(name, str)), None)


def is_retryable(error: BaseException) -> bool:
    """Whether running the whole transaction again may succeed: serialization failure, deadlock, a busy file."""
    if sqlstate(error) in _RETRY:
        return True
    return (sqlite_code(error) or "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "LIBSQL_TRANSACTION_ENDED"))


def is_connection_loss(error: BaseException) -> bool:
    """Whether the connection is gone or could not be made; nothing that was not committed has happened."""
    for link in _chain(error):
        if isinstance(link, DriverError):
            return link.connection_lost
        if isinstance(link, exc.DBAPIError) and link.connection_invalidated:
            return True
        if isinstance(link, exc.TimeoutError | OSError):  # OSError: refused, reset, timed out, no such host
            return True
        if _is_asyncpg_closed(link):
            return True
    state = sqlstate(error) or ""
    return state in _GONE or state.startswith("08") or (state == _CLOSED and "accepting connections" in str(error))


def _is_asyncpg_closed(error: BaseException) -> bool:
    """Whether asyncpg found its own connection unusable, which it says with an error that has no SQLSTATE."""
    return _package(error) == "asyncpg" and type(error).__name__.endswith("InterfaceError") and "clos" in str(error)


def _package(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def is_of_the_driver(error: BaseException) -> bool:
    """Whether `error` comes from the database's libraries, not from whoever uses them."""
    return _package(error) in ("sqlalchemy", *_DRIVERS)


def translate(error: BaseException, place: str) -> HoldfastError | None:
    """The Holdfast error that says what `error` means for a user of the database at `place`, or None.

    `place` is a URL without its password. The SQL's parameters never appear, for they may be private: neither
    in the message nor in its cause, which is a `DriverError` and stands for the driver's own exception.
    """
    if isinstance(error, HoldfastError):
        return error
    if isinstance(error, exc.StatementError) and isinstance(error.orig, HoldfastError):
        return error.orig  # raised by a column type while binding
    meaning = _meaning(error, place)
    if meaning is not None:
        meaning.__cause__ = DriverError(
            _told(error),
            sqlstate=sqlstate(error),
            sqlite_errorname=sqlite_code(error),
            connection_lost=is_connection_loss(error),
            rule=BrokenRule.told(_origin(error), sqlstate(error), sqlite_code(error)),
        )
    return meaning


def broken_rule(error: HoldfastError) -> BrokenRule | None:
    """The constraint that was broken where an error of the store says that one was; None of any other error."""
    return error.__cause__.rule if isinstance(error.__cause__, DriverError) else None


class Translated:
    """A context in which the driver's exceptions become Holdfast's, for the database at `place`.

    A plain class: this sits on every call, where contextlib's generator would cost more than the rule.

    Args:
        place: a URL without its password.
        read_only: whether a refusal to write is what the caller asked for.
    """

    __slots__ = ("_place", "_read_only")

    def __init__(self, place: str, *, read_only: bool = False) -> None:
        self._place = place
        self._read_only = read_only

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None and isinstance(error, Exception) and not isinstance(error, HoldfastError):
            self.raise_for(error)

    def raise_for(self, error: Exception) -> None:
        """Raise what `error` means; return when it means nothing to us, so that the caller raises it again."""
        meaning: HoldfastError | None
        if self._read_only and _is_refused_write(error):
            meaning = StoreError("a write in a read-only unit; open it with hold.unit(…), not hold.read()")
            meaning.__cause__ = None
        else:
            meaning = translate(error, self._place)
        if meaning is None or meaning is error:
            return
        try:
            raise meaning
        finally:
            meaning.__context__ = None  # the driver's exception may quote the values


def _meaning(error: BaseException, place: str) -> HoldfastError | None:
    reason = _reason(error)
    state, name = sqlstate(error) or "", sqlite_code(error) or ""
    if isinstance(error, StaleDataError):
        return Conflict("a row was changed or deleted since this unit read it; read it again and retry")
    if isinstance(error, exc.PendingRollbackError) or state == _DOOMED:
        return StoreError(
            "an earlier statement of this unit failed, so it can only be rolled back;"
            " put what may fail into `async with unit.savepoint()`"
        )
    if isinstance(error, exc.InvalidRequestError) and "permanently closed" in reason:
        return StoreError("this unit has ended; open another one")
    if state in _UNFIT or name in _SQLITE_UNFIT:
        return InvalidValue(f"the row breaks a rule of its table: {reason}")
    if state == _TOO_LARGE:
        return InvalidValue(f"the database refuses something so large: {reason}")
    if isinstance(error, exc.IntegrityError) or state.startswith("23") or name.startswith("SQLITE_CONSTRAINT"):
        return Conflict(f"the write breaks a constraint: {reason}")
    if state == _READ_ONLY or name.startswith("SQLITE_READONLY"):
        return Unavailable(f"{place} is read-only ({reason}); check its owner and mode, or name another database")
    if state in _FULL or name in ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"):
        return Unavailable(f"{place} has no space left ({reason}); nothing of this unit was kept; free some space")
    if name.startswith("SQLITE_IOERR"):
        return Unavailable(f"{place} cannot be read or written ({reason}, {name}); check the disk")
    if name.startswith("SQLITE_CANTOPEN"):
        return Unavailable(
            f"{place} cannot be opened ({reason}); does the folder exist, may this user write there (a read-only disk)?"
        )
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StoreError(f"{place} is no usable SQLite database ({reason}); restore it from a backup")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Unavailable(f"{place} is locked by another writer for too long ({reason}); try again")
    if name in _LIBSQL:
        kind, words = _LIBSQL[name]
        return kind(f"{place} {words.format(reason=reason)}")
    if state in _LOGIN:
        return Unavailable(f"{place} refuses the login ({reason}); check user and password")
    if state == _DENIED and "row-level security" in reason:
        return WrongTenant(f"the database refuses a row of another tenant than the unit's: {reason}")
    if state == _DENIED:
        return StoreError(
            f"{place}: {reason}; under row security a unit of one tenant reaches that tenant's and shared tables alone,"
            " and one for all of them, opened with tenant=ALL, the others"
        )
    if state == _NO_DATABASE:
        return Unavailable(f"{place} does not exist ({reason}); create it, for example with createdb")
    if state in _RETRY:
        return StoreError(f"the unit lost against a concurrent one ({reason}); run it through hold.run(…)")
    if state == _CANCELLED:
        return StoreError(f"{place} ended a statement that took too long ({reason}); see HOLDFAST_STATEMENT_TIMEOUT")
    if _is_unfit_value(error, state):
        return InvalidValue(f"the database refuses a value: {reason}")
    if isinstance(error, exc.TimeoutError):
        return Unavailable(
            f"no connection to {place} became free in time; raise HOLDFAST_DATABASE_POOL_MAX or end long units sooner"
        )
    if is_connection_loss(error):
        return Unavailable(f"{place} cannot be reached ({reason}); does it run, and is its address right?")
    if isinstance(error, exc.DBAPIError) or state or _package(error) in _DRIVERS:
        return StoreError(f"{place}: {reason}")
    return None


def _is_refused_write(error: BaseException) -> bool:
    return sqlstate(error) == _READ_ONLY or sqlite_code(error) == "SQLITE_READONLY"


def _is_unfit_value(error: BaseException, state: str) -> bool:
    if state.startswith(_VALUE) or isinstance(error, exc.DataError):
        return True
    if isinstance(error, exc.StatementError) and not isinstance(error, exc.DBAPIError):
        return True  # while its parameters were bound
    if isinstance(error, exc.DBAPIError) and "binding parameter" in str(error.orig):  # sqlite3
        return True
    return isinstance(error, UnicodeError | OverflowError)  # sqlite3: a lone surrogate, more than 64 bits


def _reason(error: BaseException) -> str:
    """The driver's own words without SQL and parameters, or what kind of error it is where they quote a value."""
    origin = _origin(error)
    state = sqlstate(error) or ""
    if (members := _MEMBERS.search(str(getattr(error, "orig", error)))) is not None:
        return f"it is none of {members['names']}"
    if _is_unfit_value(error, state):
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(origin).__name__).lower()
        place = re.search(r"argument \$\d+|parameter '?\w+'?", str(origin))
        return ", ".join(part for part in (words, place[0] if place else "", state) if part)
    text = str(origin).strip().partition("\n")[0]
    text = re.sub(r" with text '.*", "", text)  # sqlite3 could not decode it
    if not isinstance(error, exc.IntegrityError):  # their first line names constraints and columns only
        for value in _bound(error):
            text = text.replace(value, "…")
    return text or type(origin).__name__


def _told(error: BaseException) -> str:
    statement = getattr(error, "statement", None)
    told = f"{type(_origin(error)).__name__}: {_reason(error)}"
    return f"{told} [SQL: {' '.join(statement.split())[:2000]}]" if isinstance(statement, str) else told


def _origin(error: BaseException) -> BaseException:
    """The driver's own exception, under what SQLAlchemy has wrapped around it."""
    origin: BaseException = getattr(error, "orig", None) or error
    return origin.__cause__ or origin


def _bound(error: BaseException) -> Iterator[str]:
    """The values bound in the statement that failed, as a message may quote them."""
    pending: list[Any] = [getattr(error, "params", None)]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            pending.extend(value.values())
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
            pending.extend(value)
        elif value is not None and len(text := str(value)) >= _SHORTEST:
            yield text


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = getattr(link, "orig", None) or link.__cause__
