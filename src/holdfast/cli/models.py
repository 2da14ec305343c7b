"""Which models a command is about: those of the modules that `HOLDFAST_MODELS` names."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import MetaData

    from holdfast.settings import Settings


def metadata_of(settings: Settings) -> tuple[MetaData, ...]:
    """The metadata of the models in the modules that `settings.models` names, each once.

    Raises:
        ConfigurationError: a module cannot be imported, or has no models.
    """
    from holdfast.errors import ConfigurationError

    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as a module that is run would see it
    found: dict[int, MetaData] = {}
    for name in filter(None, (part.strip() for part in settings.models.split(","))):
        metadatas = _metadatas(name)
        if not metadatas and not _has_work(name):
            raise ConfigurationError(
                f"HOLDFAST_MODELS names {name!r}, which has no models, schedules, handlers or @warms; name the module"
                " they are in"
            )
        found |= {id(metadata): metadata for metadata in metadatas}
    if not found:
        from holdfast.model import Model

        if any(filter(None, (part.strip() for part in settings.models.split(",")))):
            return (Model.metadata,)
        raise ConfigurationError("HOLDFAST_MODELS names no module; leave it out, or name one, as in myapp.models")
    return tuple(found.values())


def _has_work(name: str) -> bool:
    from holdfast.cache.warming import warm_sets
    from holdfast.journal.handler import registered as handlers
    from holdfast.operate import registered as schedules

    works: list[Any] = [schedule.work for schedule in schedules]
    works += [handler.function for handler in handlers]
    works += [one.calls for one in warm_sets()]
    return any(work.__module__ == name for work in works)


def _metadatas(name: str) -> list[MetaData]:
    from holdfast.errors import ConfigurationError
    from holdfast.model import Model

    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError(f"HOLDFAST_MODELS names {name!r}, which cannot be imported: {error}") from error
    models = (value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Model))
    return [model.metadata for model in models if "__table__" in model.__dict__]
