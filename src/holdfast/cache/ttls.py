"""How long values of declared keys are kept where the settings say it: `marketplace.price=5s, accounts.user=1m`."""

from __future__ import annotations

from holdfast.cache.declared import Key
from holdfast.cache.durations import seconds
from holdfast.cache.options import Options
from holdfast.cache.registry import registry
from holdfast.errors import ConfigurationError
from holdfast.logs import get_logger

log = get_logger("holdfast.cache")


class Ttls:
    """The TTLs of one cache by the name of the key.

    Raises:
        ConfigurationError: the text says no such TTLs.
    """

    def __init__(self, text: str) -> None:
        self._seconds: dict[str, float] = {}
        for pair in filter(None, (part.strip() for part in text.split(","))):
            name, sign, duration = (part.strip() for part in pair.partition("="))
            if not sign or "." not in name:
                raise ConfigurationError(
                    f"{pair!r} in HOLDFAST_CACHE_TTLS is no TTL of a key; write its name and a duration:"
                    " marketplace.price=5s"
                )
            self._seconds[name] = seconds(duration, f"HOLDFAST_CACHE_TTLS: {name}", least=0.001)
        self._options: dict[str, tuple[Options, Options]] = {}

    def options_of(self, key: Key) -> Options:
        """How values of `key` are kept."""
        ttl = self._seconds.get(key.name)
        if ttl is None:
            return key.options
        said, made = self._options.get(key.name, (None, key.options))
        if said is not key.options:
            made = key.options.but(ttl=ttl)
            self._options[key.name] = (key.options, made)
        return made

    def tell_unknown(self) -> None:
        """Log the names that no module has declared so far: perhaps they are misspelt."""
        for name in self._seconds:
            if registry.named(name) is None:
                log.warning("cache_ttl_of_no_key", name=name)
