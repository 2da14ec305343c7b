"""Limits over all processes: counted in Redis, by its clock."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from holdfast.guard.limits.script import HIT
from holdfast.guard.limits.window import Answer, Demand, Said
from holdfast.store.redis import Away, Redis

_TOGETHER = 100  # calls that go in one message
_COMPANY = 0.001  # seconds that a call waits for others at the most


class Call(NamedTuple):
    """What one call asks the script: keys, and what it is given for them."""

    names: list[str]
    asked: str


Waiting = tuple[Call, asyncio.Future[list[int]]]


class RedisLimits:
    """What all processes have admitted that share a Redis.

    Who asks alone is sent at once. Those who ask while a message is under way go together, when its answer is there or
    a millisecond later; each is still decided by itself.

    Args:
        redis: one server or several; the names of one call's demands must have one hash tag.
        script: does what `HIT` does.
    """

    def __init__(self, redis: Redis, *, script: str = HIT) -> None:
        from redis.exceptions import AskError, MovedError, NoScriptError

        self._redis = redis
        self._script = script
        self._digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._is_unknown, self._elsewhere = NoScriptError, (AskError, MovedError)
        self._gathering: list[Waiting] = []
        self._leaving: asyncio.TimerHandle | None = None  # where some are gathering: when they go at the latest
        self._sending: set[asyncio.Task[None]] = set()
        self._under_way = 0  # messages that are not answered yet; with none of them nobody waits for company

    async def ask(self, demands: Sequence[Demand], cost: int, *, charge: bool) -> Answer:
        """As `MemoryLimits.ask`. When the answer does not arrive the call may have been counted.

        Raises:
            Away: Redis does not answer in time, or refuses.
        """
        asked = f"{len(demands)} {cost} {1 if charge else 0}"
        for demand in demands:
            asked += f" {demand.most} {demand.window} {demand.width}"
        now, passes, *figures = await self._asked(Call([demand.name for demand in demands], asked))
        said = tuple(Said(*figures[start : start + 3]) for start in range(0, len(figures), 3))
        return Answer(now / 1e6, bool(passes), said)

    async def forget(self, demands: Sequence[Demand]) -> None:
        """Count nothing any more under these names.

        Raises:
            Away: Redis does not answer in time, or refuses.
        """
        names = [demand.name for demand in demands]
        await self._redis.ask(lambda client: client.delete(*names), names[0])

    async def _asked(self, call: Call) -> list[int]:
        if self._under_way:
            return await self._gathered(call)
        self._under_way += 1
        try:
            arguments = _arguments([call])
            [answer] = await self._redis.ask(lambda client: self._run_one(client, arguments), call.names[0])
        finally:
            self._arrived()
        return answer

    def _gathered(self, call: Call) -> asyncio.Future[list[int]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[int]] = loop.create_future()
        self._gathering.append((call, future))
        if len(self._gathering) >= _TOGETHER:
            self._send()
        elif self._leaving is None:
            self._leaving = loop.call_later(_COMPANY, self._send)
        return future

    def _arrived(self) -> None:
        """A message is answered: those who have gathered meanwhile go."""
        self._under_way -= 1
        if self._gathering:
            self._send()

    def _send(self) -> None:
        """Send what was gathered, in a task of its own: none of those who wait may end it for the others."""
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        gathered, self._gathering = self._gathering, []
        self._under_way += 1
        task = asyncio.create_task(self._tell(gathered), name="limits")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _tell(self, gathered: Sequence[Waiting]) -> None:
        """Ask for all, and tell each."""
        groups: dict[str, list[Waiting]] = {}
        for one in gathered:
            # In a cluster a script can look at the keys of one slot only.
            groups.setdefault(one[0].names[0] if self._redis.is_cluster else gathered[0][0].names[0], []).append(one)

        async def question(client: Any, names: Sequence[str]) -> list[Any]:
            return await self._run(client, [[call for call, _ in groups[name]] for name in names])

        try:
            found = await self._redis.ask_each(list(groups), question)
            for name, group in groups.items():
                for (_, future), answer in zip(group, found.get(name, ()), strict=False):
                    if not future.done():  # as that of a caller who was cancelled is
                        future.set_result(answer)
        finally:
            for _, future in gathered:
                if not future.done():
                    future.set_exception(Away())
            self._arrived()

    async def _run(self, client: Any, groups: Sequence[Sequence[Call]]) -> list[Any]:
        """The answers of each group, or its error, in their order."""
        arguments = [_arguments(calls) for calls in groups]
        if len(groups) == 1:
            return [await self._run_here(client, arguments[0])]
        pipeline = client.pipeline(transaction=False)
        for one in arguments:
            pipeline.execute_command("EVALSHA", self._digest, *one)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        for number, answer in enumerate(answers):
            if isinstance(answer, self._is_unknown):
                answers[number] = await self._run_here(client, arguments[number])
        return answers

    async def _run_here(self, client: Any, arguments: Sequence[Any]) -> Any:
        """As `_run_one`; that another server has the keys is an answer too."""
        try:
            return await self._run_one(client, arguments)
        except self._elsewhere as error:
            return error

    async def _run_one(self, client: Any, arguments: Sequence[Any]) -> list[list[int]]:
        try:
            answers: list[list[int]] = await client.execute_command("EVALSHA", self._digest, *arguments)
        except self._is_unknown:  # a new server, or somebody said SCRIPT FLUSH
            answers = await client.execute_command("EVAL", self._script, *arguments)
        return answers


def _arguments(calls: Sequence[Call]) -> list[Any]:
    """What the script is given for several calls: how many keys, the keys, the rest."""
    names = [name for call in calls for name in call.names]
    return [len(names), *names, *(call.asked for call in calls)]
