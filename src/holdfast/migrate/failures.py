"""The driver's exceptions, during a migration, as Holdfast's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.store.failures import translate


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn what the driver raises inside into the Holdfast error that says what to do."""
    try:
        yield
    except Exception as error:
        meaning = translate(error, place)
        if meaning is None or meaning is error:
            raise
        raise meaning from error
