"""Keyset pages: the next page begins after the last row seen, so its cost does not grow with its number."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, and_, bindparam, false, or_, tuple_

from holdfast.errors import InvalidValue
from holdfast.model import Amount, Model, UtcTime
from holdfast.secrets import TAG, SecretKeys
from holdfast.store.keys import key_of
from holdfast.store.query import Order, Query

M = TypeVar("M", bound=Model)

_LONGEST = 16_384  # characters of a cursor: it travels in URLs
_PURPOSE = "page cursor"
_PLACE = "holdfast_place_"


@dataclass(frozen=True, slots=True)
class Page(Generic[M]):
    """One page of rows.

    Attributes:
        items: the rows, in order.
        next: the cursor of the following page, None on the last one, and where the order is relevance.
        total: how many rows the query has over all pages, right on every page (also past the last);
            None unless it was asked for.
    """

    items: list[M]
    next: str | None
    total: int | None


def keyset_orders(query: Query[Any]) -> tuple[Order, ...]:
    """The query's order, made total by the key in the direction of the last column."""
    named = {name for name, _ in query.orders}
    descending = query.orders[-1][1] if query.orders else False
    return (*query.orders, *((name, descending) for name in key_of(query.model).names if name not in named))


class Cursors:
    """Makes and reads the cursors of one query, in one order, for one tenant.

    A cursor is signed, so that whoever holds it can neither forge a place nor take it to another query. It is not
    encrypted: it holds the values by which the rows are sorted.
    """

    def __init__(self, query: Query[Any], orders: Sequence[Order], secrets: SecretKeys, tenant: str | None) -> None:
        self._query = query
        self._orders = orders
        self._secrets = secrets
        self._context = msgspec.msgpack.encode([query.model.__tablename__, orders, tenant])

    def encode(self, row: Model) -> str:
        """An opaque text that says that the next page begins after `row`.

        Raises:
            InvalidValue: the order's columns cannot be put into a text of reasonable length.
            ConfigurationError: there is nothing to sign with, in production.
        """
        names = ", ".join(name for name, _ in self._orders)
        try:
            content = msgspec.msgpack.encode([_plain(getattr(row, name)) for name, _ in self._orders])
        except TypeError:
            raise InvalidValue(f"pages cannot be ordered by {names}: a value has no plain form") from None
        signature = self._secrets.sign(_PURPOSE, self._context + content)
        cursor = _written(signature + content)
        if len(cursor) > _LONGEST:
            raise InvalidValue(f"pages cannot be ordered by {names}: the values are too long for a cursor")
        return cursor

    def decode(self, cursor: str) -> list[Any]:
        """The values of the last row seen.

        Raises:
            InvalidValue: the text is no cursor, was changed, or is one of another model, order or tenant.
        """
        try:
            if len(cursor) > _LONGEST:
                raise ValueError
            whole = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            if _written(whole) != cursor:  # the last letter has bits that say nothing
                raise ValueError
            signature, content = whole[:TAG], whole[TAG:]
            if not self._secrets.signed(_PURPOSE, self._context + content, signature):
                raise ValueError
            values = msgspec.msgpack.decode(content, type=list[Any])
            pairs = zip(self._orders, values, strict=True)
            return [_typed(self._query.column(name), value) for (name, _), value in pairs]
        except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError):
            shown = cursor if len(cursor) <= 80 else f"{cursor[:77]}…"
        raise InvalidValue(f"{shown!r} is not a page cursor of this query; start again without it")


def _written(whole: bytes) -> str:
    return base64.urlsafe_b64encode(whole).rstrip(b"=").decode()


@lru_cache(maxsize=512)
def beyond(model: type[Any], orders: tuple[Order, ...], nulls: tuple[bool, ...]) -> ColumnElement[bool]:
    """The condition that a row comes after another one, in `orders` with NULLs last; `place` gives the other's values.

    Made once for an order: it is the dearest part of a page's statement to build.

    Args:
        nulls: in which columns the other row has NULL.
    """
    columns = [getattr(model, name) for name, _ in orders]
    bound = [bindparam(f"{_PLACE}{i}", type_=column.type) for i, column in enumerate(columns)]
    directions = {descending for _, descending in orders}
    if len(directions) == 1 and not any(c.expression.nullable for c in columns):
        # A row comparison is one range of an index that has these columns; the general form below is not.
        left, right = tuple_(*columns), tuple_(*bound)
        return left < right if directions.pop() else left > right
    branches: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for column, (_, descending), value, null in zip(columns, orders, bound, nulls, strict=True):
        # NULLs are last: nothing follows one but by the next column.
        branches.append(false() if null else and_(*equal, _further(column, descending, value)))
        equal.append(column.is_(None) if null else column == value)
    return or_(*branches)


def place(values: Sequence[Any]) -> dict[str, Any]:
    """The parameters that `beyond` leaves open, from the values of the row that was seen last."""
    return {f"{_PLACE}{i}": value for i, value in enumerate(values)}


def _further(column: Any, descending: bool, value: Any) -> ColumnElement[bool]:
    further: ColumnElement[bool] = column < value if descending else column > value
    return or_(further, column.is_(None)) if column.expression.nullable else further


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
