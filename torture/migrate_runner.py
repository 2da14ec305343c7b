"""`python -m torture.migrate_runner ORDER`: migrates as an operator would, in a process that can be killed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from holdfast.errors import HoldfastError
from holdfast.migrate import Limits, Migrations, history
from holdfast.model import models_of
from holdfast.settings import Settings
from holdfast.store import Store, search_index
from torture.migrate_models import METADATA

PLANTS: Mapping[str, str] = {
    "no-lock-timeout": "PostgreSQL: a migration waits for its locks as long as it takes",
    "empty-search": "SQLite: a search that is added to a table knows none of the rows that are there",
    "edited-file": "files that were edited after they were applied are not noticed",
}
REFUSED = 3


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a runner is told.

    Attributes:
        to: up to which revision, or down to which one; None for the newest.
        lock_timeout: seconds.
    """

    url: str
    folder: str
    direction: str
    lock_timeout: float
    to: str | None = None
    plant: str | None = None


def migrations(store: Store, folder: Path, limits: Limits) -> Migrations:
    """The run's migrations and models, and a database."""
    return Migrations(
        store, folder, metadatas=[METADATA], models=models_of(METADATA), limits=limits, before=(), wait=300
    )


async def run(order: Order) -> None:
    """Carry out `order`."""
    if order.plant == "edited-file":
        history.problems = lambda files, have: []
    if order.plant == "empty-search":
        made = search_index._creations
        search_index._creations = lambda *given: (sql for sql in made(*given) if not sql.startswith("INSERT"))
    store = Store(Settings(database_url=order.url, pool_size=2, pool_max=4))
    timeout = 60.0 if order.plant == "no-lock-timeout" else order.lock_timeout
    try:
        runner = migrations(store, Path(order.folder), Limits(lock_timeout=timeout, give_up=120))
        print("begins", flush=True)
        if order.direction == "up":
            await runner.up(to=order.to)
        else:
            await runner.down(to=order.to)
    finally:
        await store.close()


if __name__ == "__main__":
    try:
        asyncio.run(run(msgspec.json.decode(sys.argv[1], type=Order)))
    except HoldfastError as error:
        print(error, file=sys.stderr)
        sys.exit(REFUSED)
