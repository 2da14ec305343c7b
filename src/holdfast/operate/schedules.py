"""What is to be done again and again: schedules, declared in code."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from holdfast.errors import ConfigurationError
from holdfast.journal.handler import place_of
from holdfast.model import Model
from holdfast.operate.rhythm import CATCH_UP, CatchUp, Rhythm
from holdfast.store import Tenant

if TYPE_CHECKING:
    from holdfast.operate.schedule_runs import Run

Work = Callable[[Any, "Run"], Awaitable[None]]
"""`await work(hold, run)`; what it raises is a failure."""
W = TypeVar("W", bound=Work)

_LONGEST = 200  # characters of a name


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """One of them.

    Attributes:
        catch_up: what becomes of turns that came while nothing ran them; see `rhythm.turn`.
        timeout: seconds that a run may take; None for as long as it needs.
        attempts: how often a turn is tried before the next one has its place.
        tenant: of the units that a run opens with `run.unit()`.
        models: that a data layer must keep to have this done.
    """

    name: str
    rhythm: Rhythm
    work: Work
    catch_up: CatchUp = "once"
    timeout: float | None = None
    attempts: int = 5
    tenant: Tenant = None
    models: tuple[type[Model], ...] = ()

    @classmethod
    def checked(
        cls,
        name: str,
        work: Work,
        *,
        cron: str | None = None,
        every: float | None = None,
        catch_up: CatchUp = "once",
        timeout: float | None = None,
        attempts: int = 5,
        tenant: Tenant = None,
        models: Iterable[type[Model]] = (),
    ) -> Schedule:
        """A schedule of these.

        Raises:
            ConfigurationError: one of them cannot be; the message says which.
        """
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST or not name.isprintable() or name != name.strip():
            raise ConfigurationError(f"{name!r} is no name for a schedule: 1 to {_LONGEST} visible characters")
        if not (inspect.iscoroutinefunction(work) or inspect.iscoroutinefunction(getattr(work, "__call__", None))):  # noqa: B004
            raise ConfigurationError(f"the work of {name!r} must be written `async def work(hold, run)`, not {work!r}")
        if catch_up not in CATCH_UP:
            raise ConfigurationError(f"catch_up of {name!r} is {' or '.join(map(repr, CATCH_UP))}, not {catch_up!r}")
        if timeout is not None and not timeout > 0:
            raise ConfigurationError(f"the timeout of {name!r} must be more than 0 seconds, not {timeout!r}")
        if attempts < 1:
            raise ConfigurationError(f"the attempts of {name!r} must be at least 1, not {attempts!r}")
        return cls(
            name=name,
            rhythm=Rhythm.of(cron, every),
            work=work,
            catch_up=catch_up,
            timeout=timeout,
            attempts=attempts,
            tenant=tenant,
            models=tuple(models),
        )


class Schedules:
    """Schedules by name."""

    def __init__(self, known: Iterable[Schedule] = ()) -> None:
        self._known = {schedule.name: schedule for schedule in known}

    def add(self, schedule: Schedule) -> None:
        """Keep one more. ConfigurationError: the name is another's."""
        known = self._known.get(schedule.name)
        if known is not None and place_of(known.work) != place_of(schedule.work):
            raise ConfigurationError(
                f"there is a schedule {schedule.name!r} already ({'.'.join(place_of(known.work))}); give one of them"
                " another name"
            )
        self._known[schedule.name] = schedule

    def get(self, name: str) -> Schedule | None:
        """The schedule with this name."""
        return self._known.get(name)

    def __iter__(self) -> Iterator[Schedule]:
        return iter(self._known.values())

    def __len__(self) -> int:
        return len(self._known)


registered = Schedules()
"""What `scheduled` declared in the modules that are imported."""


def scheduled(
    cron: str | None = None,
    *,
    every: float | None = None,
    name: str | None = None,
    catch_up: CatchUp = "once",
    timeout: float | None = None,
    attempts: int = 5,
    tenant: Tenant = None,
    models: Iterable[type[Model]] = (),
) -> Callable[[W], W]:
    """Have `work(hold, run)` done on a schedule by whatever worker imports its module; UTC.

    Args:
        cron: minute, hour, day, month, weekday; six fields begin with the second.
        every: seconds, in place of `cron`; counted from 1970, so every=3600 means each full hour.
        name: the function's unless given. It is the schedule's identity: its state and history go by it.
        catch_up: for turns that nothing ran: "once" runs one for all of them, "all" each, oldest first, "skip" none.
        timeout: seconds that a run may take.
        attempts: how often a turn that fails is tried, with growing pauses, before the next one has its place.
        tenant: of the units that `run.unit()` opens.
        models: what it is about; a data layer that does not keep all of these leaves it alone.

    Raises:
        ConfigurationError: an argument cannot be, or the name is taken.

    Example::

        @scheduled("0 2 * * *")
        async def forget_drafts(hold: Holdfast, run: Run) -> None:
            async with run.unit() as unit:
                await unit.execute("DELETE FROM drafts WHERE …")
    """

    def register(work: W) -> W:
        called = name if name is not None else getattr(work, "__name__", "")
        registered.add(
            Schedule.checked(
                called,
                work,
                cron=cron,
                every=every,
                catch_up=catch_up,
                timeout=timeout,
                attempts=attempts,
                tenant=tenant,
                models=models,
            )
        )
        return work

    return register
