"""What every column is to privacy, and what a model left unsaid. Rules only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from holdfast.model import BlindIndex, Encrypted, Model
from holdfast.model.policy import PLAIN
from holdfast.operate.findings import Finding
from holdfast.operate.privacy.personal import Mentions, Personal, table_of
from holdfast.store import AppendOnly

Sort = Literal["secret", "private", "key", "plain"]

_SETS_FREE = ("CASCADE", "SET NULL", "SET DEFAULT")


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
    found = [*_unsorted(models), *_of_nobody(models), *_only_added(models), *_holding_up(models)]
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
    """Rows that refer to rows that are deleted with a person, and neither go with them nor let them go."""
    deleted = {
        str(model.__tablename__)
        for model in models
        if (personal := model.__policy__.aspect(Personal)) is not None and personal.erase == "delete"
    }
    for model in models:
        if str(model.__tablename__) in deleted:
            continue
        for constraint in table_of(model).foreign_key_constraints:
            target = constraint.elements[0].target_fullname.rsplit(".", 1)[0]
            if target in deleted and (constraint.ondelete or "").upper() not in _SETS_FREE:
                columns = ", ".join(constraint.column_keys)
                yield Finding.wrong(
                    "erasure",
                    f"{model.__tablename__} ({columns}) refers to {target}, whose rows are deleted with a person",
                    f'say ondelete="CASCADE" or "SET NULL" there, or make {model.__name__} Personal too',
                )
