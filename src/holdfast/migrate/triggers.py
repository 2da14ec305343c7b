"""The triggers that policies ask for: capture, and the refusals of append-only tables."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast import journal
from holdfast.model import Model
from holdfast.store import append_only


async def install(connection: AsyncConnection, models: Sequence[type[Model]]) -> None:
    """Make what is missing or outdated, in the connection's transaction.

    Raises:
        JournalError: as `journal.install` says.
    """
    await journal.install(connection, models)
    await append_only.install(connection, models)


async def verify(connection: AsyncConnection, models: Sequence[type[Model]]) -> list[str]:
    """What is missing, disabled or outdated, a sentence each; empty when everything is there."""
    return [*await journal.verify(connection, models), *await append_only.verify(connection, models)]
