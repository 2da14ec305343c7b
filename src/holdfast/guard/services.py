"""Services that sign their calls: who has shown that it is one of ours passes without a limit.

A call carries `Holdfast-Signature: v1.KEY.SECONDS.NONCE.SIGNATURE`. The signature is HMAC-SHA256, in hex, of
`v1|METHOD|path?query|sha256 of the body in hex|SECONDS|NONCE|KEY`; only the path may have a | in it, so that no two
calls are written alike. A nonce is used once: it is noted only after the signature was found to be right, so that
nobody without a key can fill what notes them, or use up a nonce of somebody else.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from holdfast.errors import ConfigurationError, HoldfastError, InvalidValue, Unavailable
from holdfast.store.redis import Away, Redis

SIGNATURE = "Holdfast-Signature"
"""The header that carries it."""

_VERSION = "v1"
_SHORTEST = 32  # characters of a secret
_LONGEST_TARGET = 8_192  # characters of path and query
_LARGEST_BODY = 16 * 1024 * 1024
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_METHOD = re.compile(r"[A-Z]{1,16}")
_HEADER = re.compile(r"v1\.([A-Za-z0-9_-]{1,64})\.([0-9]{1,12})\.([A-Za-z0-9_-]{16,64})\.([0-9a-f]{64})")
_NOBODY = secrets.token_bytes(32)  # signs for keys that there are not, so that these take as long
_REMEMBERED = 100_000  # nonces, where there is no Redis


class ServiceRefused(HoldfastError):
    """A call is not signed by one of the services, or was made before."""


def sign(
    method: str,
    target: str,
    body: bytes = b"",
    *,
    key: str,
    secret: str,
    now: float | None = None,
) -> str:
    """The value of the header `Holdfast-Signature` for one call, for whoever makes it.

    Args:
        target: path and query as they are sent: `/v1/prices?symbol=SOL`.
        body: as it is sent.
        key: the name of the secret, as `HOLDFAST_SERVICE_KEYS` of the other side has it.
        now: seconds since 1970; the time unless given.

    Raises:
        InvalidValue: one of them cannot be signed; it is never shown.
    """
    stamp = str(int(time.time() if now is None else now))
    nonce = secrets.token_urlsafe(18)
    if not _KEY.fullmatch(key):
        raise InvalidValue("a key's name has up to 64 letters, digits, _ and -")
    if len(secret) < _SHORTEST:
        raise InvalidValue(f"the secret of a service has {_SHORTEST} characters or more")
    if (problem := _unfit(method.upper(), target, body)) is not None:
        raise InvalidValue(problem)
    text = _signed_text(method.upper(), target, body, stamp, nonce, key)
    return f"{_VERSION}.{key}.{stamp}.{nonce}.{_signature(secret.encode(), text)}"


class Services:
    """The services that may pass, and the nonces that were used.

    Args:
        keys: `id:secret,id:secret` as in `HOLDFAST_SERVICE_KEYS`; a service that changes its secret has two meanwhile.
        redis: where all processes note the nonces; None: this process does, and another one would take them again.
        prefix: what names in Redis begin with.
        tolerance: seconds that the clocks of the two sides may differ.
        clock: seconds since 1970.

    Raises:
        ConfigurationError: a key is malformed, said twice, or its secret has fewer than 32 characters.
    """

    def __init__(
        self,
        keys: str | None = None,
        *,
        redis: Redis | None = None,
        prefix: str = "holdfast",
        tolerance: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secrets = _secrets_of(keys or "")
        self._redis = redis
        self._prefix = prefix
        self._tolerance = tolerance
        self._clock = clock
        self._used: OrderedDict[str, float] = OrderedDict()  # what a nonce is noted as, and when it may be forgotten

    def __repr__(self) -> str:
        return f"<Services {', '.join(self._secrets)}>"

    async def verify(self, signature: str | None, method: str, target: str, body: bytes = b"") -> str:
        """The name of the key that signed this call.

        Args:
            signature: the header's value; None where there is no such header.
            target: path and query as they came, not decoded.
            body: as it came.

        Raises:
            ServiceRefused: it is malformed, of no key that is known, wrong, too old or too new, or was used before.
            Unavailable: Redis is away, and whether it was used before is not known.
        """
        found = _HEADER.fullmatch(signature) if signature is not None and len(signature) <= 256 else None
        if found is None:
            raise ServiceRefused(
                f"the header {SIGNATURE} is missing or malformed; it is made by holdfast.guard.services.sign"
            )
        if (problem := _unfit(method, target, body)) is not None:
            raise ServiceRefused(problem)
        key, stamp, nonce, given = found.groups()
        secret = self._secrets.get(key)
        text = _signed_text(method, target, body, stamp, nonce, key)
        is_right = hmac.compare_digest(_signature(secret or _NOBODY, text), given)
        if secret is None or not is_right:
            raise ServiceRefused(f"the signature of {key!r} is wrong for this call, or there is no such key")
        now = self._clock()
        if abs(now - int(stamp)) > self._tolerance:
            raise ServiceRefused(
                f"the signature of {key!r} is of {int(stamp) - now:+.0f} s from now, and clocks may differ by"
                f" {self._tolerance:g} s"
            )
        if not await self._note(key, nonce):
            raise ServiceRefused(f"this signature of {key!r} was used before; each call is signed anew")
        return key

    async def _note(self, key: str, nonce: str) -> bool:
        """Whether a nonce is used for the first time."""
        name = f"{self._prefix}:nonce:{hashlib.sha256(f'{key}.{nonce}'.encode()).hexdigest()[:40]}"
        # From the first moment that a clock would take it to the last, and as much again for those of other processes.
        lives = 3 * self._tolerance + 1
        if self._redis is None:
            return self._note_here(name, lives)
        try:
            return bool(
                await self._redis.ask(lambda client: client.set(name, "", nx=True, px=round(lives * 1e3)), name)
            )
        except Away:
            raise Unavailable("Redis does not answer, so a signed call cannot be told from a repeated one") from None

    def _note_here(self, name: str, lives: float) -> bool:
        used, now = self._used, time.monotonic()
        while used and next(iter(used.values())) <= now:
            used.popitem(last=False)
        if name in used:
            return False
        if len(used) >= _REMEMBERED:
            raise Unavailable(f"{_REMEMBERED:,} signed calls are remembered, and no more fit; use Redis")
        used[name] = now + lives
        return True


def _unfit(method: str, target: str, body: bytes) -> str | None:
    """Why a call cannot be signed."""
    if not _METHOD.fullmatch(method):
        return "the method of a signed call has up to 16 capital letters"
    if not target.startswith("/") or len(target) > _LONGEST_TARGET or not target.isprintable():
        return f"path and query of a signed call begin with / and have up to {_LONGEST_TARGET:,} printable characters"
    if len(body) > _LARGEST_BODY:
        return f"the body of a signed call has up to {_LARGEST_BODY // 2**20} MiB"
    return None


def _signed_text(method: str, target: str, body: bytes, stamp: str, nonce: str, key: str) -> bytes:
    digest = hashlib.sha256(body).hexdigest()
    return f"{_VERSION}|{method}|{target}|{digest}|{stamp}|{nonce}|{key}".encode()


def _signature(secret: bytes, text: bytes) -> str:
    return hmac.new(secret, text, hashlib.sha256).hexdigest()


def _secrets_of(text: str) -> dict[str, bytes]:
    """The secrets by key. None of them is in an error, nor what may be one."""
    found: dict[str, bytes] = {}
    for number, pair in enumerate(filter(None, (part.strip() for part in text.split(","))), 1):
        key, sign, secret = pair.partition(":")
        if not sign or not _KEY.fullmatch(key):
            raise ConfigurationError(f"entry {number} of HOLDFAST_SERVICE_KEYS is malformed; write id:secret,id:secret")
        if len(secret) < _SHORTEST or key in found:
            raise ConfigurationError(
                f"the key {key!r} of HOLDFAST_SERVICE_KEYS is there twice, or its secret has fewer than {_SHORTEST}"
                " characters; make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        found[key] = secret.encode()
    return found
