"""The key of a model's rows: `id`, or the columns that the model declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from sqlalchemy import Boolean, ColumnElement, Integer, String, Uuid, and_, inspect, or_
from sqlalchemy.types import TypeDecorator, TypeEngine

from holdfast.errors import InvalidValue
from holdfast.model import Model


class Key:
    """How rows of one model are asked for.

    Attributes:
        names: the attributes that make the key, in order.
        columns: the columns of the table under them.
    """

    __slots__ = ("_kinds", "_model", "columns", "names")

    def __init__(self, model: type[Model]) -> None:
        mapper = inspect(model)
        self._model = model
        self.names = tuple(str(mapper.get_property_by_column(c).key) for c in mapper.primary_key)
        self.columns = tuple(str(c.name) for c in mapper.primary_key)
        self._kinds = tuple(plain_kind(c.type) for c in mapper.primary_key)

    def parse(self, key: Any) -> Any:
        """The key as the database has it: one value, or a tuple of several, from that, a dictionary, or a UUID's text.

        Raises:
            InvalidValue: it is no key of the model.
        """
        if len(self.names) == 1:
            if isinstance(key, Mapping) and set(key) == set(self.names):
                key = key[self.names[0]]
            value = _value(self._kinds[0], key)
            if value is not None:
                return value
        else:
            if isinstance(key, Mapping) and set(key) == set(self.names):
                key = tuple(key[name] for name in self.names)
            if isinstance(key, tuple | list) and len(key) == len(self.names):
                values = tuple(map(_value, self._kinds, key))
                if None not in values:
                    return values
        shown = repr(key) if len(repr(key)) <= 80 else f"{repr(key)[:77]}…"
        raise InvalidValue(f"{shown} is no key of {self._model.__name__}; a key is {self._told()}")

    def of(self, row: Model) -> Any:
        """The key of `row`, as `parse` gives it."""
        if len(self.names) == 1:
            return getattr(row, self.names[0])
        return tuple(getattr(row, name) for name in self.names)

    def equals(self, key: Any) -> ColumnElement[bool]:
        """The condition that a row has this key, as `parse` gives it."""
        if len(self.names) == 1:
            return getattr(self._model, self.names[0]) == key  # type: ignore[no-any-return]
        return and_(*(getattr(self._model, name) == value for name, value in zip(self.names, key, strict=True)))

    def among(self, keys: list[Any]) -> ColumnElement[bool]:
        """The condition that a row has one of these keys, as `parse` gives them."""
        if len(self.names) == 1:
            return getattr(self._model, self.names[0]).in_(keys)  # type: ignore[no-any-return]
        return or_(*map(self.equals, keys))  # for a row IN a list SQLite reads the whole table

    def _told(self) -> str:
        words = [_WORDS.get(kind, "a value") for kind in self._kinds]
        if len(words) == 1:
            return words[0]
        return f"({', '.join(f'{name}: {word}' for name, word in zip(self.names, words, strict=True))})"


_keys: WeakKeyDictionary[type[Model], Key] = WeakKeyDictionary()


def key_of(model: type[Model]) -> Key:
    """The key of `model`.

    Raises:
        InvalidValue: it is no model with a table.
    """
    found = _keys.get(model) if isinstance(model, type) else None
    if found is None:
        if not isinstance(model, type) or not issubclass(model, Model) or not hasattr(model, "__table__"):
            told = getattr(model, "__name__", None) or f"an object of {type(model).__name__}"
            raise InvalidValue(f"unit[…] takes a model, a class that inherits from Model and has a table, not {told}")
        found = _keys[model] = Key(model)
    return found


_WORDS: dict[type[Any] | None, str] = {UUID: "a UUID", str: "a text", int: "a whole number", bool: "true or false"}


def plain_kind(column_type: TypeEngine[Any]) -> type[Any] | None:
    """The Python type of a column's values, where it is one of those that keys mostly have: UUID, text, numbers."""
    if isinstance(column_type, TypeDecorator):
        column_type = column_type.impl_instance
    for base, kind in ((Uuid, UUID), (Boolean, bool), (Integer, int), (String, str)):
        if isinstance(column_type, base):
            return kind
    return None


def _value(kind: type[Any] | None, value: Any) -> Any:
    """`value` as one of this kind, None where it is none."""
    if kind is UUID and not isinstance(value, UUID):
        try:
            return UUID(value)
        except (ValueError, TypeError, AttributeError):
            return None
    if kind is None:
        return value
    return value if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) else None
