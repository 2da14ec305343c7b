"""Tables that no model declares and that have the name of one's: `Table("books", MetaData())`, `table("books", …)`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy.sql.selectable import TableClause

from holdfast.model import Model

Names = Mapping[str, tuple[type[Any], ...]]


def confined_by_name(models: Iterable[type[Any]]) -> Names:
    """Those of `models` that are not everybody's, by the names of their tables, as `namesakes` looks them up."""
    found: dict[str, tuple[type[Any], ...]] = {}
    for model in models:
        if not model.__policy__.is_shared:
            name = model.__table__.name.casefold()
            found[name] = (*found.get(name, ()), model)
    return found


def namesakes(table: TableClause, names: Names) -> list[type[Any]]:
    """The models whose table `table` may be: of one name, and of one schema unless either leaves it out.

    Capitals do not count, as on SQLite. Where no schema is named the connection's search path decides.
    """
    schema = getattr(table, "schema", None)
    return [
        model
        for model in names.get(table.name.casefold(), ())
        if schema is None or (own := model.__table__.schema) is None or own.casefold() == schema.casefold()
    ]


def declared() -> Iterator[type[Model]]:
    """Every model of this process that has a table."""
    pending = [Model]
    while pending:
        for model in pending.pop().__subclasses__():
            pending.append(model)
            if "__table__" in model.__dict__:
                yield model
