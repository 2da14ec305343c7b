"""`Query`: what to read, as an immutable description."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import Boolean, ColumnElement, Integer, Numeric, Select, inspect, select
from sqlalchemy.orm import QueryableAttribute, load_only, selectinload
from sqlalchemy.sql import ClauseElement

from holdfast.errors import InvalidValue
from holdfast.model import BlindIndex, Encrypted, Model, SoftDeleted
from holdfast.store.always_joined import instead_of_joins
from holdfast.store.scope import DELETED
from holdfast.store.search import Search

M = TypeVar("M", bound=Model)

Order = tuple[str, bool]  # column name, descending
Deleted = Literal["without", "with", "only"]


@dataclass(frozen=True, slots=True, eq=False)
class Query(Generic[M]):
    """Rows of one model. Each method returns a new query; nothing runs before the repository is asked.

    Example::

        Query(Agent).where(Agent.reputation_score >= 4, x402_enabled=True).order_by("-created_at").limit(20)
    """

    model: type[M]
    conditions: tuple[ColumnElement[bool], ...] = ()
    orders: tuple[Order, ...] = ()
    included: tuple[str, ...] = ()
    selected: tuple[str, ...] = ()
    at_most: int | None = None
    skip: int = 0
    deleted: Deleted = "without"
    searched: Search | None = None

    def where(self, *conditions: ColumnElement[bool], **equal: Any) -> Query[M]:
        """Rows for which all hold: SQLAlchemy conditions, or `column=value` (None asks for NULL).

        Raises:
            InvalidValue: a condition is none, the model has no such column, or a number is compared with a text.
        """
        for condition in conditions:
            if not isinstance(condition, ClauseElement | bool) and not hasattr(condition, "__clause_element__"):
                raise InvalidValue(
                    f"where(…) takes conditions such as {self.model.__name__}.id == key, or column=value, not"
                    f" {shown(condition)}; what is SQL goes into text(…)"
                )
        named = tuple(self._equal(name, value) for name, value in equal.items())
        return replace(self, conditions=self.conditions + conditions + named)

    def search(self, text: str) -> Query[M]:
        """Rows in which all words of `text` are found, the most relevant first unless `order_by` says otherwise.

        `"two words"` in quotes are found side by side, and a row that has a `-word` is left out; every other sign only
        separates words, so what a person types can be passed on as it is. A text without a word finds nothing.

        Raises:
            InvalidValue: the model is not `Searchable`, the text is longer than 500 characters, or the query has a
                search already.
        """
        if self.searched is not None:
            raise InvalidValue("a query has one search; put all words into it")
        return replace(self, searched=Search.of(self.model, text))

    def order_by(self, *names: str | QueryableAttribute[Any]) -> Query[M]:
        """Sort by columns, `-name` for descending; NULLs come last; the key breaks ties.

        Raises:
            InvalidValue: what is given is no column of the model, or one that is encrypted.
        """
        orders = tuple(map(self._order, names))
        for name, _ in orders:
            if isinstance(self.column(name).expression.type, Encrypted | BlindIndex):
                raise InvalidValue(f"{self.model.__name__}.{name} is encrypted, so rows cannot be sorted by it")
        return replace(self, orders=orders)

    def include(self, *relationships: str) -> Query[M]:
        """Load these relationships too, each with one more statement (`"capabilities"`, `"agent.pricing"`)."""
        for path in relationships:
            self._relationship(path)
        return replace(self, included=self.included + relationships)

    def select(self, *names: str) -> Query[M]:
        """Load only these columns, the key, and what the order and what is included need; reading another fails."""
        for name in names:
            self.column(name)
        return replace(self, selected=names)

    def limit(self, rows: int | None) -> Query[M]:
        """At most this many rows."""
        if rows is not None:
            whole(rows, "limit({})", least=0)
        return replace(self, at_most=rows)

    def offset(self, rows: int) -> Query[M]:
        """Leave out the first rows; the database still reads them, so prefer pages by cursor."""
        whole(rows, "offset({})", least=0)
        return replace(self, skip=rows)

    def with_deleted(self) -> Query[M]:
        """Deleted rows too, also among what is included."""
        return self._meaning("with")

    def only_deleted(self) -> Query[M]:
        """Only the rows that are deleted; what is included may be deleted or not."""
        return self._meaning("only")

    def build(self) -> Select[tuple[M]]:
        """The SQLAlchemy statement; the unit that runs it adds its tenant, and leaves deleted rows out."""
        statement = self.filtered(select(self.model)).options(*self.options())
        if self.orders:
            statement = statement.order_by(*order_terms(self.model, self.orders))
        elif self.searched is not None:
            statement = statement.order_by(*self.searched.ranking())
        if self.at_most is not None:
            statement = statement.limit(self.at_most)
        return statement.offset(self.skip) if self.skip else statement

    def filtered(self, statement: Select[Any]) -> Select[Any]:
        """`statement` with this query's conditions."""
        if self.deleted != "without":
            statement = statement.execution_options(**{DELETED: True})
        if self.deleted == "only":
            statement = statement.where(self.column("deleted_at").is_not(None))
        if self.searched is not None:
            statement = statement.where(self.searched.condition())
        return statement.where(*self.conditions) if self.conditions else statement

    def options(self) -> tuple[Any, ...]:
        """Loader options for what is included and selected."""
        loaders: list[Any] = [*instead_of_joins(self.model), *map(self._relationship, self.included)]
        if self.selected:
            needed = {*self.selected, *(name for name, _ in self.orders), *self._linking_columns()}
            loaders.append(load_only(*(self.column(name) for name in needed), raiseload=True))
        return tuple(loaders)

    def column(self, name: str) -> Any:
        """The mapped column called `name`.

        Raises:
            InvalidValue: the model has none; the message lists those it has.
        """
        columns = inspect(self.model).column_attrs
        if name not in columns:
            known = ", ".join(sorted(c.key for c in columns))
            raise InvalidValue(f"{self.model.__name__} has no column {name!r}; it has {known}")
        return getattr(self.model, name)

    def _equal(self, name: str, value: Any) -> ColumnElement[bool]:
        column = self.column(name)
        # SQLite would compare them, and find nothing.
        if isinstance(value, str | bytes) and isinstance(column.expression.type, Integer | Numeric | Boolean):
            raise InvalidValue(f"{self.model.__name__}.{name} holds numbers and equals no {type(value).__name__}")
        return column == value  # type: ignore[no-any-return]

    def _order(self, name: str | QueryableAttribute[Any]) -> Order:
        if isinstance(name, QueryableAttribute) and name.class_ is self.model:
            return name.key, False
        if not isinstance(name, str):
            raise InvalidValue(
                f"order_by(…) takes columns of {self.model.__name__} by name, 'title', or '-title' for descending, not"
                f" {shown(name)}"
            )
        return name.removeprefix("-"), name.startswith("-")

    def _meaning(self, deleted: Deleted) -> Query[M]:
        if not issubclass(self.model, SoftDeleted):
            raise InvalidValue(f"rows of {self.model.__name__} are deleted for good; declare it with SoftDeleted")
        return replace(self, deleted=deleted)

    def _linking_columns(self) -> set[str]:
        """The columns by which what is included is found."""
        mapper = inspect(self.model)
        first = (mapper.relationships[path.partition(".")[0]] for path in self.included)
        return {mapper.get_property_by_column(column).key for link in first for column in link.local_columns}

    def _relationship(self, path: str) -> Any:
        loader: Any = None
        model: type[Any] = self.model
        for name in path.split("."):
            relationships = inspect(model).relationships
            if name not in relationships:
                known = ", ".join(sorted(relationships.keys())) or "none"
                raise InvalidValue(f"{model.__name__} has no relationship {name!r} to include; it has {known}")
            attribute = getattr(model, name)
            loader = selectinload(attribute) if loader is None else loader.selectinload(attribute)
            model = relationships[name].mapper.class_
        return loader


def whole(value: Any, what: str, *, least: int) -> None:
    """Raise `InvalidValue` unless `value` is a whole number from `least` on; `what` is the call, `{}` its place."""
    if type(value) is not int or not least <= value < 2**63:
        raise InvalidValue(f"{what.format(shown(value))} must be a whole number, {least} or more, within 64 bits")


def shown(value: Any) -> str:
    """`value` as a message tells it: what it is, where it is long."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"one of {value.bit_length()} bits"
    text = str(value) if isinstance(value, QueryableAttribute) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


@lru_cache(maxsize=512)
def order_terms(model: type[Any], orders: tuple[Order, ...]) -> tuple[Any, ...]:
    """ORDER BY terms: NULLs last on every backend, in both directions."""
    terms: list[Any] = []
    for name, descending in orders:
        column = getattr(model, name)
        if column.expression.nullable:
            terms.append(column.is_(None))
        terms.append(column.desc() if descending else column.asc())
    return tuple(terms)
