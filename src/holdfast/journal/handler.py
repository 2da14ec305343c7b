"""Handlers: functions that are called for each event or change they asked for; each is a follower of its own."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_args

import msgspec

from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.journal.changes import EVERYTHING, Batch, Change, Op
from holdfast.journal.events import Event, checked_topic, declared
from holdfast.logs import get_logger
from holdfast.model import Model
from holdfast.store import Unit

log = get_logger("holdfast.journal")

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
Subject = type[Event] | type[Model] | str

ROWS: tuple[Op, ...] = ("insert", "update", "delete")
_OPS = tuple(op for op in get_args(Op) if op != "event")
_LONGEST = 200  # characters of a name
_REMEMBERED = 4_096  # changes at most that are known to be handled while one behind them fails
_NEAR = 0.85  # how alike two topics are of which one is probably a slip of the pen


class Handler(msgspec.Struct, frozen=True, kw_only=True):
    """A function, and what it is called for.

    Attributes:
        name: its identity: how far it got is kept under it.
        function: `await function(event, …)`; behind the event what it asks for.
        topic: the topic of the events, or the table of the changes.
        event: the class of the events, where it is declared.
        model: whose changes they are; None of events.
        ops: what must have been done to a row.
        asks: the parameters behind the first, with the name of what each is annotated with.
    """

    name: str
    function: Callable[..., Awaitable[Any]]
    topic: str
    event: type[Event] | None = None
    model: type[Model] | None = None
    ops: tuple[Op, ...] = ("event",)
    asks: tuple[tuple[str, str], ...] = ()

    @property
    def follower(self) -> str:
        """What `holdfast journal` calls it."""
        return f"on:{self.name}"

    @property
    def transactional(self) -> bool:
        """Whether its writes and its position commit together: it asks for the unit."""
        return any(kind == "Unit" for _, kind in self.asks)

    @classmethod
    def checked(
        cls,
        function: Callable[..., Awaitable[Any]],
        subject: Subject,
        *,
        op: Op | Iterable[Op] | None = None,
        name: str | None = None,
    ) -> Handler:
        """A handler of these.

        Raises:
            ConfigurationError: one of them cannot be; the message says which.
        """
        name = getattr(function, "__name__", "") if name is None else name
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST or not name.isprintable():
            raise ConfigurationError(f"{name!r} is no name for a handler: 1 to {_LONGEST} visible characters")
        if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", 0))):  # noqa: B004
            raise ConfigurationError(
                f"the handler {name!r} must be written `async def {name}(event)`, not {function!r}"
            )
        event, model, topic = _subject(name, subject)
        ops: tuple[Op, ...] = ("event",)
        if model is not None:
            ops = _ops(name, op)
        elif op is not None:
            raise ConfigurationError(f"the handler {name!r} is for events, which have no op; leave op={op!r} out")
        asks = _asks(name, function)
        return cls(name=name, function=function, topic=topic, event=event, model=model, ops=ops, asks=asks)

    def wants(self, change: Change) -> bool:
        """Whether it is to be called for `change`."""
        return change.op in self.ops and change.table in (self.topic, EVERYTHING)

    async def call(self, change: Change, given: Mapping[str, Any]) -> None:
        """Call the function."""
        event = change if self.event is None else self.event.of(change)
        known = {**given, "Change": change}
        await self.function(event, **{name: known[kind] for name, kind in self.asks})


class Registered:
    """Handlers by name."""

    def __init__(self) -> None:
        self._known: dict[str, Handler] = {}

    def add(self, handler: Handler) -> None:
        """Keep one more. ConfigurationError: the name is another's."""
        known = self._known.get(handler.name)
        if known is not None and place_of(known.function) != place_of(handler.function):
            raise ConfigurationError(
                f"there is a handler {handler.name!r} already ({'.'.join(place_of(known.function))}); give one of them"
                " another name: name='…'"
            )
        self._known[handler.name] = handler

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._known.values())


registered = Registered()
"""What `on` declared in the modules that are imported."""


