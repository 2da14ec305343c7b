"""`Factory`: any number of valid rows of a model, the same ones for the same number."""

from __future__ import annotations

import datetime as dt
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Table,
    Time,
    UniqueConstraint,
    Uuid,
    inspect,
)

from holdfast.errors import InvalidValue
from holdfast.model import Amount, Model
from holdfast.model.encrypted import Encrypted, blind_columns

Make = Callable[[random.Random, int], Any]
Row = dict[str, Any]

_EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_YEAR = 365 * 24 * 3_600
_TRIES = 100
# fmt: off
_WORDS = (
    "amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "haven",
    "inlet", "jetty", "kelp", "lagoon", "marsh", "north", "ocean", "pearl",
    "quay", "reef", "shore", "tide", "umber", "vale", "wave", "yarrow",
)
# fmt: on
_IN = re.compile(r"""^["\w.]*?(\w+)"?\s+IN\s*\(((?:\s*'[^']*'\s*,?)+)\)$""", re.I)
_BETWEEN = re.compile(r"""^["\w.]*?(\w+)"?\s+BETWEEN\s+(-?\d+)\s+AND\s+(-?\d+)$""", re.I)
_BOUND = re.compile(r"""^["\w.]*?(\w+)"?\s*(>=|>|<=|<)\s*(-?\d+)$""")


class Factory:
    """Makes rows as dicts, from the columns of a model: their types, what is unique, CHECKs of the usual forms
    (`IN`, `BETWEEN`, `>= 0`), and rows that they refer to.

    Args:
        seed: rows are the same for the same number.
        parents: for each model that is referred to, rows of it, as `plant` gives them back.
        values: instead of what would be made: a value, or a function of a `random.Random` and the row's number.

    Raises:
        InvalidValue: it must refer to rows of a model, and `parents` has none.

    Example::

        agents = await plant(unit, Agent, Factory(Agent).rows(100), on=("id",))
        prices = Factory(AgentPricing, parents={Agent: agents.rows}, network="solana")
    """

    def __init__(
        self,
        model: type[Model],
        *,
        seed: int = 0,
        parents: Mapping[type[Model], Sequence[Mapping[str, Any]]] | None = None,
        **values: Any,
    ) -> None:
        self._model = model
        self._seed = seed
        self._table: Table = model.__table__  # type: ignore[assignment]
        self._names = {str(a.columns[0].name): str(a.key) for a in inspect(model).column_attrs}
        unknown = values.keys() - set(self._names.values())
        if unknown:
            raise InvalidValue(
                f"{model.__name__} has no column {min(unknown)!r}; it has {', '.join(self._names.values())}"
            )
        self._values = values
        self._unique = self._unique_keys()
        self._checks = dict(_ranges(self._table))
        self._links = self._linked(parents or {})
        linked = {name for names, _, _ in self._links for name in names}
        self._makers = {
            self._names[str(column.name)]: self._maker(column)
            for column in self._table.columns
            if self._is_made(column) and self._names[str(column.name)] not in linked
        }

    def rows(self, count: int) -> Iterator[Row]:
        """The first `count` rows.

        Raises:
            InvalidValue: no more rows can be made that differ where they must.
        """
        chance = random.Random(f"{self._table.name}:{self._seed}")
        seen: list[set[Any]] = [set() for _ in self._unique]
        for number in range(count):
            for _ in range(_TRIES):
                row = self._row(chance, number)
                keys = [tuple(row.get(name) for name in names) for names in self._unique]
                if all(None in key or key not in have for key, have in zip(keys, seen, strict=True)):
                    break
            else:
                raise InvalidValue(
                    f"after {number} rows of {self._model.__name__} no other could be made that is unique in"
                    f" {' and in '.join(', '.join(names) for names in self._unique)}; ask for fewer, or give values"
                )
            for key, have in zip(keys, seen, strict=True):
                have.add(key)
            yield row

    def _row(self, chance: random.Random, number: int) -> Row:
        row = {name: make(chance, number) for name, make in self._makers.items()}
        for names, referred, parents in self._links:
            parent = parents[chance.randrange(len(parents))]
            for name, other in zip(names, referred, strict=True):
                row[name] = parent[other]
        return row

    def _is_made(self, column: Column[Any]) -> bool:
        name = str(column.name)
        if self._names.get(name) is None or name in blind_columns(self._table).values():
            return False
        if self._names[name] in self._values or column.primary_key:
            return True
        if column.foreign_keys:
            return False
        has_default = column.default is not None or column.server_default is not None
        return not has_default and name != "deleted_at" and column.computed is None

    def _unique_keys(self) -> list[tuple[str, ...]]:
        found = [c.columns for c in self._table.constraints if isinstance(c, UniqueConstraint)]
        found += [index.columns for index in self._table.indexes if index.unique]
        keys = [tuple(self._names.get(str(c.name), str(c.name)) for c in columns) for columns in found]
        keys.append(tuple(self._names[str(c.name)] for c in self._table.primary_key.columns))
        return list(dict.fromkeys(keys))

    def _linked(self, parents: Mapping[type[Model], Sequence[Mapping[str, Any]]]) -> list[Any]:
        given = {model.__table__: (model, rows) for model, rows in parents.items()}
        links = []
        for constraint in sorted(self._table.foreign_key_constraints, key=lambda c: sorted(c.column_keys)):
            names = tuple(self._names[str(column.name)] for column in constraint.columns)
            if all(name in self._values for name in names):
                continue
            if constraint.referred_table not in given:
                if any(not column.nullable for column in constraint.columns):
                    raise InvalidValue(
                        f"rows of {self._model.__name__} refer to {constraint.referred_table.name} by"
                        f" {', '.join(names)}; give some: parents={{TheModel: planted.rows}}"
                    )
                continue
            model, rows = given[constraint.referred_table]
            if not rows:
                raise InvalidValue(f"parents has no rows of {model.__name__}, to which {self._model.__name__} refers")
            other = {str(a.columns[0].name): str(a.key) for a in inspect(model).column_attrs}
            referred = tuple(other[element.column.name] for element in constraint.elements)
            links.append((names, referred, rows))
        return links

    def _maker(self, column: Column[Any]) -> Make:
        name = self._names[str(column.name)]
        if name in self._values:
            value = self._values[name]
            return value if callable(value) else lambda chance, number: value
        make = self._of_type(column, name)
        if column.nullable and not column.primary_key:
            return lambda chance, number: None if chance.random() < 0.1 else make(chance, number)
        return make

    def _of_type(self, column: Column[Any], name: str) -> Make:
        kind: Any = column.type
        allowed = self._checks.get(str(column.name))
        if isinstance(allowed, tuple):
            return lambda chance, number: allowed[int(chance.random() * len(allowed))]
        lowest, highest = (allowed.start, allowed.stop - 1) if isinstance(allowed, range) else (0, 10_000)
        if isinstance(kind, Amount):
            most = min(kind.maximum, 10**12) if allowed is None else highest
            return lambda chance, number: chance.randint(max(0, lowest), most)
        if isinstance(kind, Encrypted):
            if kind.kind is str:
                return _text(name, 60, False)
            return _bytes if kind.kind is bytes else lambda chance, number: {"number": number}
        kind = getattr(kind, "impl_instance", kind)
        if isinstance(kind, Enum):
            return lambda chance, number: chance.choice((kind.enum_class and list(kind.enum_class)) or kind.enums)
        if isinstance(kind, Uuid):
            return _uuid if kind.as_uuid else lambda chance, number: str(_uuid(chance, number))
        if isinstance(kind, String):
            alone = (name,) in self._unique
            return _text(name, kind.length or 60, alone)
        if isinstance(kind, Boolean):
            return lambda chance, number: chance.random() < 0.5
        if isinstance(kind, Integer):
            if (name,) in self._unique and allowed is None:
                return lambda chance, number: number + 1
            return lambda chance, number: lowest + int(chance.random() * (highest - lowest + 1))
        if isinstance(kind, Float):
            return lambda chance, number: round(lowest + chance.random() * min(highest - lowest, 1_000), 3)
        if isinstance(kind, Numeric):
            scale, digits = kind.scale or 0, (kind.precision or 12) - (kind.scale or 0)
            most = min(highest, 10 ** max(0, min(digits, 6)) - 1)
            return lambda chance, number: (
                Decimal(chance.randint(lowest, most)).scaleb(0).quantize(Decimal(1).scaleb(-scale))
            )
        if isinstance(kind, DateTime):
            return lambda chance, number: _EPOCH - dt.timedelta(seconds=int(chance.random() * _YEAR))
        if isinstance(kind, Date):
            return lambda chance, number: _EPOCH.date() - dt.timedelta(days=int(chance.random() * 365))
        if isinstance(kind, Time):
            return lambda chance, number: dt.time(int(chance.random() * 24), int(chance.random() * 60))
        if isinstance(kind, JSON):
            return lambda chance, number: {"word": chance.choice(_WORDS), "number": number}
        if isinstance(kind, ARRAY):
            return lambda chance, number: []
        if isinstance(kind, LargeBinary):
            return _bytes
        raise InvalidValue(
            f"a Factory cannot make values of {kind!r}; give {self._model.__name__}.{name} a value or a function"
        )


