"""A relationship that was not loaded is an error that says what to include, never a hidden query."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import LoaderCallableStatus, Mapper, PassiveFlag, RelationshipProperty
from sqlalchemy.util.concurrency import in_greenlet

from holdfast.errors import LazyLoad
from holdfast.model import Model


@event.listens_for(Model, "mapper_configured", propagate=True)
def _guard(mapper: Mapper[Any], model: type[Any]) -> None:
    for relationship in mapper.relationships:
        attribute = getattr(model, relationship.key).impl
        if attribute.callable_ is not None:
            attribute.callable_ = _guard_relationship(attribute.callable_, model.__name__, relationship.key)
    manager: Any = mapper.class_manager
    manager.expired_attribute_loader = _guard_columns(manager.expired_attribute_loader, model.__name__)


def _guard_relationship(load: Callable[..., Any], model: str, name: str) -> Callable[..., Any]:
    def guarded(state: Any, passive: PassiveFlag, *args: Any, **options: Any) -> Any:
        # Inside a greenlet the session itself is at work (flush, cascade, run_sync), and may wait for the database.
        if not passive & PassiveFlag.SQL_OK or state.key is None or in_greenlet():
            return load(state, passive, *args, **options)
        if state.session is not None:
            # What the session holds costs nothing.
            known = load(state, passive & ~PassiveFlag.SQL_OK, *args, **options)
            if known is not LoaderCallableStatus.PASSIVE_NO_RESULT:
                return known
        path = ".".join((*_steps(state.load_path), name))
        raise LazyLoad(f"{model}.{name} was not loaded; ask for it: .include({path!r}) or get(…, include=({path!r},))")

    return guarded


def _guard_columns(load: Callable[..., Any], model: str) -> Callable[..., Any]:
    def guarded(state: Any, names: set[str], passive: PassiveFlag) -> Any:
        if in_greenlet() or not passive & PassiveFlag.SQL_OK:
            return load(state, names, passive)
        raise LazyLoad(
            f"{model}.{', '.join(sorted(names))} may have changed in the database, for a savepoint was undone or a"
            f" statement wrote the row; read it again: await unit[{model}].get(…)"
        )

    return guarded


def _steps(path: Any) -> list[str]:
    """The relationships by which a row was loaded, from the model that was asked for."""
    return [step.key for step in path.path if isinstance(step, RelationshipProperty)]
