"""By what API keys are found: an HMAC under a secret that is kept outside the database."""

from __future__ import annotations

import base64
import hmac

from holdfast.errors import ConfigurationError
from holdfast.secrets import KEY_ID, parse_keys

PEPPERS = 4
"""Peppers that may be in use: a key that is not known is looked up under each."""

_SHORTEST = 32  # bytes
_HOW = "make one with `holdfast keys new-pepper p1`"
_DEVELOPMENT = ("development", b"holdfast: no pepper is set, which development may do")


class Peppers:
    """The secrets under which keys are hashed; the first hashes new ones.

    Attributes:
        ids: of the peppers, the first in use first.
    """

    def __init__(self, peppers: dict[str, bytes]) -> None:
        self.ids = tuple(peppers)
        self._peppers = tuple(peppers.values())
        # Begun once: `hmac.digest` begins anew each time, and lets go of the interpreter meanwhile.
        self._begun = tuple(hmac.new(pepper, digestmod="sha256") for pepper in self._peppers)

    @classmethod
    def configured(cls, text: str | None, *, production: bool) -> Peppers:
        """Those of `HOLDFAST_KEY_PEPPERS`: `id:base64,…`. In development one that is no secret, where none is set.

        Raises:
            ConfigurationError: one is malformed; or production has none. No pepper is shown.
        """
        if not text:
            if production:
                raise ConfigurationError(f"HOLDFAST_ENV is production: API keys want HOLDFAST_KEY_PEPPERS; {_HOW}")
            return cls(dict([_DEVELOPMENT]))
        peppers = parse_keys(text, "HOLDFAST_KEY_PEPPERS", length=_SHORTEST, what="pepper", how=_HOW)
        if len(peppers) > PEPPERS:
            raise ConfigurationError(
                f"HOLDFAST_KEY_PEPPERS has {len(peppers)} peppers and may have {PEPPERS}; drop those that"
                " `holdfast keys list` shows no key under"
            )
        return cls(peppers)

    def hashed(self, text: str) -> str:
        """By what a new key is found: 64 hexadecimal digits."""
        return _hashed(self._begun[0], text)

    def all_hashed(self, text: str) -> dict[str, str]:
        """By what a key may be found that is older, by the id of the pepper, the first one's first."""
        return {name: _hashed(begun, text) for name, begun in zip(self.ids, self._begun, strict=True)}

    def named(self, name: str) -> bytes:
        """The pepper of an id. KeyError: it is in use no more."""
        return dict(zip(self.ids, self._peppers, strict=True))[name]


def new_pepper(name: str) -> str:
    """A pepper, as HOLDFAST_KEY_PEPPERS takes it.

    Raises:
        ConfigurationError: the id is not 1 to 32 letters, digits, dashes and underscores.
    """
    import secrets

    if not KEY_ID.fullmatch(name):
        raise ConfigurationError(f"the id of a pepper is 1 to 32 letters, digits, - and _, not {name!r}")
    return f"{name}:{base64.b64encode(secrets.token_bytes(_SHORTEST)).decode()}"


def _hashed(begun: hmac.HMAC, text: str) -> str:
    made = begun.copy()
    made.update(text.encode())
    return made.hexdigest()
