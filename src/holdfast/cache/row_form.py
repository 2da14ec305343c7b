"""How the rows of a model are kept: their columns by name, as every node reads them, and a row made of them again."""

from __future__ import annotations

import copy
import datetime as dt
import enum
import json
from collections.abc import Callable
from decimal import Decimal
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID
from zlib import crc32

import msgspec
from sqlalchemy import inspect, types
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.types import TypeDecorator, TypeEngine

from holdfast.errors import InvalidValue
from holdfast.model import Amount, Model, Text, UtcTime
from holdfast.store.keys import key_of

M = TypeVar("M", bound=Model)

_Convert = Callable[[Any], Any]
_HOUSES = ("sqlalchemy.", "holdfast.")  # whose types are known to give what they say


class _Kind(NamedTuple):
    """What a column holds, and how it is written.

    Attributes:
        name: tells it from every other kind.
        holds: the type of its values.
        wire: the type of what is written.
        write, read: between the two; None where they are the same.
    """

    name: str
    holds: type[Any]
    wire: Any
    write: _Convert | None = None
    read: _Convert | None = None


class _Column(NamedTuple):
    """A column of a model: the attribute, and its kind; None for one that can only be copied."""

    name: str
    kind: _Kind | None


class RowForm(Generic[M]):
    """How rows of `model` are kept.

    What is kept is frozen, and of each value that could be changed every reader gets a copy.

    Attributes:
        kind: the type of what is kept. Its name tells the columns and their kinds, so that other columns, or others'
            meaning, make another version of it in Redis.
        is_shared: whether rows may be written into Redis. Those with an encrypted or a `secret` column may not, and
            those with a column of a type that only its own process knows cannot.
    """

    def __init__(self, model: type[M]) -> None:
        self.model = model
        mapper = inspect(model)
        table: Any = model.__table__
        attributes = [
            (str(prop.key), prop.columns[0])
            for prop in mapper.column_attrs
            # What is left for later is not loaded, and what an expression finds may change though the row does not.
            if not prop.deferred and len(prop.columns) == 1 and prop.columns[0].table is table
        ]
        self._columns = [_Column(name, _kind(column.type)) for name, column in attributes]
        hidden = set(model.__policy__.secret)
        self.is_shared = all(kind is not None for _, kind in self._columns) and not any(
            column.name in hidden for _, column in attributes
        )
        described = [f"{name} {kind.name if kind else '?'}" for name, kind in self._columns]
        fields = [(name, kind.wire | list[Any] | None if kind else Any) for name, kind in self._columns]
        name = f"Row{crc32(' '.join([table.name, *described]).encode()):08x}"
        self.kind: type[Any] = msgspec.defstruct(name, fields, frozen=True, weakref=True, module=__name__)
        self._values = attrgetter(*self.kind.__struct_fields__) if len(fields) > 1 else _only(fields[0][0])
        self._manager: Any = mapper.class_manager
        self._key = key_of(model)

    def kept(self, row: M) -> Any:
        """The columns of a row that was read, to be kept.

        Raises:
            InvalidValue: a column holds what its type cannot hold, and what cannot be written.
        """
        given = row.__dict__
        return self.kind(*(self._written(column, given[column.name]) for column in self._columns))

    def row(self, kept: Any) -> M:
        """A row of the caller's own, detached: to change it changes nothing but itself."""
        row = self._manager.new_instance()
        values: dict[str, Any] = {}
        for (name, kind), value in zip(self._columns, self._values(kept), strict=True):
            if kind is None:
                values[name] = copy.deepcopy(value)
            elif type(value) is list:
                values[name] = value[0]
            else:
                values[name] = value if value is None or kind.read is None else kind.read(value)
        state = instance_state(row)
        row.__dict__.update(values)
        key = self._key.of(row)
        state.key = self.model.__mapper__.identity_key_from_primary_key(key if isinstance(key, tuple) else (key,))
        state._commit_all(state.dict)
        self._manager.dispatch.load(state, None)  # what the model does with rows that are read
        return row  # type: ignore[no-any-return]

    def _written(self, column: _Column, value: Any) -> Any:
        kind = column.kind
        if value is None or kind is None:
            return value
        if isinstance(value, kind.holds):
            return value if kind.write is None else kind.write(value)
        if type(value) in (str, int, float, bytes):
            return [value]  # SQLite keeps what raw SQL gives it
        raise InvalidValue(
            f"{self.model.__name__}.{column.name} holds a {type(value).__name__}, which cannot be kept; correct the row"
        )


_PLAIN = {
    kind.__name__: _Kind(kind.__name__, kind, kind)
    for kind in (str, int, bool, bytes, dt.datetime, dt.date, dt.time, dt.timedelta)
}
_AMOUNT = _Kind("amount", int, str, str, int)  # wider than what msgpack takes for a number
_FLOAT = _Kind("float", float, str, repr, float)  # NaN, as text, equals itself
_DECIMAL = _Kind("decimal", Decimal, str, str, Decimal)
_UUID = _Kind("uuid", UUID, UUID, lambda value: UUID(int=value.int))  # the driver's own are of a class of its own
_JSON = _Kind("json", object, str, json.dumps, json.loads)

_BY_TYPE: tuple[tuple[Any, _Kind | None], ...] = (
    (Amount, _AMOUNT),
    (UtcTime, _PLAIN["datetime"]),
    (Text, _PLAIN["str"]),
    (types.Interval, _PLAIN["timedelta"]),
    (TypeDecorator, None),  # which may make anything of what is kept; what is encrypted is one
    (types.Boolean, _PLAIN["bool"]),
    (types.Integer, _PLAIN["int"]),
    (types.DateTime, _PLAIN["datetime"]),
    (types.Date, _PLAIN["date"]),
    (types.Time, _PLAIN["time"]),
    (types.JSON, _JSON),
    (types.LargeBinary, _PLAIN["bytes"]),
    (types.String, _PLAIN["str"]),
)


def _kind(column_type: TypeEngine[Any]) -> _Kind | None:
    """The kind of a column of this type; None for one of which nothing is known."""
    if not type(column_type).__module__.startswith(_HOUSES):
        return None
    if isinstance(column_type, types.Uuid):
        return _UUID if column_type.as_uuid else _PLAIN["str"]
    if isinstance(column_type, types.Enum):
        return _PLAIN["str"] if column_type.enum_class is None else _enum(column_type.enum_class)
    if isinstance(column_type, types.Numeric | types.Float):
        return _DECIMAL if column_type.asdecimal else _FLOAT
    return next((kind for base, kind in _BY_TYPE if isinstance(column_type, base)), None)


def _enum(members: Any) -> _Kind:
    if not isinstance(members, type) or not issubclass(members, enum.Enum):
        return _PLAIN["str"]
    return _Kind("member", members, str, attrgetter("name"), members.__getitem__)


def _only(name: str) -> Callable[[Any], tuple[Any]]:
    return lambda kept: (getattr(kept, name),)
