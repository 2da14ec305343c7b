"""`Encrypted`: a column whose values the database never sees."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec
from sqlalchemy import JSON, Dialect, Index, LargeBinary, Table, event, inspect
from sqlalchemy.orm import MappedColumn, mapped_column
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeDecorator

from holdfast.errors import ConfigurationError, InvalidValue, ModelError
from holdfast.model.keyring import KEYS, KeyRing

BLIND = "_blind"
"""What the name of a blind index's column ends with."""

_RING = "holdfast_key_ring"  # attribute of an engine's dialect


class Blinded:
    """A value on its way into a blind index, or looked for there; it never shows itself."""

    __slots__ = ("number", "value")

    def __init__(self, value: Any, number: int = 0) -> None:
        self.value = value
        self.number = number

    def __repr__(self) -> str:
        return "<Blinded>"


class _Closed(TypeDecorator.Comparator[Any]):
    """What can be asked of a column that is encrypted: whether it is NULL, and with a blind index whether it equals."""

    def operate(self, op: Any, *other: Any, **options: Any) -> Any:
        kind: Any = self.type
        name = getattr(self.expr, "name", None) or "a column"
        if op in (operators.is_, operators.is_not, operators.eq, operators.ne) and other[0] is None:
            return super().operate(op, *other, **options)
        if op in (operators.eq, operators.ne) and isinstance(other[0], ColumnElement):
            # SQLAlchemy compares columns among themselves in its own dictionaries; in SQL two ciphertexts never equal.
            return super().operate(op, *other, **options)
        if op not in (operators.eq, operators.ne, operators.in_op, operators.not_in_op):
            can = "compared by ==, != and in_" if kind.blind else "read and written"
            raise InvalidValue(f"{name} is encrypted: it can be {can}, and neither sorted nor searched")
        if not kind.blind:
            raise InvalidValue(f"{name} is encrypted; to look for a value declare it Encrypted(blind=True)")
        table = getattr(self.expr, "table", None)
        if table is None or f"{name}{BLIND}" not in table.c:
            raise InvalidValue(f"{name} can only be compared as a column of its model")
        several = op in (operators.in_op, operators.not_in_op)
        values = [other[0]] if not several else list(other[0]) if isinstance(other[0], Collection) else [None]
        if not all(isinstance(value, kind.kind if kind.kind is not JSON else object) for value in values):
            raise InvalidValue(f"{name} is encrypted, so it can be compared with values of its kind alone")
        blind = table.c[f"{name}{BLIND}"]
        # Under every key of the ring, for a value may not be rotated yet.
        wanted = [Blinded(value, number) for value in values for number in range(KEYS)]
        return blind.in_(wanted) if op in (operators.eq, operators.in_op) else blind.not_in(wanted)

    def reverse_operate(self, op: Any, other: Any, **options: Any) -> ColumnElement[Any]:
        raise InvalidValue("an encrypted column can only stand on the left of a comparison")


class Encrypted(TypeDecorator[Any]):
    """Text, bytes or JSON, encrypted with AES-256-GCM before it leaves the process.

    The keys come from `HOLDFAST_ENCRYPTION_KEYS`. The column cannot be sorted or searched, be part of a key, an index
    or a constraint, be filtered by over HTTP or carried by the journal: `ModelError` as the class is made, or
    `InvalidValue` as a query is.

    Args:
        kind: `str`, `bytes`, or SQLAlchemy's `JSON` for whatever JSON can hold.
        blind: also keep a keyed hash in `<name>_blind`, indexed, by which equal values are found. Whoever reads the
            table then sees which rows have equal values, and nothing of the values.
        normalise: applied to a value before it is hashed (`str.casefold`), so that what it makes equal is found.
    """

    impl = LargeBinary
    cache_ok = True
    comparator_factory = _Closed

    def __init__(
        self,
        kind: type[Any] = str,
        *,
        blind: bool = False,
        normalise: Callable[[Any], Any] | None = None,
        place: str = "",
    ) -> None:
        super().__init__()
        if kind not in (str, bytes, JSON):
            raise ModelError(f"Encrypted({kind!r}) cannot be; write Encrypted(), Encrypted(bytes) or Encrypted(JSON)")
        if normalise is not None and not blind:
            raise ModelError("Encrypted(normalise=…) is for the blind index; add blind=True")
        self.kind = kind
        self.blind = blind
        self.normalise = normalise
        self.place = place  # table.column, once it is known; a part of what is authenticated

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        if value is None:
            return None
        return ring_of(dialect).encrypt(self.plain(value), self.place)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        if not isinstance(value, bytes):
            raise InvalidValue(f"a value in {self.place} is not encrypted; was it written past the library?")
        plain = ring_of(dialect).decrypt(value, self.place)
        if self.kind is bytes:
            return plain
        return plain.decode() if self.kind is str else msgspec.json.decode(plain)

    def process_literal_param(self, value: Any, dialect: Dialect) -> str:
        raise InvalidValue(f"a value of {self.place} is not written into a statement's text")

    def plain(self, value: Any) -> bytes:
        """`value` as the bytes that are encrypted.

        Raises:
            InvalidValue: it is not of the column's kind; it names the column and not the value.
        """
        if self.kind is JSON:
            try:
                return msgspec.json.encode(value)
            except (TypeError, ValueError, RecursionError):
                problem = "what JSON cannot hold"
            raise InvalidValue(f"{self.place} is given {problem}")
        if not isinstance(value, self.kind):
            raise InvalidValue(f"{self.place} takes {self.kind.__name__}, not {type(value).__name__}")
        try:
            return value.encode() if isinstance(value, str) else bytes(value)
        except UnicodeEncodeError:
            pass
        raise InvalidValue(f"{self.place} is given text with a lone surrogate; it was decoded wrongly")

    def normalised(self, value: Any) -> Any:
        """`value` as it is hashed."""
        return value if self.normalise is None else self.normalise(value)


