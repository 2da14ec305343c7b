"""A Redis of several servers, among which the keys are spread: Redis Cluster.

Each server has a breaker of its own, so that one of them that fails, or is being replaced by its replica, costs the
keys that it has, and the others go on (docs/adr/0012-redis-cluster.md). The protocol:
https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.logs import get_logger
from holdfast.settings import hide_password
from holdfast.shared import Coalesced
from holdfast.store.redis import Away, Redis, Server, told
from holdfast.store.redis_url import Address, parsed

if TYPE_CHECKING:
    from redis.asyncio import Redis as Client

log = get_logger("holdfast.redis")

T = TypeVar("T")

SLOTS = 16_384
_PAUSE = 0.5  # seconds between looks at who has what, while a server is away


class _Moved:
    """An answer that says that another server has the key."""

    def __init__(self, error: Any) -> None:
        self.error = error


class Cluster(Redis):
    """A Redis Cluster.

    Args:
        url: `redis+cluster://user:password@host:port,host:port`, `rediss+cluster://…` with TLS: some of its servers, by
            which the others are found, and redis-py's options as its query.
    """

    is_cluster = True

    def __init__(self, url: str, *, prefix: str, timeout: float) -> None:
        self.prefix = prefix
        self.place = hide_password(url)
        self._timeout = timeout
        self._seeds, self._url_of = parsed(url)
        self._probed = f"{prefix}:probe"
        self._servers = {seed: self._connected(self._url_of(seed)) for seed in self._seeds}
        self._primaries: list[Server] = []
        self._slots: list[Server | None] = [None] * SLOTS
        self._learn = Coalesced(self._learn_slots)
        self._watching: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        from redis.crc import key_slot
        from redis.exceptions import AskError, MovedError

        self._slot_of, self._elsewhere, self._moved_for_good = key_slot, AskError, MovedError

    def _connected(self, url: str) -> Server:
        return Server(url, timeout=self._timeout, probe=self._probe)

    async def _probe(self, client: Any) -> None:
        """A server may answer a PING while the cluster is down; of a key it says so."""
        with contextlib.suppress(self._elsewhere):
            await client.get(self._probed)

    @property
    def is_away(self) -> bool:
        return all(server.is_away for server in self._primaries or self._servers.values())

    async def ask(self, question: Callable[[Client], Awaitable[T]], at: str) -> T:
        async def asked(client: Client) -> T | _Moved:
            try:
                return await question(client)
            except self._elsewhere as error:
                return _Moved(error)

        slot = self._slot_of(at.encode())
        for _ in range(2):
            server = self._slots[slot] or await self._found(slot)
            try:
                answer = await server.ask(asked)
            except Away:
                self._watch()
                raise
            if not isinstance(answer, _Moved):
                return answer
            self._moved(answer.error)
        raise Away

    async def ask_each(
        self, names: Sequence[str], question: Callable[[Any, Sequence[str]], Awaitable[Sequence[Any]]]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(2):
            parts: dict[Server, list[str]] = {}
            for name in names:
                with contextlib.suppress(Away):
                    slot = self._slot_of(name.encode())
                    parts.setdefault(self._slots[slot] or await self._found(slot), []).append(name)
            answers = await asyncio.gather(*(self._part(*part, question) for part in parts.items()))
            again = []
            for (server, _), answered in zip(parts.items(), answers, strict=True):
                for name in [name for name, answer in answered.items() if isinstance(answer, self._elsewhere)]:
                    self._moved(answered.pop(name))
                    again.append(name)
                found |= told(server, answered)
            if not again:
                break
            names = again
        return found

    async def _part(
        self,
        server: Server,
        names: Sequence[str],
        question: Callable[[Any, Sequence[str]], Awaitable[Sequence[Any]]],
    ) -> dict[str, Any]:
        try:
            return dict(zip(names, await server.ask(lambda client: question(client, names)), strict=True))
        except Away:
            self._watch()
            return {}

    async def get_many(self, names: Sequence[str]) -> Sequence[bytes | None]:
        async def get(client: Any, these: Sequence[str]) -> list[Any]:
            pipeline = client.pipeline(transaction=False)  # an MGET takes keys of one slot only
            for name in these:
                pipeline.get(name)
            return list(await pipeline.execute(raise_on_error=False))

        found = await self.ask_each(names, get)
        return [found.get(name) for name in names]

    async def known(self) -> list[Server]:
        with contextlib.suppress(Away):
            await self._learnt()
        return list(self._servers.values())

    async def primaries(self) -> list[Server]:
        await self._learnt()
        return list(self._primaries)

    async def listener(self) -> Server:
        await self._learnt()
        there = [server for server in self._primaries if not server.is_away]
        if not there:
            raise Away
        return random.choice(there)

    async def _unlink(self, client: Any, names: Sequence[bytes]) -> int:
        pipeline = client.pipeline(transaction=False)
        for name in names:
            pipeline.unlink(name)
        return sum(one for one in await pipeline.execute(raise_on_error=False) if isinstance(one, int))

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await asyncio.gather(*(server.close() for server in self._servers.values()), *self._closing)

    # who has what

    async def _found(self, slot: int) -> Server:
        await self._learnt()
        server = self._slots[slot]
        if server is None:
            self._watch()
            raise Away
        return server

    async def _learnt(self) -> None:
        """Return when it is known who has what."""
        if self._primaries:
            return
        if all(server.is_away for server in self._servers.values()):
            self._watch()
            raise Away
        try:
            async with asyncio.timeout(self._timeout):
                await self._learn.get()
        except TimeoutError:
            raise Away from None

    def _moved(self, error: Any) -> None:
        """Note who has a slot now. One that is on its way to another server is a miss meanwhile."""
        if isinstance(error, self._moved_for_good) and error.host:
            self._slots[error.slot_id] = self._server_at(Address(error.host, error.port))
        self._watch()

    def _server_at(self, address: Address) -> Server:
        server = self._servers.get(address)
        if server is None:
            server = self._servers[address] = self._connected(self._url_of(address))
        return server

    def _watch(self) -> None:
        """Look who has what until nobody is away: what a server had that died its replica has soon."""
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watched(), name="redis slots")

    async def _watched(self) -> None:
        while True:
            with contextlib.suppress(Away):
                await self._learn.get()
            await asyncio.sleep(_PAUSE)
            if self._primaries and not any(server.is_away for server in self._primaries):
                return

    async def _learn_slots(self) -> None:
        """Ask one server after the other, those that answer first.

        Raises:
            Away: none says.
        """
        servers = random.sample(list(self._servers.items()), len(self._servers))
        last: Exception | None = None
        for address, server in sorted(servers, key=lambda pair: pair[1].is_away):
            try:
                found = await server.ask(_ask_for_slots)
            except Away as away:
                last = away
                continue
            if found:
                self._note(found, address)
                return
        raise Away from last

    def _note(self, found: Sequence[Sequence[Any]], asked: Address) -> None:
        """Take over what CLUSTER SLOTS says: first and last slot, then host, port and more of primary and replicas."""
        slots: list[Server | None] = [None] * SLOTS
        primaries: dict[Server, None] = {}
        named = set(self._seeds)
        for first, last, *nodes in found:
            addresses = [Address(_text(node[0]) or asked.host, int(node[1])) for node in nodes]
            named.update(addresses)
            primary, *_ = [self._server_at(address) for address in addresses]
            primaries[primary] = None
            slots[int(first) : int(last) + 1] = [primary] * (int(last) + 1 - int(first))
        self._slots, self._primaries = slots, list(primaries)
        for address in [address for address in self._servers if address not in named]:
            closing = asyncio.create_task(self._servers.pop(address).close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


async def _ask_for_slots(client: Any) -> Any:
    return await client.execute_command("CLUSTER", "SLOTS")


def _text(host: Any) -> str:
    text = host.decode() if isinstance(host, bytes) else host or ""
    return "" if text == "?" else text
