"""How an entry is written for other nodes: a head that decides whether it may be served, and the value.

An entry of another form, version or type of value is nobody's: it is missed, never misread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any
from zlib import crc32

import msgspec
import zstandard

from holdfast.errors import InvalidValue

VERSION = 1
_COMPRESSED_FROM = 1_024  # bytes; below, compressing saves less than it costs
_LARGEST = 64 * 2**20  # bytes of a value that is compressed: what comes from outside is bounded
_LARGEST_HEAD = 2**16 - 1  # bytes
LONGEST_BEGINNING = _LARGEST_HEAD + 2  # bytes, of an entry's head with its length
_REFUSALS = (TypeError, ValueError, OverflowError, RecursionError)


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What stands before a value.

    Attributes:
        epoch, as_of, hashes, max_staleness, cost, weight, note: as in `Entry`.
        at: when it was loaded, by the wall clock of who did; only how long it lives on depends on it.
        ttl, fail_safe, ahead: seconds: how long it may be served, how long after that as stale, how long before its
            end it is loaded anew.
        form: how the value is written: 0 as it is, 1 compressed.
    """

    epoch: int
    as_of: int
    hashes: tuple[int, ...]
    at: float
    ttl: float
    fail_safe: float
    ahead: float
    max_staleness: float
    cost: float
    weight: int
    note: Any
    form: int


class Codec:
    """Writes and reads values of one type.

    Args:
        kind: as it is annotated; `Any` for what JSON could hold too, and bytes.

    Attributes:
        version: text that another type, or another form of this one, does not have; a part of the key in Redis.

    Raises:
        InvalidValue: no value of this type can be written.
    """

    def __init__(self, kind: Any = Any) -> None:
        self.kind = kind
        self._is_any = kind is Any
        try:
            self._values = msgspec.msgpack.Decoder(kind)
            described = "" if self._is_any else _described(kind)
        except TypeError as error:
            raise InvalidValue(
                f"values of the type {kind!r} cannot be kept in Redis ({error}); return what can be written, such as"
                " dicts, lists and dataclasses, or say skip_l2=True"
            ) from None
        self.version = f"{VERSION}{crc32(described.encode()):08x}"

    def checked(self, value: Any) -> Any:
        """The value as every node gets it.

        Raises:
            InvalidValue: it would come back as something else.
        """
        try:
            back = self._values.decode(_encode(value))
        except _REFUSALS as error:
            raise InvalidValue(_told(value, str(error))) from None
        if back != value:
            raise InvalidValue(_told(value, "it would come back as something else"))
        return back

    def size(self, value: Any) -> int | None:
        """How many bytes the value takes, not compressed; None where it cannot be written."""
        try:
            return len(_encode(value))
        except _REFUSALS:
            return None

    def encode(self, head: Callable[[int], Head], value: Any) -> bytes:
        """The entry as bytes; `head` is called with the form of the value.

        Raises:
            InvalidValue: the value cannot be written.
        """
        try:
            body, form = _encode(value), 0
        except _REFUSALS as error:
            raise InvalidValue(_told(value, str(error))) from None
        if len(body) >= _COMPRESSED_FROM:
            body, form = zstandard.compress(body, 1), 1
        try:
            first = _encode(head(form))
        except _REFUSALS as error:
            raise InvalidValue(_told(value, f"its note cannot be written: {error}")) from None
        if len(first) > _LARGEST_HEAD:
            raise InvalidValue(_told(value, f"its tags and its note take {len(first):,} of {_LARGEST_HEAD:,} bytes"))
        return len(first).to_bytes(2, "big") + first + body

    def decode(self, data: bytes) -> tuple[Head, Any] | None:
        """The head and the value; None for bytes that are none of ours."""
        try:
            end = (data[0] << 8 | data[1]) + 2
            head = _heads.decode(data[2:end])
            body = data[end:]
            if head.form:
                if zstandard.frame_content_size(body) > _LARGEST:
                    return None
                body = zstandard.decompress(body)
            return head, self._values.decode(body)
        except (msgspec.MsgspecError, zstandard.ZstdError, ValueError, IndexError, RecursionError):
            return None


def head_of(data: bytes) -> Head | None:
    """The head of an entry of whatever type, of which `data` is the beginning; None for bytes that begin no entry.

    `LONGEST_BEGINNING` bytes are enough for any.
    """
    try:
        return _heads.decode(data[2 : (data[0] << 8 | data[1]) + 2])
    except (msgspec.MsgspecError, IndexError):
        return None


@lru_cache(maxsize=1024)
def codec_of(kind: Any) -> Codec:
    """The codec of a type, made once."""
    return Codec(kind)


_encode = msgspec.msgpack.Encoder(decimal_format="string", uuid_format="canonical").encode
_heads = msgspec.msgpack.Decoder(Head)


def _described(kind: Any) -> str:
    """What a type is made of, so that another form of it is told apart."""
    try:
        return msgspec.json.encode(msgspec.json.schema(kind)).decode()
    except (TypeError, RuntimeError):
        return repr(kind)


def _told(value: Any, reason: str) -> str:
    return (
        f"a {type(value).__name__} cannot be kept for other nodes: {reason}. Annotate what the function returns, or"
        " give dicts, lists, texts and numbers; or say skip_l2=True, and it is kept in this process alone"
    )
