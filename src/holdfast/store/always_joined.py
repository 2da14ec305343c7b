"""Collections that a model always joins: they would multiply a statement's rows, and so get one of their own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import RelationshipProperty, defaultload, selectinload


@lru_cache(maxsize=512)
def instead_of_joins(model: type[Any]) -> tuple[Any, ...]:
    """Loader options for the collections that rows of `model` bring by `lazy="joined"`, at any depth."""
    return tuple(_options(model, None, frozenset()))


def is_joined(link: RelationshipProperty[Any]) -> bool:
    """Whether a relationship comes along with every row."""
    return link.lazy in ("joined", False)


def _options(model: type[Any], loader: Any, seen: frozenset[Any]) -> Iterator[Any]:
    for link in inspect(model).relationships:
        if not is_joined(link) or link in seen:
            continue
        attribute = getattr(model, link.key)
        if link.uselist:
            yield selectinload(attribute) if loader is None else loader.selectinload(attribute)
        else:
            further = defaultload(attribute) if loader is None else loader.defaultload(attribute)
            yield from _options(link.mapper.class_, further, seen | {link})
