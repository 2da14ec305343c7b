"""Seeds: data that a database begins with, declared in code, planted in order, and harmless to plant again."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import msgspec

from holdfast.errors import ConfigurationError
from holdfast.migrate.planting import Planted, plant
from holdfast.model import Model
from holdfast.store import ALL, Store, Unit

Environment = Literal["development", "test", "production"]


class Sowing:
    """What a seed is given.

    Attributes:
        unit: all that one seed plants is committed together; it works across tenants.
        rows: how many rows were asked for, None where nobody said.
        planted: what was planted so far.
    """

    def __init__(self, unit: Unit, rows: int | None, told: Callable[[int], None] | None = None) -> None:
        self.unit = unit
        self.rows = rows
        self.planted = Planted(rows=[])
        self._told = told

    async def plant(self, model: type[Model], rows: Iterable[Mapping[str, Any]], *, on: Sequence[str]) -> Planted:
        """Have these rows be in the table; see `holdfast.migrate.plant`."""
        done = await plant(self.unit, model, rows, on=on, told=self._told)
        self.planted.inserted += done.inserted
        self.planted.updated += done.updated
        self.planted.unchanged += done.unchanged
        return done


Work = Callable[[Sowing], Awaitable[None]]
W = TypeVar("W", bound=Work)


@dataclass(frozen=True, kw_only=True)
class Seed:
    """One declared seed.

    Attributes:
        after: the names of those that are planted before it.
    """

    name: str
    title: str
    work: Work
    environments: tuple[Environment, ...]
    after: tuple[str, ...]


class Sown(msgspec.Struct, frozen=True, kw_only=True):
    """What one seed did, and how long it took in seconds."""

    name: str
    inserted: int
    updated: int
    unchanged: int
    seconds: float


registered: list[Seed] = []


def seed(
    *,
    name: str | None = None,
    environments: Sequence[Environment] = ("development", "test"),
    after: Sequence[str | Work] = (),
) -> Callable[[W], W]:
    """Declare a seed: an async function that is given a `Sowing`.

    Args:
        name: the function's name, with `-` for `_`, unless given.
        environments: where it is planted. Demo data is not for production; reference data may say so.
        after: seeds, or their names, that are to be there before.

    Raises:
        ConfigurationError: an environment that is none, or the function is not async.

    Example::

        @seed(environments=("development", "test", "production"))
        async def currencies(sowing: Sowing) -> None:
            await sowing.plant(Currency, [{"code": "EUR", "digits": 2}], on=("code",))
    """

    def declare(work: W) -> W:
        called = name or work.__name__.replace("_", "-")
        unknown = [one for one in environments if one not in get_args(Environment)]
        if isinstance(environments, str) or unknown:
            raise ConfigurationError(
                f"the seed {called!r} is for {environments!r}; environments are a tuple of {get_args(Environment)}"
            )
        given: object = work
        if not inspect.iscoroutinefunction(given):
            raise ConfigurationError(f"the seed {called!r} must be an async function of one argument, a Sowing")
        before = tuple(one if isinstance(one, str) else one.__name__.replace("_", "-") for one in after)
        title = inspect.cleandoc(work.__doc__ or "").partition("\n")[0]
        registered.append(Seed(name=called, title=title, work=work, environments=tuple(environments), after=before))
        return work

    return declare


def seeds_of(modules: str, models: str) -> list[Seed]:
    """The seeds of the named modules; without any, of a module `seeds` in or beside each module of models.

    Raises:
        ConfigurationError: a module cannot be imported, or two seeds have one name.
    """
    named = [part.strip() for part in modules.split(",") if part.strip()]
    if not named:
        of_models = [part.strip() for part in models.split(",") if part.strip()]
        beside = (f"{name.rpartition('.')[0]}.seeds".lstrip(".") for name in of_models)
        tried = dict.fromkeys([*of_models, *(f"{name}.seeds" for name in of_models), *beside])
        named = [name for name in tried if _exists(name)]
    for name in named:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigurationError(
                f"the seeds are to be in {name!r} (HOLDFAST_SEEDS, else HOLDFAST_MODELS), which cannot be imported:"
                f" {error}"
            ) from error
    found: dict[str, Seed] = {}
    for one in registered:
        if one.work.__module__ not in named:
            continue
        if one.name in found:
            raise ConfigurationError(
                f"two seeds are called {one.name!r}, in {found[one.name].work.__module__} and {one.work.__module__};"
                " give one another name"
            )
        found[one.name] = one
    return list(found.values())


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def in_order(seeds: Sequence[Seed], environment: Environment, names: Sequence[str] = ()) -> list[Seed]:
    """What is to be planted there, each after those that it needs: `names` and what they need, else all that may be.

    Raises:
        ConfigurationError: a name is unknown, a seed is not for this environment, or seeds wait for each other.
    """
    known = {one.name: one for one in seeds}
    chosen = list(names) or [one.name for one in seeds if environment in one.environments]
    line: list[Seed] = []
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " → ".join((*path[path.index(name) :], name))
            raise ConfigurationError(f"seeds wait for each other: {circle}; take one `after` away")
        if name not in known:
            needed = f", which {path[-1]!r} comes after" if path else ""
            raise ConfigurationError(
                f"there is no seed {name!r}{needed}; there are {', '.join(sorted(known)) or 'none'}"
            )
        one = known[name]
        if environment not in one.environments:
            needed = f", and {path[-1]!r} needs it" if path else ""
            raise ConfigurationError(
                f"the seed {name!r} is for {' and '.join(one.environments)}, and this is {environment}{needed};"
                " nothing was planted"
            )
        if name in done:
            return
        for before in one.after:
            visit(before, (*path, name))
        done.add(name)
        line.append(one)

    for name in chosen:
        visit(name, ())
    return line


async def sow(
    store: Store,
    seeds: Sequence[Seed],
    *,
    rows: int | None = None,
    began: Callable[[Seed], None] | None = None,
    told: Callable[[int], None] | None = None,
) -> list[Sown]:
    """Plant seeds in the order given, each in a unit of its own.

    Args:
        rows: how many rows a seed that can make any number is to make.
        began: called before each seed. told: called with the number of rows done since it was last called.
    """
    sown: list[Sown] = []
    for one in seeds:
        if began is not None:
            began(one)
        start = time.monotonic()
        async with store.unit(actor=f"seed:{one.name}", tenant=ALL) as unit:
            sowing = Sowing(unit, rows, told)
            await one.work(sowing)
        done = sowing.planted
        sown.append(
            Sown(
                name=one.name,
                inserted=done.inserted,
                updated=done.updated,
                unchanged=done.unchanged,
                seconds=round(time.monotonic() - start, 3),
            )
        )
    return sown
