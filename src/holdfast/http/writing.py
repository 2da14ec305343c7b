"""What a body means to a resource: the values of columns, and what is wrong with it, field by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from sqlalchemy import JSON, Table

from holdfast.errors import HoldfastError
from holdfast.http.problems import Fault, Refusal
from holdfast.http.settable import Settable, settable_of
from holdfast.model import Expose, Model
from holdfast.store.failures import broken_rule
from holdfast.store.rules import Rule

_LONGEST = 60  # characters of a name that is repeated
_MOST = 50  # faults in one answer
_WORDS: dict[Rule, str] = {
    "unique": "another row has this already",
    "exclusion": "another row is in the way of this",
    "foreign key": "there is no such row to refer to",
    "check": "no row may have such values",
    "not null": "a row must have this",
}


class Writing:
    """The columns of a resource that a caller may set."""

    def __init__(self, model: type[Model], expose: Expose) -> None:
        self._table: Table = model.__table__  # type: ignore[assignment]
        self._tenant = model.__policy__.tenant
        self.columns: dict[str, Settable] = {
            name: settable_of(model, self._table.columns[name]) for name in expose.writable
        }
        self.documents = frozenset(name for name in self.columns if isinstance(self._table.columns[name].type, JSON))

    def created(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a new row.

        Raises:
            Refusal: 422, with what is wrong with each field.
        """
        values, faults = self._read(given)
        faults += [
            Fault(pointer(name), "it must be given")
            for name, column in self.columns.items()
            if column.required and name not in given
        ]
        return _checked(values, faults)

    def changed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The values that a merge patch (RFC 7396) names; those of `documents` are patches themselves.

        Raises:
            Refusal: as `created`.
        """
        return _checked(*self._read(given))

    def _read(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
        values: dict[str, Any] = {}
        faults = []
        for name, value in given.items():
            column = self.columns.get(name)
            if column is None:
                settable = ", ".join(self.columns)
                faults.append(Fault(pointer(name), f"no caller may set this; there are {settable}"))
                continue
            try:
                values[name] = column.value(value)
            except (ValueError, OverflowError) as wrong:
                faults.append(Fault(pointer(name), str(wrong)))
        return values, faults

    def conflict(self, error: HoldfastError, *, deleting: bool = False) -> Refusal | None:
        """The refusal of a write that breaks a constraint, with its fields; None where it is something else."""
        rule = broken_rule(error)
        if rule is None:
            return None
        if deleting and rule.kind == "foreign key":
            return Refusal(409, "other rows refer to this one; change or delete those first")
        fields = [name for name in rule.fields(self._table) if name != self._tenant]
        shown = [name for name in fields if name in self.columns]
        told = f"{_WORDS[rule.kind]}: {', '.join(shown)}" if shown else f"the row conflicts: {_WORDS[rule.kind]}"
        return Refusal(409, told, errors=[Fault(pointer(name), _WORDS[rule.kind]) for name in shown])


def merged(target: Any, patch: Any) -> Any:
    """A JSON value with a merge patch applied (RFC 7396, section 2)."""
    if not isinstance(patch, dict):
        return patch
    found = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


def pointer(name: str) -> str:
    """The JSON pointer of a member, as a fragment (RFC 6901, section 6)."""
    return "#/" + quote(name[:_LONGEST].replace("~", "~0").replace("/", "~1"), safe="~")


def _checked(values: dict[str, Any], faults: list[Fault]) -> dict[str, Any]:
    if faults:
        told = "; ".join(f"{fault.pointer[2:]}: {fault.detail}" for fault in faults[:3])
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise Refusal(422, f"{told}{more}", errors=faults[:_MOST])
    return values
