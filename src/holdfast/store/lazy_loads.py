"""A relationship that was not loaded is an error that says what to include, never a hidden query."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import LoaderCallableStatus, Mapper, PassiveFlag
from sqlalchemy.util.concurrency import in_greenlet

from holdfast.errors import LazyLoad
from holdfast.model import Model


def _guard(load: Callable[..., Any], model: str, name: str) -> Callable[..., Any]:
    def guarded(state: Any, passive: PassiveFlag, *args: Any, **options: Any) -> Any:
        # Inside a greenlet the session itself is at work (flush, cascade, run_sync), and may wait for the database.
        if not passive & PassiveFlag.SQL_OK or state.key is None or in_greenlet():
            return load(state, passive, *args, **options)
        known = load(state, passive & ~PassiveFlag.SQL_OK, *args, **options)  # what the session holds costs nothing
        if known is LoaderCallableStatus.PASSIVE_NO_RESULT:
            raise LazyLoad(f"{model}.{name} was not loaded; ask for it: .include({name!r}) or get(…, include=({name!r},))")
        return known

    return guarded


@event.listens_for(Model, "mapper_configured", propagate=True)
def _guard_relationships(mapper: Mapper[Any], model: type[Any]) -> None:
    for relationship in mapper.relationships:
        attribute = getattr(model, relationship.key).impl
        if attribute.callable_ is not None:
            attribute.callable_ = _guard(attribute.callable_, model.__name__, relationship.key)