class BlindIndex(TypeDecorator[Any]):
    """The keyed hash of an encrypted column beside it: 16 bytes of HMAC-SHA256."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, of: Encrypted) -> None:
        super().__init__()
        self.of = of

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        if value is None or isinstance(value, bytes):
            return value
        if not isinstance(value, Blinded):
            raise InvalidValue(f"the blind index of {self.of.place} is kept by the library; set the column itself")
        if value.value is None:
            return None
        plain = self.of.plain(self.of.normalised(value.value))
        return ring_of(dialect).blind(plain, self.of.place, value.number)


def set_ring(dialect: Dialect, text: str | None) -> None:
    """Let an engine's columns be encrypted with the ring of `HOLDFAST_ENCRYPTION_KEYS`; parsed when first needed."""
    setattr(dialect, _RING, text or "")


def ring_of(dialect: Dialect) -> KeyRing:
    """The ring of an engine's dialect.

    Raises:
        ConfigurationError: there is none, or it is malformed.
    """
    ring = getattr(dialect, _RING, None)
    if ring is None:
        raise ConfigurationError("an encrypted column is read and written through a Store, which knows the keys")
    if isinstance(ring, str):
        ring = KeyRing.parse(ring)
        setattr(dialect, _RING, ring)
    return cast(KeyRing, ring)


def add_blind_columns(model: type[Any]) -> None:
    """Declare, before `model` is mapped, the column of each blind index that it asks for."""
    for owner in model.__mro__:
        for name, value in list(vars(owner).items()):
            if isinstance(value, MappedColumn) and isinstance(value.column.type, Encrypted) and value.column.type.blind:
                blind = f"{name}{BLIND}"
                if not hasattr(model, blind):
                    column = value.column.name or name
                    made = mapped_column(f"{column}{BLIND}", BlindIndex(value.column.type), nullable=True)
                    setattr(model, blind, made)


def encrypted_columns(table: Any) -> Iterator[Any]:
    """The encrypted columns of a table."""
    return (column for column in table.columns if isinstance(column.type, Encrypted))


def blind_columns(table: Any) -> dict[str, str]:
    """The encrypted columns with a blind index, and the names of the columns that keep it."""
    return {str(c.name): f"{c.name}{BLIND}" for c in encrypted_columns(table) if c.type.blind}


def check_encrypted(model: type[Any]) -> None:
    """Tell each encrypted column of `model` its place, keep and index its blind index.

    Raises:
        ModelError: the column is part of a key, an index, a constraint or the policy's tenant, or has a blind index
            and a default, which would not be hashed.
    """
    table: Table = model.__table__
    columns = list(encrypted_columns(table))
    for column in columns:
        column.type = kind = column.type.copy()  # one instance may have been given to several columns
        kind.place = kind.place or f"{table.name}.{column.name}"
        where = f"{model.__name__}.{column.name} is encrypted"
        if column.name == model.__policy__.tenant or column.primary_key or column.foreign_keys:
            raise ModelError(f"{where} and cannot be a key or a tenant")
        for item in (*table.indexes, *table.constraints):
            if column.name in getattr(item, "columns", ()):
                instead = f"name {column.name}{BLIND}" if kind.blind else "declare it with blind=True"
                raise ModelError(
                    f"{where}, and two ciphertexts are never equal, so a rule of it says nothing; {instead}"
                )
        if not kind.blind:
            continue
        if column.default is not None or column.onupdate is not None or column.server_default is not None:
            raise ModelError(f"{where} with a blind index, and a default would not be found by it; set it yourself")
        blind = table.c[f"{column.name}{BLIND}"]
        blind.type = BlindIndex(kind)
        tenant = model.__policy__.tenant
        names = [blind] if tenant is None else [table.c[tenant], blind]
        Index(None, *names)
        _keep_blind(model, inspect(model).get_property_by_column(column).key)


def _keep_blind(model: type[Any], name: str) -> None:
    def keep(row: Any, value: Any, *_: Any) -> None:
        setattr(row, f"{name}{BLIND}", Blinded(value))

    event.listen(getattr(model, name), "set", keep, propagate=True)


def blinded(model: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """What the blind indexes of `model` are to be where its attributes get these values."""
    found = {}
    for column in blind_columns(model.__table__):
        name = inspect(model).get_property_by_column(model.__table__.c[column]).key
        if name in values:
            found[f"{name}{BLIND}"] = Blinded(values[name])
    return found


def refuse_encrypted(model: type[Any], names: Iterable[str], where: str) -> None:
    """Raise `ModelError` naming the first of `names` that is an encrypted column of `model`."""
    for name in names:
        column = model.__table__.columns.get(name)
        if column is not None and isinstance(column.type, Encrypted):
            raise ModelError(f"{model.__name__}: {where} names {name!r}, which is encrypted; leave it out")
