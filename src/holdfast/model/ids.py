"""UUIDv7 identifiers (RFC 9562, section 5.7): ordered by time, so indexes grow at their right edge."""

import os
import threading
import time
from uuid import UUID, SafeUUID

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM = 62  # bits
_ENTROPY = 4096  # bytes asked of the system at a time: a system call an id would cost more than the id

_new, _set = object.__new__, object.__setattr__  # a UUID's own refuses
_lock = threading.Lock()
_last = 0  # the last (milliseconds << 12 | counter) handed out by this process
_entropy = b""
_used = 0


def uuid7() -> UUID:
    """A new UUIDv7, greater than every one this process made before."""
    global _last, _entropy, _used
    now = (time.time_ns() // 1_000_000) << 12
    with _lock:
        # A clock set back, or more than 4,096 ids a millisecond, must not run backwards (RFC 9562, 6.2 method 1).
        _last = stamp = now if now > _last else _last + 1
        if _used >= len(_entropy):
            _entropy, _used = os.urandom(_ENTROPY), 0
        random = int.from_bytes(_entropy[_used : _used + 8], "big") >> (64 - _RANDOM)
        _used += 8
    return _uuid((stamp >> 12) << 80 | _VERSION | (stamp & 0xFFF) << 64 | _VARIANT | random)


def _uuid(number: int) -> UUID:
    """`UUID(int=number)` without looking at `number`, which takes most of the time of an id."""
    made = _new(UUID)
    _set(made, "int", number)
    _set(made, "is_safe", SafeUUID.unknown)
    return made


def _forget_entropy() -> None:
    """A child must not hand out what its parent will."""
    global _entropy
    _entropy = b""


os.register_at_fork(after_in_child=_forget_entropy)
