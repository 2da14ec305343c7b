"""`Audited`: what a model declares for the trail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args

import msgspec

from holdfast.errors import ModelError
from holdfast.journal.changes import Op
from holdfast.model import Aspect, Encrypted, Model, require_columns
from holdfast.model.encrypted import BlindIndex

_OPS = tuple(op for op in get_args(Op) if op not in ("reset", "event"))


class Audited(Aspect):
    """Every committed change of a row is put on record, whatever program made it: who, what, before and after.

    The journal carries the columns, but for those that the policy calls secret and encrypted ones. Values of private
    columns are encrypted in the record. TRUNCATE of the table is refused.

    Args:
        reads: also put on record which rows a unit has loaded.
        tenant: the column that says in whose chain a record is; the policy's tenant unless given. Where it is NULL the
            record is in the chain of nobody.
        subject: the column that says whom the private columns are about.
        skip: columns whose values are in no record: large ones, and those that change with every use.
        called: what an operation is called in the record: `{"insert": "login"}`.

    Example::

        class Invoice(Model):
            __policy__ = Policy(Audited(subject="customer_id"), tenant="org_id", private=("address",))
    """

    refuses_truncate = True

    def __init__(
        self,
        *,
        reads: bool = False,
        tenant: str | None = None,
        subject: str | None = None,
        skip: tuple[str, ...] = (),
        called: Mapping[str, str] | None = None,
    ) -> None:
        if isinstance(skip, str):
            raise ModelError(f"Audited(skip={skip!r}) takes several columns; write ({skip!r},)")
        self.reads = reads
        self.tenant = tenant
        self.subject = subject
        self.skip = tuple(skip)
        self.called = dict(called or {})
        for op, name in self.called.items():
            if op not in _OPS or not isinstance(name, str) or not 0 < len(name) <= 100 or not name.isprintable():
                told = f"names an operation ({', '.join(_OPS)}) in up to 100 characters"
                raise ModelError(f"Audited(called={{{op!r}: {name!r}}}) {told}")

    def check(self, model: type[Model]) -> None:
        """Raise `ModelError` for a column that is not there, and for a model that the journal leaves out."""
        named = [name for name in (self.tenant, self.subject) if name is not None]
        require_columns(model, (*named, *self.skip), "Audited(…)")
        for name in named:
            if name in self.skip or name not in self.needs(model):
                raise ModelError(f"{model.__name__}: Audited(…) needs {name!r}, which no record has: it is kept secret")
        if not model.__policy__.capture:
            raise ModelError(f"{model.__name__} is Audited, but Policy(capture=False) keeps it out of the journal")
        if len(model.__policy__.all(Audited)) > 1:
            raise ModelError(f"{model.__name__} is Audited twice; leave one")

    def needs(self, model: type[Model]) -> tuple[str, ...]:
        """Every column but secret, encrypted and skipped ones."""
        left_out = {*self.skip, *model.__policy__.secret}
        return tuple(
            str(column.name)
            for column in model.__table__.columns
            if column.name not in left_out and not isinstance(column.type, Encrypted | BlindIndex)
        )


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the trail must know of a table.

    Attributes:
        columns: those whose values are on record, in the order of the table.
        private: those of them that are encrypted.
        tenant, subject: the columns that say whose chain it is, and whom it is about; None where none does.
        called: what operations are called, where it is not their own name.
    """

    columns: tuple[str, ...]
    private: frozenset[str]
    tenant: str | None = None
    subject: str | None = None
    called: dict[str, str] = {}


def rules_of(models: Iterable[type[Model]]) -> dict[str, Rules]:
    """The rules of those models that are audited, by table."""
    found: dict[str, Rules] = {}
    for model in models:
        audited = model.__policy__.aspect(Audited)
        if audited is None:
            continue
        columns: Any = audited.needs(model)
        found[str(model.__tablename__)] = Rules(
            columns=columns,
            private=frozenset(columns) & frozenset(model.__policy__.private),
            tenant=audited.tenant,
            subject=audited.subject,
            called=audited.called,
        )
    return found
