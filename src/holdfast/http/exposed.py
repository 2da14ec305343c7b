"""What `Expose` means over HTTP: the parameters of a resource and the shape of its rows, worked out once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, inspect

from holdfast.cache.aspect import Tier
from holdfast.errors import InvalidValue, ModelError
from holdfast.http import parameters
from holdfast.http.parameters import Parameter
from holdfast.http.values import BOOLEAN, Kind, kind_of
from holdfast.http.writing import Writing
from holdfast.model import Expose, Model, Versioned
from holdfast.store import Query
from holdfast.store.repository import PAGE_LIMIT, PAGE_SIZE

MOST_VALUES = 100  # in one `[in]`
MOST_SORTS = 4
_WORDS = {
    "eq": "is",
    "ne": "is not (a row without a value is not it either)",
    "gt": "is greater than",
    "gte": "is at least",
    "lt": "is less than",
    "lte": "is at most",
    "in": "is one of (comma-separated)",
    "null": "has no value (true), or has one (false)",
}
# Parameters that every list takes; columns of these names cannot be filtered by.
_COMMON = ("sort", "after", "limit", "fields", "include", "total")


class Resource:
    """One exposed model.

    Attributes:
        name: in `/v1/resources/{name}`.
        model, expose: the declaration.
        kinds: the kind of every shown column, in the order they are shown.
        key_kind: the kind of the key's column, where the resource has a key besides `id`.
        includes: the relationships that may be loaded along, each with the resource of its rows.
        filters: parameter name → (column, operator).
        tenanted: whether each row belongs to a tenant; such rows are not shown to a caller who is not known.
        versioned: whether each row has a version, which its ETag begins with.
        writing: what a caller may set.
    """

    def __init__(self, model: type[Model], expose: Expose) -> None:
        self.name = expose.resource(model)
        self.model = model
        self.expose = expose
        self.tenanted = model.__policy__.tenant is not None
        self.versioned = issubclass(model, Versioned)
        self.writing = Writing(model, expose)
        if expose.cached and model.__policy__.aspect(Tier) is None:
            raise ModelError(
                f"{model.__name__}: Expose(cached=True) wants a tier, which says how long rows are kept; add Warm()"
            )
        columns: Any = model.__table__.columns
        self.columns = columns
        self.kinds: dict[str, Kind] = {name: kind_of(columns[name]) for name in expose.shown(model)}
        self.key_kind = kind_of(columns[expose.key]) if expose.key is not None else None
        self.includes: dict[str, Resource] = {}
        self.filters: dict[str, tuple[str, str]] = {}
        described = [p for name in expose.filters for p in self._filter_parameters(name)]
        self.single_parameters: list[Parameter] = []
        self.list_parameters: dict[str, Parameter] = {p.name: p for p in described}
        self._shows = _shows(self.kinds)

    def link(self, resources: dict[type[Model], Resource]) -> None:
        """Resolve the relationships that may be included; the parameters are whole after this."""
        relationships = inspect(self.model).relationships
        for name in self.expose.include:
            target = relationships[name].mapper.class_ if name in relationships else None
            if target not in resources:
                reason = (
                    "which is no relationship of it"
                    if target is None
                    else f"but {target.__name__} is not exposed itself"
                )
                raise ModelError(f"{self.model.__name__}: Expose(include=…) names {name!r}, {reason}")
            self.includes[name] = resources[target]
        self.single_parameters = [
            parameters.names("fields", "Show only these columns (and the id).", tuple(self.kinds)),
            parameters.names("include", "Show these related rows too.", tuple(self.includes)),
        ]
        common = [
            Parameter("sort", *self._sort_words(), self._read_sort),
            parameters.text("after", "The `next` of the page before.", longest=16_384, pattern="^[A-Za-z0-9_-]+$"),
            parameters.count("limit", "Rows a page.", most=PAGE_LIMIT, default=PAGE_SIZE),
            *self.single_parameters,
            parameters.flag("total", "Also count the rows of all pages."),
        ]
        self.list_parameters |= {p.name: p for p in common}

    def query(self, given: Sequence[tuple[str, str]]) -> tuple[Query[Any], dict[str, Any]]:
        """The query that a request asks for, and the values of the other parameters.

        Raises:
            InvalidValue: a parameter is unknown, or its value is not what it must be.
        """
        query: Query[Any] = Query(self.model)
        options = {p.name: p.default for p in self.list_parameters.values() if p.name in _COMMON}
        for name, text in given:
            value = self._parameter(name).read(text, name)
            if name in self.filters:
                query = query.where(_condition(query, *self.filters[name], value))
            else:
                options[name] = value
        if options["sort"]:
            query = query.order_by(*options["sort"])
        return query, options

    def show(self, row: Model, fields: Sequence[str] | None = None, include: Sequence[str] = ()) -> dict[str, Any]:
        """One row as it goes into JSON."""
        if fields is None:
            shown = {name: getattr(row, name) if show is None else show(row) for name, show in self._shows}
        else:
            wanted = {"id", *fields}
            shown = {n: getattr(row, n) if show is None else show(row) for n, show in self._shows if n in wanted}
        for name in include:
            related, target = getattr(row, name), self.includes[name]
            if isinstance(related, list):
                shown[name] = [target.show(r) for r in sorted(related, key=lambda r: r.id)]
            else:
                shown[name] = None if related is None else target.show(related)
        return shown

    def scope_of(self, operation: str) -> str:
        """The scope that an operation needs where a key is needed."""
        return self.expose.scope_of(self.model, operation)

    def version_of(self, row: Any) -> int | None:
        """The version of a row; None where rows have none."""
        return row.version if self.versioned else None

    def is_list(self, relationship: str) -> bool:
        """Whether a row has many related rows there, rather than one or none."""
        return bool(inspect(self.model).relationships[relationship].uselist)

    def _parameter(self, name: str) -> Parameter:
        if name in self.list_parameters:
            return self.list_parameters[name]
        column = name.partition("[")[0]
        if column in self.expose.filters:
            allowed = ", ".join(f"{column}[{o}]" for c, o in self.filters.values() if c == column)
            raise InvalidValue(f"there is no parameter {parameters.shown(name)}; {column} can be compared by {allowed}")
        filters = f"filters on {', '.join(self.expose.filters)}" if self.expose.filters else "no filters"
        raise InvalidValue(
            f"there is no parameter {parameters.shown(name)}; {self.name} takes {', '.join(_COMMON)} and {filters}"
        )

    def _filter_parameters(self, column: str) -> list[Parameter]:
        kind = kind_of(self.columns[column])
        if not kind.operators:
            raise ModelError(
                f"{self.model.__name__}: Expose(filters=…) names {column!r}, whose type cannot be compared in a URL"
            )
        if column in _COMMON:
            raise ModelError(
                f"{self.model.__name__}: Expose(filters=…) names {column!r}, which means something else in a URL"
            )
        operators = (*kind.operators, *(("null",) if self.columns[column].nullable else ()))
        made = []
        for operator in operators:
            for name in (column, f"{column}[eq]") if operator == "eq" else (f"{column}[{operator}]",):
                self.filters[name] = (column, operator)
                schema = BOOLEAN.schema if operator == "null" else kind.schema
                if operator == "in":
                    schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": MOST_VALUES}
                made.append(Parameter(name, f"`{column}` {_WORDS[operator]}.", schema, _reader(kind, operator)))
        return made

    def _sort_words(self) -> tuple[str, dict[str, Any]]:
        allowed = [f"{sign}{name}" for name in self.expose.sort for sign in ("", "-")]
        words = "Columns to sort by, comma-separated, `-` for descending; NULLs come last, the id breaks ties."
        items = {"type": "string", "enum": allowed}
        most = max(1, min(MOST_SORTS, len(self.expose.sort)))
        return words, {"type": "array", "items": items, "minItems": 1, "maxItems": most, "uniqueItems": True}

    def _read_sort(self, text: str, where: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name.removeprefix("-") not in self.expose.sort:
                allowed = ", ".join(self.expose.sort) or "nothing"
                raise InvalidValue(
                    f"{where} names {name[:40]!r}; {self.name} can be sorted by {allowed} (`-` for descending)"
                )
        if len({name.removeprefix("-") for name in names}) < len(names) or len(names) > MOST_SORTS:
            raise InvalidValue(f"{where}={text[:80]!r} must name each column once, and {MOST_SORTS} at most")
        return names


def resources_of(models: Sequence[type[Model]]) -> dict[str, Resource]:
    """The resource of every exposed model, by name.

    Raises:
        ModelError: two have one name, or a declaration cannot be carried out over HTTP.
    """
    by_model = {m: Resource(m, expose) for m in models if (expose := m.__policy__.aspect(Expose)) is not None}
    found: dict[str, Resource] = {}
    for resource in by_model.values():
        if resource.name in found:
            other = found[resource.name].model.__name__
            raise ModelError(
                f"{resource.model.__name__} and {other} are both exposed as {resource.name!r}; give one a name=…"
            )
        found[resource.name] = resource
        resource.link(by_model)
    return found


def _reader(kind: Kind, operator: str) -> Callable[[str, str], Any]:
    if operator == "null":
        return BOOLEAN.parse
    if operator != "in":
        return kind.parse

    def read_several(text: str, where: str) -> list[Any]:
        parts = text.split(",")
        if len(parts) > MOST_VALUES:
            raise InvalidValue(f"{where} has {len(parts)} values; it may have {MOST_VALUES}")
        return [kind.parse(part, where) for part in parts]

    return read_several


def _condition(query: Query[Any], name: str, operator: str, value: Any) -> ColumnElement[bool]:
    column = query.column(name)
    if operator == "in":
        condition: ColumnElement[bool] = column.in_(value)
    elif operator == "null":
        condition = column.is_(None) if value else column.is_not(None)
    elif operator == "ne":
        condition = column.is_distinct_from(value) if column.expression.nullable else column != value
    else:
        condition = {
            "eq": column.__eq__,
            "gt": column.__gt__,
            "gte": column.__ge__,
            "lt": column.__lt__,
            "lte": column.__le__,
        }[operator](value)
    return condition


def _shows(kinds: dict[str, Kind]) -> list[tuple[str, Callable[[Any], Any] | None]]:
    """Per shown column how its value is taken from a row; None where `getattr` does."""

    def taker(name: str, convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda row: None if (value := getattr(row, name)) is None else convert(value)

    return [(name, None if kind.show is None else taker(name, kind.show)) for name, kind in kinds.items()]
