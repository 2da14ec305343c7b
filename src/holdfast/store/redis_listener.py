"""Hearing what is published: one connection that one task reads, and any may write to.

redis-py's `PubSub` connects anew by itself, from whichever task notices first: where one task listens and others
subscribe while the line breaks, two of them read the same socket, and it raises what is no error of Redis'.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal, NamedTuple

_SILENCE = 3_600.0  # seconds after which a line that says nothing is given up; whoever wants one opens another


class Heard(NamedTuple):
    """What was heard: that a channel is listened to from now on, that it no longer is, or that something was said."""

    kind: Literal["subscribe", "unsubscribe", "message"]
    channel: str


class Listener:
    """A connection that listens to channels; closed for good when it breaks.

    Args:
        client: redis-py's, of the server to listen to.
    """

    def __init__(self, client: Any) -> None:
        self._connection: Any = client.connection_pool.make_connection()

    async def open(self) -> None:
        """Connect. Raises: what redis-py raises where that fails."""
        await self._connection.connect()

    async def subscribe(self, channel: str) -> None:
        """Ask to hear a channel; `heard` tells when that is so."""
        await self._send("SUBSCRIBE", channel)

    async def unsubscribe(self, channel: str) -> None:
        """Ask to hear a channel no more."""
        await self._send("UNSUBSCRIBE", channel)

    async def heard(self) -> AsyncIterator[Heard]:
        """What is heard, until the connection breaks. One task at a time."""
        while True:
            kind, channel, _ = await self._connection.read_response(timeout=_SILENCE)
            yield Heard(kind.decode(), channel.decode())

    async def close(self) -> None:
        """Drop the connection."""
        await self._connection.disconnect(nowait=True)

    async def _send(self, command: str, channel: str) -> None:
        if not self._connection.is_connected:  # else it would connect anew, and hear nothing of before
            raise ConnectionError("the connection is broken")
        try:
            await self._connection.send_command(command, channel, check_health=False)
        except AttributeError:  # it pauses before it writes, and whoever reads may drop the socket meanwhile
            raise ConnectionError("the connection broke") from None
