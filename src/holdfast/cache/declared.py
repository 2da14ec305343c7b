"""Keys that are declared once, with how their values are kept."""

from __future__ import annotations

import inspect
import string
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from holdfast.cache.keys import shortened
from holdfast.cache.options import TIERS, Options, chosen
from holdfast.cache.registry import registry
from holdfast.cache.templates import compiled
from holdfast.cache.wire import codec_of
from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.journal.templates import tag_part


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


def _is_plain(kind: Any) -> bool:
    """Whether values of this type come back as they were though nobody says the type."""
    if get_origin(kind) in (dict, list, Union, UnionType):
        return all(map(_is_plain, get_args(kind)))
    return kind in (Any, None, NoneType, bool, int, float, str, bytes, dict, list)