def on(subject: Subject, *, op: Op | Iterable[Op] | None = None, name: str | None = None) -> Callable[[F], F]:
    """Have an async function called for each event, or each change of a model's rows, by whatever process follows.

    Args:
        subject: a declared event, a model, or the topic of events that nothing declares.
        op: of a model: "insert", "update", "delete" (these three by default), "retired", "reset"; one or several.
        name: the function's unless given. It is the handler's identity: how far it got is kept under it.

    The function takes the event (of a topic that nothing declares, and of a model, the `Change`), and by their
    annotations what else it asks for: `unit: Unit`, whose writes and the handler's position commit together;
    `change: Change`, with tenant, actor and number; `hold: Holdfast`.

    Raises:
        ConfigurationError: an argument or the function cannot be, or the name is taken.

    Example::

        @on(PriceMoved)
        async def warn(event: PriceMoved, hold: Holdfast) -> None: ...
    """

    def register(function: F) -> F:
        registered.add(Handler.checked(function, subject, op=op, name=name))
        return function

    return register


class Running:
    """A handler in this process: hands it one change at a time.

    Args:
        given: what functions may ask for, by the name of its type.
    """

    def __init__(self, handler: Handler, given: Mapping[str, Any]) -> None:
        self.handler = handler
        self._given = given
        self._done: set[tuple[int, int, int]] = set()

    async def __call__(self, batch: Batch, unit: Unit | None = None) -> None:
        """Handle a batch; when one change fails, those before it are not handled again with the next attempt."""
        handler, done = self.handler, self._done
        begun = [(batch.position.epoch, change.tick, change.seq) for change in batch.changes]
        for mine, change in zip(begun, batch.changes, strict=True):
            if mine in done:
                continue
            if handler.wants(change):
                await handler.call(change, {**self._given, "Unit": unit})
            elif change.op == "reset":
                # What it was to be called for in between, nobody knows.
                log.warning("handler_missed_changes", handler=handler.name, table=change.table)
            if unit is None:  # what was written through a unit that fails, was not
                if len(done) >= _REMEMBERED:
                    done.clear()
                done.add(mine)
        done.difference_update(begun)


def _subject(name: str, subject: Subject) -> tuple[type[Event] | None, type[Model] | None, str]:
    if isinstance(subject, type) and issubclass(subject, Event) and subject is not Event:
        return subject, None, subject.topic
    if isinstance(subject, type) and issubclass(subject, Model) and hasattr(subject, "__tablename__"):
        if not subject.__policy__.capture:
            raise ConfigurationError(
                f"the handler {name!r} would never be called: {subject.__name__} has Policy(capture=False)"
            )
        return None, subject, subject.__tablename__
    if not isinstance(subject, str):
        raise ConfigurationError(f"the handler {name!r} is for a declared event, a model or a topic, not {subject!r}")
    try:
        topic = checked_topic(subject)
    except InvalidValue as error:
        raise ConfigurationError(f"the handler {name!r}: {error}") from None
    event = declared.get(topic)
    if event is None and (near := difflib.get_close_matches(topic, declared.topics(), 1, _NEAR)):
        raise ConfigurationError(
            f"the handler {name!r} is for the topic {topic!r}, which nothing declares; {near[0]!r} is declared. If both"
            " are meant, declare the other one too"
        )
    return event, None, topic


def _ops(name: str, op: Op | Iterable[Op] | None) -> tuple[Op, ...]:
    if op is None:
        return ROWS
    ops: tuple[Any, ...] = (op,) if isinstance(op, str) else tuple(op)
    wrong = [one for one in ops if one not in _OPS]
    if wrong or not ops:
        raise ConfigurationError(
            f"op of the handler {name!r} is of {', '.join(_OPS)}, not {wrong[0] if wrong else ops!r}"
        )
    return ops


def _asks(name: str, function: Callable[..., Any]) -> tuple[tuple[str, str], ...]:
    parameters = list(inspect.signature(function).parameters.values())
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not parameters or parameters[0].kind not in kinds:
        raise ConfigurationError(f"the handler {name!r} must take the event: `async def {name}(event)`")
    asks = []
    for parameter in parameters[1:]:
        kind = parameter.annotation
        kind = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
        kind = kind.rpartition(".")[2]
        if kind in _GIVEN:
            asks.append((parameter.name, kind))
        elif parameter.default is inspect.Parameter.empty or parameter.kind in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        ):
            raise ConfigurationError(
                f"the handler {name!r} has a parameter {parameter.name!r}; behind the event it may take unit: Unit,"
                " change: Change and hold: Holdfast, by these annotations"
            )
    return tuple(asks)


_GIVEN = ("Unit", "Change", "Holdfast")


def place_of(function: Callable[..., Any]) -> tuple[str, str]:
    """Where a function is written; a module that is imported anew declares the same one."""
    return getattr(function, "__module__", ""), getattr(function, "__qualname__", type(function).__qualname__)
