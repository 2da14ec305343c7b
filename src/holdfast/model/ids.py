"""UUIDv7 identifiers (RFC 9562, section 5.7): ordered by time, so indexes grow at their right edge."""

import secrets
import threading
import time
from uuid import UUID

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_lock = threading.Lock()
_last = 0  # the last (milliseconds << 12 | counter) handed out by this process


def _next_stamp() -> int:
    global _last
    now = (time.time_ns() // 1_000_000) << 12
    with _lock:
        # A clock set back, or more than one id a millisecond, must not run backwards (RFC 9562, 6.2 method 1).
        _last = now if now > _last else _last + 1
        return _last


def uuid7() -> UUID:
    """A new UUIDv7, greater than every one this process made before."""
    stamp = _next_stamp()
    return UUID(int=(stamp >> 12) << 80 | _VERSION | (stamp & 0xFFF) << 64 | _VARIANT | secrets.randbits(62))
