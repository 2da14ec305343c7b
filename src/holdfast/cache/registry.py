"""Keys that are declared once, and the list of everything that is kept: which key, for how long, until what changes."""

from __future__ import annotations

import inspect
import string
from collections.abc import Iterable, Iterator
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin
from weakref import WeakValueDictionary

import msgspec

from holdfast.cache.keys import shortened
from holdfast.cache.options import HOT, TIERS, WARM, Options, chosen
from holdfast.cache.templates import compiled
from holdfast.cache.wire import codec_of
from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.journal.templates import tag_part


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A key, or a cached function that says its key itself.

    Attributes:
        name: of a key as it is declared, of a function its module and name; `app` is what is before the first dot.
        template, tags: as they are declared.
        pattern: what its keys look like, for `remove_matching` and Redis' SCAN.
        ttl: seconds; `tier` is the least one that keeps values so long: hot, warm or cold.
        kind: the type of its values.
        about: what it is, in a line.
        used_by: the cached functions that keep their values there.
    """

    name: str
    app: str
    template: str
    pattern: str
    ttl: float
    tier: str
    tags: tuple[str, ...]
    kind: str
    about: str
    used_by: tuple[str, ...]


class Key:
    """A key that is declared once, with how its values are kept.

    Args:
        name: `app.key`: by it settings and lists name it.
        template: of its parts, such as `"price:{symbol}:{currency}"`; they are given by these names, or in this order.
        about: what its values are, in a line.
        kind: the type of its values; without it they are made of dicts, lists, texts, numbers and bytes.
        tags: templates of the same parts: what its values depend on.
        tier: "hot", "warm", "cold" or `Options`; `given` replaces single ones: `ttl="10s"`.

    Raises:
        ConfigurationError: one of these cannot be, or the name or the template is another key's.

    Example::

        PRICE = Key("shop.price", "shop:price:{symbol}:{currency}", ttl="10s", about="what a token costs", kind=Price)

        await hold.cache[PRICE].get_or_load(load, symbol="SOL", currency="usd")

        @cached(PRICE)
        async def price(symbol: str, currency: str) -> Price: ...
    """

    def __init__(
        self,
        name: str,
        template: str,
        *,
        about: str,
        kind: Any = Any,
        tags: Iterable[str] = (),
        tier: str | Options | None = None,
        **given: Any,
    ) -> None:
        app, dot, rest = name.partition(".") if isinstance(name, str) else ("", "", "")
        if not (dot and app.isidentifier() and rest.replace(".", "_").isidentifier()):
            raise ConfigurationError(f"{name!r} is no name of a key; write the app and the key: 'marketplace.price'")
        if not isinstance(about, str) or not about.strip() or not about.isprintable():
            raise ConfigurationError(
                f"the key {name} says nothing of its values: about={about!r} is to be a line of text"
            )
        self.name, self.app, self.template, self.about, self.kind = name, app, template, about, kind
        self.tags = checked_tags(tags)
        options = options_of(tier, given)
        self.options = options if options.counted_as else options.but(counted_as=shortened(str(template)))
        try:
            parts = _parts(template)
        except (ValueError, AttributeError, TypeError) as error:
            raise ConfigurationError(f"{name}: {template!r} is no template: {error}") from None
        either = inspect.Parameter.POSITIONAL_OR_KEYWORD
        signature = inspect.Signature([inspect.Parameter(part, either) for part in parts])
        self.parts = tuple(parts)
        self.key_of = compiled(template, signature, f"{name}: key")
        self.tags_of = tuple(compiled(tag, signature, f"{name}: tag", tag_part) for tag in self.tags)
        self.stored = Any if self.options.skip_l2 else kind  # what stays in this process needs no type
        try:
            codec_of(self.stored)
        except InvalidValue as error:
            raise ConfigurationError(f"{name}: {error}") from None
        registry.add(self)

    def __repr__(self) -> str:
        return f"<Key {self.name} {self.template}>"

    def takes(self, kind: Any) -> bool:
        """Whether values of this type can be its."""
        return kind in (Any, self.kind) or (self.kind is Any and _is_plain(kind))

    def is_same(self, other: Key) -> bool:
        """Whether another declaration says the same."""
        return all(getattr(self, name) == getattr(other, name) for name in _SAID)


_SAID = ("name", "template", "about", "kind", "tags", "options")


class Use(msgspec.Struct, frozen=True, kw_only=True, weakref=True):
    """A function whose values are kept: under a declared key, or under its own.

    Attributes:
        is_local: whether it is made within another function, and so comes and goes.
        about: the first line of its documentation.
    """

    name: str
    template: str
    options: Options
    tags: tuple[str, ...]
    kind: Any
    about: str
    key: Key | None = None
    is_local: bool = False


class Registry:
    """The keys and cached functions of the modules that are imported."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self._uses: WeakValueDictionary[str, Use] = WeakValueDictionary()

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys.values())

    def add(self, key: Key) -> None:
        """Know a key.

        Raises:
            ConfigurationError: its name, or its template but for the names of the parts, is that of another.
        """
        for known in self._keys.values():
            if known.is_same(key):
                continue
            if known.name == key.name:
                raise ConfigurationError(
                    f"there is a key {key.name!r} already ({known.template}); give one another name"
                )
            if _shape(known.template) == _shape(key.template):
                raise _clash(key.name, key.template, known.name)
        for use in self._uses.values():
            if use.key is None and not use.is_local and _shape(use.template) == _shape(key.template):
                raise _clash(key.name, key.template, use.name)
        self._keys[key.name] = key

    def use(self, use: Use) -> None:
        """Know a function, for as long as somebody holds `use`.

        Raises:
            ConfigurationError: its keys are those of another function, or of a key that it does not name.
        """
        if not use.is_local:
            for other in list(self._uses.values()):
                if not other.is_local and other.name != use.name and _shape(other.template) == _shape(use.template):
                    raise _clash(use.name, use.template, other.name)
            for key in self._keys.values():
                if use.key is None and _shape(key.template) == _shape(use.template):
                    raise _clash(use.name, use.template, key.name)
        self._uses[use.name] = use

    def all(self) -> list[Listed]:
        """Every key and every cached function with a key of its own, by name."""
        uses = sorted(self._uses.values(), key=lambda use: use.name)
        listed = []
        for key in self._keys.values():
            by = tuple(use.name for use in uses if use.key is not None and use.key.is_same(key))
            listed.append(_listed(key, key.name, key.about, by))
        listed += [_listed(use, use.name, use.about, (use.name,)) for use in uses if use.key is None]
        return sorted(listed, key=lambda one: one.name)

    def named(self, name: str) -> Key | None:
        """The key of this name."""
        return self._keys.get(name)


