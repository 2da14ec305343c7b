"""What is added up: a rollup is declared on the model whose rows it sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    FromClause,
    PrimaryKeyConstraint,
    String,
    Table,
    and_,
    case,
    func,
    literal,
)
from sqlalchemy.types import TypeEngine

from holdfast.errors import ModelError
from holdfast.model import Amount, Aspect, Text, Total, UtcTime, exact_sum, refuse_encrypted, require_columns
from holdfast.store.row_security import DERIVED

NO_VALUE = ""  # a dimension that is NULL in the row: keys of a rollup are never NULL


@dataclass(frozen=True, slots=True)
class Sum:
    """The exact sum of an `Amount` column over the rows where every column of `where` has its value."""

    column: str
    where: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Count:
    """The number of rows where every column of `where` has its value."""

    where: Mapping[str, Any] = field(default_factory=dict)


Measure = Sum | Count


class Rollup(Aspect):
    """Keeps measures by UTC day and dimensions, in a table of its own, equal to the batch at any time.

    Args:
        name: the table of the results; its columns are `day`, the dimensions and the measures.
        time: the column that says which day a row belongs to; rows where it is NULL belong to none.
        by: the dimensions; an index on them and `time` keeps a bucket's rows together.
        measures: `Sum(…)` or `Count(…)` by name.
    """

    def __init__(self, name: str, *, time: str, by: tuple[str, ...], **measures: Measure) -> None:
        if not measures:
            raise ModelError(f"the rollup {name!r} adds nothing up; give it measures: volume=Sum('amount')")
        self.name = name
        self.time = time
        self.by = tuple(by)
        self.measures = measures
        self.table: Table | None = None
        self.model: type[Any] | None = None

    def check(self, model: type[Any]) -> None:
        """Raise `ModelError` for what cannot be added up exactly; make the table of the results."""
        where = f"Rollup({self.name!r})"
        names = ["day", *self.by, *self.measures, "rows"]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ModelError(f"{model.__name__}: {where} has {twice[0]!r} twice among the columns {', '.join(names)}")
        require_columns(model, (self.time, *self.by), where)
        columns = model.__table__.columns
        if not isinstance(columns[self.time].type, UtcTime):
            raise ModelError(f"{model.__name__}: {where} takes its time from {self.time!r}, which is no UTC time")
        for name in self.by:
            if not isinstance(columns[name].type, Text | String):
                raise ModelError(f"{model.__name__}: {where} groups by {name!r}; a dimension must be a text column")
        for name, measure in self.measures.items():
            require_columns(model, tuple(measure.where), where)
            refuse_encrypted(model, measure.where, where)
            if isinstance(measure, Sum):
                require_columns(model, (measure.column,), where)
                if not isinstance(columns[measure.column].type, Amount):
                    raise ModelError(
                        f"{model.__name__}: {where} sums {measure.column!r} as {name!r}; only an Amount sums exactly"
                    )
        self.model = model
        self.table = model.metadata.tables.get(self.name)
        if self.table is None:
            self.table = self._make_table(model)
        elif self.table.columns.keys() != names:
            raise ModelError(
                f"{model.__name__}: {where} cannot keep its figures in a table that is something else already"
            )

    def needs(self, model: type[Any]) -> tuple[str, ...]:
        """The time and the dimensions: they say which buckets a change made dirty."""
        return (self.time, *self.by)

    def _make_table(self, model: type[Any]) -> Table:
        return Table(
            self.name,
            model.metadata,
            Column("day", UtcTime(), nullable=False),
            *(Column(name, Text(), nullable=False) for name in self.by),
            *(
                # The default is for a measure that is declared later; its figures are computed then.
                Column(name, kind, nullable=False, server_default=literal(0, kind))
                for name, kind in ((name, _result_type(measure)) for name, measure in self.measures.items())
            ),
            Column("rows", BigInteger(), nullable=False),
            PrimaryKeyConstraint("day", *self.by),
            info={DERIVED: model},
        )

    def results(self) -> Table:
        """The table of the results."""
        if self.table is None:
            raise ModelError(f"the rollup {self.name!r} is not declared on a model; put it into a Policy(…)")
        return self.table

    def summed(self) -> tuple[str, ...]:
        """The columns that the measures read, each once."""
        found = [name for measure in self.measures.values() for name in measure.where]
        found += [measure.column for measure in self.measures.values() if isinstance(measure, Sum)]
        return tuple(dict.fromkeys(found))

    def aggregates(self, source: FromClause | None = None) -> list[ColumnElement[Any]]:
        """The measures over the rows of a group, and `rows`, their number; of `source`, else of the base table."""
        columns = (self.base() if source is None else source).c
        found: list[ColumnElement[Any]] = []
        for name, measure in self.measures.items():
            conditions = [columns[c] == v for c, v in measure.where.items()]
            if isinstance(measure, Sum):
                total = exact_sum(columns[measure.column])
                found.append((total.filter(*conditions) if conditions else total).label(name))
            else:
                found.append((func.count(case((and_(*conditions), 1))) if conditions else func.count()).label(name))
        found.append(func.count().label("rows"))
        return found

    def definition(self) -> str:
        """What the figures depend on, as text: another text means that they are to be computed anew."""
        measures = {
            name: [type(m).__name__, getattr(m, "column", None), sorted((c, repr(v)) for c, v in m.where.items())]
            for name, m in self.measures.items()
        }
        return msgspec.json.encode([str(self.base().name), self.time, self.by, measures]).decode()

    def base(self) -> Table:
        """The table whose rows are added up."""
        if self.model is None:
            raise ModelError(f"the rollup {self.name!r} is not declared on a model; put it into a Policy(…)")
        return self.model.__table__  # type: ignore[no-any-return]


def _result_type(measure: Measure) -> TypeEngine[Any]:
    return Total() if isinstance(measure, Sum) else BigInteger()
