"""What a driver's exception means: rules only, no I/O."""

from __future__ import annotations

from typing import Any

from sqlalchemy import exc

from holdfast.errors import Conflict, HoldfastError, InvalidValue, StoreError, Unavailable

# PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html
_RETRY = {"40001", "40P01"}  # serialization_failure, deadlock_detected
_GONE = {"57P01", "57P02", "57P03", "53300"}  # shutdown, crash, starting up, too many connections
_FULL = {"53100", "53200"}  # disk_full, out_of_memory
_READ_ONLY = {"25006"}
_VALUE = ("22",)  # class 22: data exception (NUL byte in text, value out of range, …)


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE anywhere in the chain of `error`, or None."""
    seen: BaseException | None = error
    while seen is not None:
        code = getattr(seen, "sqlstate", None)
        if isinstance(code, str):
            return code
        seen = getattr(seen, "orig", None) or seen.__cause__
    return None


def sqlite_code(error: BaseException) -> str | None:
    """The name of the SQLite result code in the chain of `error` (`SQLITE_FULL`), or None."""
    seen: BaseException | None = error
    while seen is not None:
        name = getattr(seen, "sqlite_errorname", None)
        if isinstance(name, str):
            return name
        seen = getattr(seen, "orig", None) or seen.__cause__
    return None


def is_retryable(error: BaseException) -> bool:
    """Whether running the whole transaction again may succeed: serialization failure, deadlock, a busy file."""
    if sqlstate(error) in _RETRY:
        return True
    name = sqlite_code(error) or ""
    return name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def is_connection_loss(error: BaseException) -> bool:
    """Whether the connection is gone or could not be made; nothing that was not committed has happened."""
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return True
    if isinstance(error, exc.TimeoutError | exc.InterfaceError | ConnectionError | TimeoutError | OSError):
        return True
    state = sqlstate(error) or ""
    return state in _GONE or state.startswith("08")


def translate(error: BaseException, place: str) -> HoldfastError | None:
    """The Holdfast error that says what `error` means for a user of the database at `place`, or None.

    `place` is a URL without its password. The SQL's parameters never appear: they may be private.
    """
    if isinstance(error, HoldfastError):
        return error
    if isinstance(error, exc.StatementError) and isinstance(error.orig, HoldfastError):
        return error.orig  # raised by a column type while binding
    reason = _reason(error)
    state, name = sqlstate(error) or "", sqlite_code(error) or ""
    if isinstance(error, exc.IntegrityError):
        return Conflict(f"the write breaks a constraint: {reason}")
    if state in _READ_ONLY or name.startswith("SQLITE_READONLY"):
        return Unavailable(f"{place} is read-only ({reason}); check the file's owner and mode, or name another database")
    if state in _FULL or name in ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"):
        return Unavailable(f"{place} has no space left ({reason}); nothing of this transaction was kept; free some space")
    if name.startswith("SQLITE_CANTOPEN"):
        return Unavailable(f"{place} cannot be opened ({reason}); does the folder exist, may this user write there?")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StoreError(f"{place} is no usable SQLite database ({reason}); restore it from a backup")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Unavailable(f"{place} is locked by another writer for too long ({reason}); try again")
    if state in ("28P01", "28000"):
        return Unavailable(f"{place} refuses the login ({reason}); check user and password")
    if state == "3D000":
        return Unavailable(f"{place} does not exist ({reason}); create it, for example with createdb")
    if state in _RETRY:
        return StoreError(f"the transaction lost against a concurrent one ({reason}); run it through hold.run(…)")
    if state.startswith(_VALUE) or isinstance(error, exc.DataError):
        return InvalidValue(f"the database refuses a value: {reason}")
    if isinstance(error, exc.TimeoutError):
        return Unavailable(f"no connection to {place} became free in time; raise HOLDFAST_DATABASE_POOL_MAX or end long units")
    if is_connection_loss(error):
        return Unavailable(f"{place} cannot be reached ({reason})")
    if isinstance(error, exc.DBAPIError):
        return StoreError(f"{place}: {reason}")
    return None


def _reason(error: BaseException) -> str:
    """The driver's own words, without SQL or parameters."""
    origin: Any = getattr(error, "orig", None) or error
    origin = getattr(origin, "__cause__", None) or origin
    text = str(origin).strip().partition("\n")[0]
    return text or type(origin).__name__
