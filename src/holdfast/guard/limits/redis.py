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


class Call(NamedTuple):
    """What one call asks the script: keys, and what it is given for them."""

    names: list[str]
    asked: list[int]


Waiting = tuple[Call, asyncio.Future[list[int]]]


class RedisLimits:
    """What all processes have admitted that share a Redis.

    While a call is under way, those of one turn of the event loop go together; each is still decided by itself.

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
        self._gathering: list[Waiting] | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._under_way = 0  # messages that are not answered yet; with none of them nobody waits for company

    async def ask(self, demands: Sequence[Demand], cost: int, *, charge: bool) -> Answer:
        """As `MemoryLimits.ask`. When the answer does not arrive the call may have been counted.

        Raises:
            Away: Redis does not answer in time, or refuses.
        """
        asked = [len(demands), cost, 1 if charge else 0]
        for demand in demands:
            asked += (demand.most, demand.window, demand.width)
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
        gathering = self._gathering
        if gathering is not None:
            future = _joined(gathering, call)
            return await future
        if self._under_way:
            gathering = self._gathering = []
            future = _joined(gathering, call)
            try:
                await asyncio.sleep(0)  # those who ask in this turn of the loop come along
            finally:
                self._send(gathering)
            return await future
        self._under_way += 1
        try:
            arguments = _arguments([call])
            [answer] = await self._redis.ask(lambda client: self._run_one(client, arguments), call.names[0])
        finally:
            self._under_way -= 1
        return answer

    def _send(self, gathered: list[Waiting]) -> None:
        """Send what was gathered, in a task of its own: none of those who wait may end it for the others."""
        self._gathering = None
        for start in range(0, len(gathered), _TOGETHER):
            task = asyncio.create_task(self._tell(gathered[start : start + _TOGETHER]), name="limits")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _tell(self, gathered: Sequence[Waiting]) -> None:
        """Ask for all, and tell each."""
        self._under_way += 1
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
            self._under_way -= 1
            for _, future in gathered:
                if not future.done():
                    future.set_exception(Away())

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


def _joined(gathering: list[Waiting], call: Call) -> asyncio.Future[list[int]]:
    future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
    gathering.append((call, future))
    return future


def _arguments(calls: Sequence[Call]) -> list[Any]:
    """What the script is given for several calls: how many keys, the keys, the rest."""
    names = [name for call in calls for name in call.names]
    return [len(names), *names, *(one for call in calls for one in call.asked)]
