"""The list of everything that is kept: which key, for how long, until what changes, and who uses it."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import msgspec

from holdfast.cache.options import Options, tier_of
from holdfast.errors import ConfigurationError
from holdfast.store.redis import escaped

if TYPE_CHECKING:
    from holdfast.cache.declared import Key


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


def _shape(template: str) -> str:
    """A template without the names of its parts: two of one shape may make one key."""
    return "".join(f"{text}{'' if field is None else '{}'}" for text, field, _, _ in string.Formatter().parse(template))


def _pattern(template: str) -> str:
    fields = string.Formatter().parse(template)
    return "".join(f"{escaped(text)}{'' if field is None else '*'}" for text, field, _, _ in fields)


def _listed(of: Key | Use, name: str, about: str, used_by: tuple[str, ...]) -> Listed:
    return Listed(
        name=name,
        app=name.partition(".")[0],
        template=of.template,
        pattern=_pattern(of.template),
        ttl=of.options.ttl,
        tier=tier_of(of.options),
        tags=of.tags,
        kind=shown(of.kind),
        about=about,
        used_by=used_by,
    )


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