def options_of(tier: str | Options | None, given: dict[str, Any]) -> Options:
    """A tier with single options replaced. ConfigurationError: there is no such tier or option."""
    if tier is None or isinstance(tier, Options):
        return chosen(tier, given)
    if not isinstance(tier, str) or tier not in TIERS:
        raise ConfigurationError(f"tier={tier!r} is none; there are {', '.join(TIERS)}, and Options")
    return chosen(TIERS[tier], given)


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The templates. ConfigurationError: they are one text."""
    if isinstance(tags, str):
        raise ConfigurationError(f"tags must be several templates, not the text {tags!r}; write ({tags!r},)")
    return tuple(tags)


def _parts(template: str) -> list[str]:
    """The names of the parts of a template, each once."""
    fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    return list(dict.fromkeys(field.partition(".")[0] for field in fields if field.partition(".")[0].isidentifier()))


def _shape(template: str) -> str:
    """A template without the names of its parts: two of one shape may make one key."""
    return "".join(f"{text}{'' if field is None else '{}'}" for text, field, _, _ in string.Formatter().parse(template))


def _pattern(template: str) -> str:
    fields = string.Formatter().parse(template)
    return "".join(f"{_literal(text)}{'' if field is None else '*'}" for text, field, _, _ in fields)


def _literal(text: str) -> str:
    return "".join(f"\\{sign}" if sign in "*?[]\\^" else sign for sign in text)


def _listed(of: Key | Use, name: str, about: str, used_by: tuple[str, ...]) -> Listed:
    ttl = of.options.ttl
    return Listed(
        name=name,
        app=name.partition(".")[0],
        template=of.template,
        pattern=_pattern(of.template),
        ttl=ttl,
        tier="hot" if ttl <= HOT.ttl else "warm" if ttl <= WARM.ttl else "cold",
        tags=of.tags,
        kind="any"
        if of.kind is Any
        else getattr(of.kind, "__name__", "")
        if isinstance(of.kind, type)
        else repr(of.kind),
        about=about,
        used_by=used_by,
    )


def _is_plain(kind: Any) -> bool:
    """Whether values of this type come back as they were though nobody says the type."""
    if get_origin(kind) in (dict, list, Union, UnionType):
        return all(map(_is_plain, get_args(kind)))
    return kind in (Any, None, NoneType, bool, int, float, str, bytes, dict, list)


def shown(kind: Any) -> str:
    """A type as it is written."""
    return "Any" if kind is Any else kind.__qualname__ if isinstance(kind, type) else repr(kind)


def _clash(name: str, template: str, other: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name}: the keys {template!r} may be those of {other} too, and each would be served the other's values; begin"
        " one of them with the name of its app, or use one declared Key for both"
    )


registry = Registry()
"""What the modules declare that are imported."""
