"""Keyset pages: the next page begins after the last row seen, so its cost does not grow with its number."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, and_, false, literal, or_, tuple_

from holdfast.errors import InvalidValue
from holdfast.model import Model
from holdfast.store.query import Order, Query

M = TypeVar("M", bound=Model)


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


def encode_cursor(orders: Sequence[Order], row: Model) -> str:
    """An opaque text that says after which row the next page begins."""
    values = [_plain(getattr(row, name)) for name, _ in orders]
    content = msgspec.msgpack.encode([_signature(orders), values])
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def decode_cursor(query: Query[Any], orders: Sequence[Order], cursor: str) -> list[Any]:
    """The values of the last row seen.

    Raises:
        InvalidValue: the text is no cursor, or one of a query with another order.
    """
    problem = "is not a page cursor of this query; start again without it"
    if len(cursor) > 4096:
        raise InvalidValue(f"a cursor of {len(cursor)} characters {problem}")
    try:
        content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        signature, values = msgspec.msgpack.decode(content, type=tuple[str, list[Any]])
        if signature != _signature(orders) or len(values) != len(orders):
            raise InvalidValue(f"{cursor!r} {problem}")
        return [_typed(query.column(name), value) for (name, _), value in zip(orders, values, strict=True)]
    except (binascii.Error, msgspec.MsgspecError, ValueError, TypeError) as error:
        raise InvalidValue(f"{cursor!r} {problem}") from error


def after(query: Query[Any], orders: Sequence[Order], values: Sequence[Any]) -> ColumnElement[bool]:
    """The condition that a row comes after the one with `values`, in `orders` with NULLs last."""
    columns = [query.column(name) for name, _ in orders]
    directions = {descending for _, descending in orders}
    if len(directions) == 1 and not any(c.expression.nullable for c in columns):
        # A row comparison is one range of an index that has these columns; the general form below is not.
        left, right = tuple_(*columns), tuple_(*(literal(v, c.type) for v, c in zip(values, columns, strict=True)))
        return left < right if directions.pop() else left > right
    branches: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for column, (_, descending), value in zip(columns, orders, values, strict=True):
        branches.append(and_(*equal, _beyond(column, descending, value)))
        equal.append(column.is_(None) if value is None else column == value)
    return or_(*branches)


def _beyond(column: Any, descending: bool, value: Any) -> ColumnElement[bool]:
    if value is None:
        return false()  # NULLs are last: nothing follows but by the next column
    further: ColumnElement[bool] = column < value if descending else column > value
    return or_(further, column.is_(None)) if column.expression.nullable else further


def _signature(orders: Sequence[Order]) -> str:
    return ",".join(f"-{name}" if descending else name for name, descending in orders)


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # msgpack integers end at 64 bits, amounts do not
    return value


def _typed(column: Any, value: Any) -> Any:
    if value is None:
        return None
    python_type = _python_type(column)
    if python_type is dt.datetime:
        return value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(value)
    if not isinstance(value, str | float | bool | bytes):
        raise InvalidValue(f"{value!r} does not fit the column {column.key}")
    return python_type(value) if python_type in (UUID, int) else value


def _python_type(column: Any) -> type[Any]:
    from holdfast.model import Amount, UtcTime

    kind = column.expression.type
    if isinstance(kind, Amount):
        return int
    if isinstance(kind, UtcTime):
        return dt.datetime
    return kind.python_type  # type: ignore[no-any-return]
