"""Keyset pages: the next page begins after the last row seen, so its cost does not grow with its number."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, and_, false, literal, or_, tuple_

from holdfast.errors import InvalidValue
from holdfast.model import Amount, Model, UtcTime
from holdfast.store.query import Order, Query

M = TypeVar("M", bound=Model)

_LONGEST = 16_384  # characters of a cursor: it travels in URLs


@dataclass(frozen=True, slots=True)
class Page(Generic[M]):
    """One page of rows.

    Attributes:
        items: the rows, in order.
        next: the cursor of the following page, None on the last one.
        total: how many rows the query has over all pages, right on every page (also past the last);
            None unless it was asked for.
    """

    items: list[M]
    next: str | None
    total: int | None


def keyset_orders(query: Query[Any]) -> tuple[Order, ...]:
    """The query's order, made total by the key in the direction of the last column."""
    if any(name == "id" for name, _ in query.orders):
        return query.orders
    return (*query.orders, ("id", query.orders[-1][1] if query.orders else False))


def encode_cursor(query: Query[Any], orders: Sequence[Order], row: Model) -> str:
    """An opaque text that says after which row the next page begins.

    Raises:
        InvalidValue: the order's columns cannot be put into a text of reasonable length.
    """
    names = ", ".join(name for name, _ in orders)
    try:
        values = [_plain(getattr(row, name)) for name, _ in orders]
        content = msgspec.msgpack.encode([_signature(query, orders), values])
    except TypeError:
        raise InvalidValue(f"pages cannot be ordered by {names}: a value has no plain form") from None
    cursor = base64.urlsafe_b64encode(content).rstrip(b"=").decode()
    if len(cursor) > _LONGEST:
        raise InvalidValue(f"pages cannot be ordered by {names}: the values are too long for a cursor")
    return cursor


def decode_cursor(query: Query[Any], orders: Sequence[Order], cursor: str) -> list[Any]:
    """The values of the last row seen.

    Raises:
        InvalidValue: the text is no cursor, or one of another model or another order.
    """
    try:
        if len(cursor) > _LONGEST:
            raise ValueError
        content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        signature, values = msgspec.msgpack.decode(content, type=tuple[str, list[Any]])
        if signature != _signature(query, orders) or len(values) != len(orders):
            raise ValueError
        return [_typed(query.column(name), value) for (name, _), value in zip(orders, values, strict=True)]
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError):
        shown = cursor if len(cursor) <= 80 else f"{cursor[:77]}…"
    raise InvalidValue(f"{shown!r} is not a page cursor of this query; start again without it")


def after(query: Query[Any], orders: Sequence[Order], values: Sequence[Any]) -> ColumnElement[bool]:
    """The condition that a row comes after the one with `values`, in `orders` with NULLs last."""
    columns = [query.column(name) for name, _ in orders]
    bound = [literal(v, c.type) for v, c in zip(values, columns, strict=True)]
    directions = {descending for _, descending in orders}
    if len(directions) == 1 and not any(c.expression.nullable for c in columns):
        # A row comparison is one range of an index that has these columns; the general form below is not.
        left, right = tuple_(*columns), tuple_(*bound)
        return left < right if directions.pop() else left > right
    branches: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for column, (_, descending), value in zip(columns, orders, bound, strict=True):
        branches.append(and_(*equal, _beyond(column, descending, value)))
        equal.append(column.is_(None) if value.value is None else column == value)
    return or_(*branches)


def _beyond(column: Any, descending: bool, value: Any) -> ColumnElement[bool]:
    if value.value is None:
        return false()  # NULLs are last: nothing follows but by the next column
    further: ColumnElement[bool] = column < value if descending else column > value
    return or_(further, column.is_(None)) if column.expression.nullable else further


def _signature(query: Query[Any], orders: Sequence[Order]) -> str:
    return f"{query.model.__tablename__}:" + ",".join(f"-{name}" if descending else name for name, descending in orders)


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # msgpack integers end at 64 bits, amounts do not
    return value


def _typed(column: Any, value: Any) -> Any:
    if value is None:
        if not column.expression.nullable:
            raise ValueError
        return None
    kind = column.expression.type
    if isinstance(kind, UtcTime):
        return msgspec.convert(value, dt.datetime, strict=False)
    if not isinstance(kind, Amount) and kind.python_type is not int:
        return msgspec.convert(value, kind.python_type, strict=False)
    number = int(value) if isinstance(value, str) else value
    lowest, highest = (0, kind.maximum) if isinstance(kind, Amount) else (-(2**63), 2**63 - 1)
    if type(number) is not int or not lowest <= number <= highest:
        raise ValueError
    return number
