"""Events that are declared: what happened, with fields, and the tags that follow from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self, dataclass_transform

import msgspec

from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.journal.changes import EVERYTHING, Change
from holdfast.journal.templates import renderer, template_fields

LONGEST = 200  # characters of a topic
LARGEST = 65_536  # bytes of an event's data: what is larger belongs into a row
DEEPEST = 32  # levels of what is in it

_RESERVED = {"topic", "described", "of"}

_Renderer = Callable[[Mapping[str, Any]], str | None]
_encode = msgspec.json.Encoder(decimal_format="string", uuid_format="canonical").encode
_REFUSALS = (TypeError, ValueError, OverflowError, RecursionError)


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Event:
    """The base of declared events: a subclass names its fields, as a frozen dataclass does.

    Args (in the line of the class):
        topic: what happened, as the journal has it; the event's identity, so that the class may be renamed.
        tags: templates of the fields, such as `"user:{user_id}"`: what the event ends in the cache. One in which a
            field is None is left out.
        key: a template too: events with one key are handled in their order, and wait for one of them that is parked.

    Raises:
        ConfigurationError: in the line of the class: the topic is another's, a template names no field, or a field's
            type cannot be written as JSON.

    Example::

        class PriceMoved(Event, topic="price_moved", tags=("price:{symbol}",), key="{symbol}"):
            symbol: str
            price: Decimal


        await unit.emit(PriceMoved(symbol="SOL", price=Decimal("170.5")))
    """

    topic: ClassVar[str]
    _tags: ClassVar[tuple[_Renderer, ...]]
    _keys: ClassVar[tuple[_Renderer, ...]]  # of the key: one, or none
    _decoder: ClassVar[msgspec.json.Decoder[Any]]

    def __init_subclass__(
        cls, *, topic: str = "", tags: Iterable[str] = (), key: str | None = None, **given: Any
    ) -> None:
        super().__init_subclass__(**given)
        if not topic:
            raise ConfigurationError(f"{cls.__name__} says no topic; write class {cls.__name__}(Event, topic='…')")
        if isinstance(tags, str):
            raise ConfigurationError(f"{cls.__name__}: tags={tags!r} takes several templates; write ({tags!r},)")
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        try:
            cls.topic = checked_topic(topic)
        except InvalidValue as error:
            raise ConfigurationError(f"{cls.__name__}: {error}") from None
        names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if taken := names & _RESERVED:
            raise ConfigurationError(
                f"{cls.__name__}: no field may be called {taken.pop()!r}; events have one themselves"
            )
        cls._tags = tuple(_renderer(cls, template, names) for template in dict.fromkeys(tags))
        cls._keys = () if key is None else (_renderer(cls, key, names),)
        try:
            msgspec.json.schema(cls)  # which refuses types that are only known at run time
            cls._decoder = msgspec.json.Decoder(cls)
        except (TypeError, NameError) as error:
            raise ConfigurationError(f"{cls.__name__}: its fields cannot be written as JSON: {error}") from None
        declared.add(cls)

    def described(self) -> Described:
        """What the journal is to have of this event.

        Raises:
            InvalidValue: a field has not the type it is declared with, or the data are too large or too deep.
        """
        what = type(self).__name__
        try:
            data = _encode(self)
            back = self._decoder.decode(data)
        except _REFUSALS as error:
            raise InvalidValue(f"{what} cannot be an event: {error}") from None
        if back != self:
            raise InvalidValue(f"{what} cannot be an event: {self!r} would come back as {back!r}")
        fields = vars(self)
        tags = [tag for render in self._tags if (tag := render(fields)) is not None]
        key = next((render(fields) for render in self._keys), None)
        return Described(self.topic, tags, checked_data(self.topic, data), key)

    @classmethod
    def of(cls, change: Change) -> Self:
        """The event that a change of the journal is.

        Raises:
            InvalidValue: its data are not those of this class.
        """
        try:
            return cls._decoder.decode(msgspec.json.encode((change.new or {}).get("data")))  # type: ignore[no-any-return]
        except msgspec.ValidationError as error:
            raise InvalidValue(
                f"the event {change.seq} in the journal is no {cls.__name__}: {error}; a field that is added needs a"
                " default"
            ) from None


class Described(msgspec.Struct, frozen=True):
    """An event as the journal has it; `data` is JSON."""

    topic: str
    tags: list[str]
    data: msgspec.Raw
    key: str | None = None


class Declared:
    """The events that are declared in the modules that are imported, by topic."""

    def __init__(self) -> None:
        self._known: dict[str, type[Event]] = {}

    def add(self, event: type[Event]) -> None:
        """Know one more. ConfigurationError: the topic is another class'."""
        known = self._known.get(event.topic)
        if known is not None and _place(known) != _place(event) and "<locals>" not in known.__qualname__:
            raise ConfigurationError(
                f"the topic {event.topic!r} is that of {'.'.join(_place(known))}; give {event.__name__} another one"
            )
        self._known[event.topic] = event

    def get(self, topic: str) -> type[Event] | None:
        """The class of the events of this topic."""
        return self._known.get(topic)

    def topics(self) -> list[str]:
        """All topics, in the order of their names."""
        return sorted(self._known)


declared = Declared()


def checked_topic(topic: object) -> str:
    """The topic.

    Raises:
        InvalidValue: it is none.
    """
    if not isinstance(topic, str) or not 0 < len(topic) <= LONGEST or not topic.isprintable() or topic == EVERYTHING:
        raise InvalidValue(
            f"an event's topic must be a word of yours, 1 to {LONGEST} characters that can be seen, not {topic!r}"
        )
    return topic


def checked_data(topic: str, data: bytes) -> msgspec.Raw:
    """The data of an event, as JSON.

    Raises:
        InvalidValue: they are too large or too deep.
    """
    if len(data) > LARGEST:
        raise InvalidValue(
            f"the data of the event {topic!r} have {len(data):,} bytes, and may have {LARGEST:,}; write a row, and let"
            " the event name it"
        )
    if _is_deeper(msgspec.json.decode(data), DEEPEST):
        raise InvalidValue(
            f"the data of the event {topic!r} are nested deeper than {DEEPEST} levels; make them flatter"
        )
    return msgspec.Raw(data)


def plain(topic: str, tags: Iterable[str], data: Any) -> Described:
    """An event that nothing declares. InvalidValue: it cannot be one."""
    try:
        written = msgspec.json.encode(data)
    except _REFUSALS as error:
        raise InvalidValue(f"the data of the event {topic!r} cannot be written as JSON: {error}") from None
    return Described(checked_topic(topic), list(tags), checked_data(topic, written))


def _renderer(event: type[Event], template: str, names: set[str]) -> _Renderer:
    try:
        missing = [name for name in template_fields(template) if name not in names]
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{event.__name__}: {template!r} is no template of fields: {error}") from None
    if missing:
        raise ConfigurationError(
            f"{event.__name__}: {template!r} names {missing[0]!r}, which is no field; there are"
            f" {', '.join(sorted(names)) or 'none'}"
        )
    return renderer(template)


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inside = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(one, levels - 1) for one in inside)


def _place(event: type[Event]) -> tuple[str, str]:
    """Where a class is written; a module that is imported anew declares the same one."""
    return event.__module__, event.__qualname__
