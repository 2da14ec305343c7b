"""What every column is to privacy, and what a model left unsaid. Rules only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from sqlalchemy import ForeignKeyConstraint

from holdfast.guard.audit import Audited
from holdfast.model import BlindIndex, Encrypted, Model
from holdfast.model.policy import PLAIN
from holdfast.operate.findings import Finding
from holdfast.operate.privacy.personal import Mentions, Personal, table_of
from holdfast.store import AppendOnly

Sort = Literal["secret", "private", "key", "plain"]


def sorts_of(model: type[Model]) -> dict[str, Sort | None]:
    """What each column of a model is; None where nobody said it.

    `secret` and `private` as the policy says; a `key` is one that tells rows apart, or names another row, or the
    tenant; `plain` says nothing about a person, as the policy or the mixin that brings it says.
    """
    return {str(column.name): _sort(model, str(column.name)) for column in table_of(model).columns}


def _sort(model: type[Model], name: str) -> Sort | None:
    policy, column = model.__policy__, table_of(model).columns[name]
    if name in policy.secret or isinstance(column.type, BlindIndex):
        return "secret"
    if name in policy.private:
        return "private"
    if name in policy.plain:
        return "plain"
    personal = policy.aspect(Personal)
    if (
        column.primary_key
        or column.foreign_keys
        or name == policy.tenant
        or (personal is not None and name == personal.subject)
    ):
        return "key"
    if PLAIN.keys() <= column.info.keys():
        return "plain"
    return None


def examine_privacy(models: Sequence[type[Model]]) -> list[Finding]:
    """Findings for what is not said: columns of no sort, private ones of nobody, rows that would hold an erasure up."""
    found = [*_unsorted(models), *_of_nobody(models), *_only_added(models), *_holding_up(models), *_unsealed(models)]
    if not found:
        columns = sum(len(table_of(model).columns) for model in models)
        found.append(Finding.ok("classification", f"each of {columns} columns of {len(models)} models has its sort"))
    return found


def _unsorted(models: Iterable[type[Model]]) -> Iterator[Finding]:
    for model in models:
        for name, sort in sorts_of(model).items():
            if sort is None:
                kind = table_of(model).columns[name].type
                is_hidden = isinstance(kind, Encrypted)
                yield Finding.wrong(
                    "classification",
                    f"{model.__tablename__}.{name}: nobody said whether it is about a person",
                    f"name it in Policy({'private=… or secret=…' if is_hidden else 'private=…, secret=… or plain=…'})"
                    f" of {model.__name__}",
                )


def _of_nobody(models: Iterable[type[Model]]) -> Iterator[Finding]:
    for model in models:
        policy = model.__policy__
        mentions = policy.aspect(Mentions)
        left = set(policy.private) - set(mentions.columns if mentions is not None else ())
        if left and policy.aspect(Personal) is None:
            yield Finding.wrong(
                "subject",
                f"{model.__tablename__}.{min(left)} is private, and nobody said whose",
                f'give the policy of {model.__name__} Personal("the column with the person"), or Mentions(…)',
            )


def _only_added(models: Iterable[type[Model]]) -> Iterator[Finding]:
    for model in models:
        personal = model.__policy__.aspect(Personal)
        if personal is not None and personal.erase != "keep" and model.__policy__.aspect(AppendOnly) is not None:
            yield Finding.wrong(
                "erasure",
                f"{model.__tablename__} is AppendOnly, so its rows of a person could be neither deleted nor blanked",
                f'make {model.__name__} Personal(…, erase="keep", because=…), or leave AppendOnly out',
            )


def _holding_up(models: Sequence[type[Model]]) -> Iterator[Finding]:
    """Rows that refer to rows that are deleted with a person, and neither go with them, nor let them go, nor may go."""
    deleted = {
        str(model.__tablename__)
        for model in models
        if (personal := model.__policy__.aspect(Personal)) is not None and personal.erase == "delete"
    }
    for model in models:
        personal = model.__policy__.aspect(Personal)
        for constraint in table_of(model).foreign_key_constraints:
            target = constraint.elements[0].target_fullname.rsplit(".", 1)[0]
            if target not in deleted:
                continue
            problem = _of_reference(model, personal, constraint)
            if problem is not None:
                told = f"{model.__tablename__} ({', '.join(constraint.column_keys)}) refers to {target}, whose rows are"
                yield Finding.wrong("erasure", f"{told} deleted with a person: {problem[0]}", problem[1])


def _of_reference(
    model: type[Model], personal: Personal | None, constraint: ForeignKeyConstraint
) -> tuple[str, str] | None:
    """What is wrong with a reference to rows that are deleted, and what to do; None where nothing is."""
    action = (constraint.ondelete or "").upper()
    is_of_the_person = personal is not None and personal.subject in constraint.column_keys
    name = model.__name__
    if action == "CASCADE":
        if personal is not None and personal.erase != "delete":
            return "it would go with them, and is to stay", f'say ondelete="SET NULL" there, or let {name} go too'
        return None
    if action == "SET NULL":
        fixed = [one.name for one in constraint.columns if not one.nullable]
        if fixed:
            return f"{fixed[0]} may not be NULL", 'let it be NULL, or say ondelete="CASCADE"'
        if model.__policy__.aspect(AppendOnly) is not None:
            return "it is AppendOnly, so nothing in it can be set to NULL", "leave the reference or AppendOnly out"
        return None
    # Rows of the same person are gone by then: they go first. Those of another, or of the same table, are not.
    if is_of_the_person and personal is not None and personal.erase == "delete":
        return None
    return "it holds on to them", 'say ondelete="CASCADE" or "SET NULL" there'


def _unsealed(models: Iterable[type[Model]]) -> Iterator[Finding]:
    """What the audit trail would keep readable."""
    for model in models:
        policy = model.__policy__
        personal, audited = policy.aspect(Personal), policy.aspect(Audited)
        if personal is not None and audited is not None and policy.private and audited.subject != personal.subject:
            yield Finding.wrong(
                "erasure",
                f"{model.__tablename__} is Audited, and its private values are not sealed under the key of the person",
                f'say Audited(subject="{personal.subject}") in the policy of {model.__name__}',
            )
