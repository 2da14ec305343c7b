"""`Personal` and `Mentions`: what a model declares of the people its rows are about."""

from __future__ import annotations

from typing import Any, Literal, cast, get_args
from uuid import UUID

from sqlalchemy import JSON, String, Table, UniqueConstraint
from sqlalchemy.types import TypeDecorator, TypeEngine

from holdfast.errors import ModelError
from holdfast.model import Aspect, Encrypted, Model, require_columns
from holdfast.store.keys import plain_kind

Erase = Literal["delete", "blank", "keep"]
"""What becomes of a row when the person is erased."""


class Personal(Aspect):
    """Rows are about a person: they are in what is exported for him, and go when he is erased.

    Args:
        subject: the column with the key of the person; of the table of people itself its own key.
        erase: `delete` the row; `blank` what is private or secret in it, and the subject where it may be NULL; or
            `keep` it.
        because: why a row is kept: the law that says so, or the interest. Asked for with `keep` and `blank`.
        marks: columns whose values tell the person from others elsewhere, as in `Mentions`: an address, an id that a
            provider gave him.

    Example::

        class Order(Model):
            __policy__ = Policy(
                Personal("customer_id", erase="blank", because="tax law: ten years"),
                private=("address", "note"),
                plain=("total", "ordered_at"),
            )
    """

    def __init__(
        self, subject: str, *, erase: Erase = "delete", because: str | None = None, marks: tuple[str, ...] = ()
    ) -> None:
        if erase not in get_args(Erase):
            raise ModelError(f"Personal(erase={erase!r}) is one of {', '.join(get_args(Erase))}")
        if erase != "delete" and not (because and because.strip()):
            raise ModelError(f"Personal(erase={erase!r}) wants because=…: on what ground the row may stay")
        if isinstance(marks, str):
            raise ModelError(f"Personal(marks={marks!r}) takes several columns; write ({marks!r},)")
        self.subject = subject
        self.erase: Erase = erase
        self.because = because
        self.marks = tuple(marks)

    def check(self, model: type[Model]) -> None:
        """Raise `ModelError` for a column that is not there, or one that cannot be blanked."""
        require_columns(model, (self.subject, *self.marks), "Personal(…)")
        subject_kind(model, self.subject)
        if len(model.__policy__.all(Personal)) > 1:
            raise ModelError(f"{model.__name__} is Personal twice; leave one")
        if self.erase == "blank":
            for name in blanked(model):
                blank_of(model, name)

    def needs(self, model: type[Model]) -> tuple[str, ...]:
        """The person, so that whoever has a change of the journal knows whose it is."""
        is_key = self.subject in table_of(model).primary_key.columns
        return () if is_key or not model.__policy__.capture else (self.subject,)


class Mentions(Aspect):
    """Rows hold documents that may speak of anybody: those that hold a mark of a person go blank with him.

    A document holds a mark where one of its texts is the mark and nothing else. Marks are the keys of people, and what
    `Personal(marks=…)` names.

    Args:
        columns: JSON columns, or text that holds JSON.

    Example::

        class Webhook(Model):
            __policy__ = Policy(Mentions("payload"), private=("payload",))
    """

    def __init__(self, *columns: str) -> None:
        if not columns:
            raise ModelError("Mentions(…) takes the columns that hold documents")
        self.columns = columns

    def check(self, model: type[Model]) -> None:
        """Raise `ModelError` for a column that is not there, or cannot be blanked."""
        require_columns(model, self.columns, "Mentions(…)")
        for name in self.columns:
            blank_of(model, name)


def subject_kind(model: type[Model], name: str) -> type[Any]:
    """The type of the keys of people: UUID, str or int.

    Raises:
        ModelError: the column has another one, by which nobody would be found.
    """
    column = table_of(model).columns[name]
    kind = plain_kind(column.type)
    if kind not in (UUID, str, int) or isinstance(column.type, Encrypted):
        raise ModelError(f"{model.__name__}: Personal({name!r}) is to hold the key of a person: a UUID, text or number")
    return kind


def table_of(model: type[Model]) -> Table:
    """The table of a model."""
    return cast(Table, model.__table__)


def blank_of(model: type[Model], name: str) -> Any:
    """What a column holds when nothing is in it: NULL, or what is empty where it may not be NULL.

    Raises:
        ModelError: it has no such value.
    """
    column = table_of(model).columns[name]
    if column.nullable:
        return None
    if column.unique or column.primary_key or column.foreign_keys or _in_unique(model, name):
        told = "it must be unique, so it cannot be blank in several rows"
    elif isinstance(kind := _plain(column.type), JSON):
        return {}
    elif isinstance(kind, String) and not isinstance(column.type, Encrypted):
        return ""
    else:
        told = "it may not be NULL, and nothing of its type is empty"
    raise ModelError(f"{model.__name__}.{name} is to be blanked, but {told}; let it be NULL, or delete the row")


def blanked(model: type[Model]) -> tuple[str, ...]:
    """The columns that are blanked with a person: the private and the secret ones."""
    return tuple(dict.fromkeys((*model.__policy__.private, *model.__policy__.secret)))


def _in_unique(model: type[Model], name: str) -> bool:
    table = table_of(model)
    constraints = (one.columns for one in table.constraints if isinstance(one, UniqueConstraint))
    indexes = (index.columns for index in table.indexes if index.unique)
    return any(name in columns for columns in (*constraints, *indexes))


def _plain(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    return kind.impl_instance if isinstance(kind, TypeDecorator) else kind