def _uuid(chance: random.Random, number: int) -> UUID:
    return UUID(int=(chance.getrandbits(128) & ~(0xF << 76) & ~(0b11 << 62)) | (0x8 << 76) | (0b10 << 62))


def _bytes(chance: random.Random, number: int) -> bytes:
    return chance.randbytes(16)


def _text(name: str, length: int, alone: bool) -> Make:
    def words(chance: random.Random, number: int) -> str:
        one, two = _WORDS[int(chance.random() * len(_WORDS))], _WORDS[int(chance.random() * len(_WORDS))]
        text = f"{one}.{two}@example.org" if "email" in name else f"{one} {two}"
        if "url" in name or "uri" in name:
            text = f"https://example.org/{one}/{two}"
        if not alone:
            return text[:length]
        behind = f"-{number}"
        return f"{number}.{text}"[:length] if "email" in name else text[: length - len(behind)] + behind

    return words


def _ranges(table: Table) -> Iterator[tuple[str, Any]]:
    """What CHECKs of the usual forms allow, by column: a tuple of texts, or a range of whole numbers."""
    bounds: dict[str, list[int]] = {}
    for constraint in table.constraints:
        if not isinstance(constraint, CheckConstraint):
            continue
        for part in re.split(r"\s+AND\s+(?!-?\d)", str(constraint.sqltext).strip(), flags=re.I):
            if found := _IN.match(part.strip()):
                yield found[1], tuple(re.findall(r"'([^']*)'", found[2]))
            elif found := _BETWEEN.match(part.strip()):
                bounds[found[1]] = [int(found[2]), int(found[3])]
            elif found := _BOUND.match(part.strip()):
                lowest, highest = bounds.get(found[1], [0, 10_000])
                limit = int(found[3]) + {">": 1, "<": -1}.get(found[2], 0)
                if found[2].startswith(">"):
                    lowest, highest = max(lowest, limit), max(highest, limit + 10_000)
                else:
                    lowest, highest = min(lowest, limit), min(highest, limit)
                bounds[found[1]] = [lowest, highest]
    for name, (lowest, highest) in bounds.items():
        yield name, range(lowest, highest + 1)
