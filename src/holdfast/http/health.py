"""`/health`, `/health/database`, `/metrics`, `/v1/status`, `/v1/journal`: how the service itself fares."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import func, select
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from holdfast.errors import HoldfastError
from holdfast.hold import Holdfast
from holdfast.http import metrics as counters
from holdfast.http import parameters
from holdfast.http.answers import fresh
from holdfast.http.finding import PATH as RESOURCES
from holdfast.http.live import Live
from holdfast.http.metrics import Metrics
from holdfast.journal import Change, Position
from holdfast.model import Expose
from holdfast.operate import Examiner
from holdfast.rollup.refresh import dirty


class Health:
    """The endpoints about the service itself."""

    def __init__(self, hold: Holdfast, examiner: Examiner, live: Live, metrics: Metrics) -> None:
        self.hold = hold
        self.examiner = examiner
        self.live = live
        self.metrics = metrics
        self._began = time.monotonic()
        # Whose key may be told: what is exposed to everybody anyway. Of other rows only that something happened.
        self._resources = {
            model.__tablename__: expose.resource(model)
            for model in hold.models
            if (expose := model.__policy__.aspect(Expose)) is not None and model.__policy__.tenant is None
        }

    def liveness(self) -> list[Route]:
        """The route of what watches whether this process is to be used, which has no key."""
        return [Route("/health", self.health)]

    def routes(self) -> list[Route]:
        """The other routes."""
        return [
            Route("/health/database", self.database),
            Route("/metrics", self.prometheus),
            Route("/v1/status", self.status),
            Route("/v1/journal", self.journal),
        ]

    async def health(self, request: Request) -> Response:
        """Whether this process and its database answer: 200, or 503 where the database does not.

        Where reads are closed it tells that and no more: no reason, no times.
        """
        _no_parameters(request)
        part = await self._ping()
        if self.hold.settings.http_reads == "closed":
            return fresh({"status": part["status"]}, 200 if part["status"] == "ok" else 503)
        up = part["status"] == "ok"
        process = {"status": "ok", "uptime_seconds": round(time.monotonic() - self._began, 3)}
        body = {"status": "ok" if up else "down", "parts": {"process": process, "database": part}}
        return fresh(body, 200 if up else 503)

    async def database(self, request: Request) -> Response:
        """The database: latency, pools, journal position, what is pending."""
        _no_parameters(request)
        body: dict[str, Any] = {
            **await self._ping(),
            "dialect": self.hold.store.dialect,
            "place": self.hold.store.place,
        }
        body["pools"] = {
            role: {"connections": pool.checkedin() + pool.checkedout(), "busy": pool.checkedout(), "limit": limit}
            for role, pool, limit in _pools(self.hold)
        }
        if body["status"] == "ok":
            try:
                difference = await self.examiner.pending.get()
                body["pending_migrations"] = difference.lines()
                body["position"] = None if difference.tables else (await self.hold.journal.status()).position
            except HoldfastError as error:
                body |= {"status": "down", "detail": str(error)}
        return fresh(body, 200 if body["status"] == "ok" else 503)

    async def prometheus(self, request: Request) -> Response:
        """Counters for Prometheus; those of the database are left as they were where it does not answer."""
        _no_parameters(request)
        part = await self._ping()
        self.metrics.database_up.set(part["status"] == "ok")
        self.metrics.streams.set(self.live.listeners)
        if part["status"] == "ok":
            self.metrics.database_seconds.set(part["latency_ms"] / 1000)
            try:
                await self._measure()
            except HoldfastError:
                self.metrics.database_up.set(0)
        return Response(
            self.metrics.render(), headers={"Cache-Control": "no-store", "Content-Type": counters.MEDIA_TYPE}
        )

    async def status(self, request: Request) -> Response:
        """What is wrong, what is worth knowing, and what to do."""
        _no_parameters(request)
        return fresh(await self.examiner.examine())

    async def journal(self, request: Request) -> Response:
        """Where the journal is, how far each follower is behind, and the last changes seen by this process."""
        _no_parameters(request)
        return fresh(await self.journal_now())

    async def journal_now(self) -> dict[str, Any]:
        """What `/v1/journal` answers."""
        await self.live.start()
        status = await self.hold.journal.status()
        followers = [
            {
                "name": f.name,
                "state": f.state,
                "lag_changes": f.lag_changes,
                "lag_seconds": round(f.lag_seconds, 3),
                "parked": f.parked,
                "running": f.holder is not None,
            }
            for f in status.followers
        ]
        changes = [self._shown(change) for change in self.live.changes]
        return {"position": status.position, "followers": followers, "changes": changes}

    def _shown(self, change: Change) -> dict[str, Any]:
        resource = self._resources.get(change.table)
        href = None if resource is None or change.key is None else f"{RESOURCES}/{resource}/{change.key}"
        key = None if resource is None else change.key
        return {"table": change.table, "op": change.op, "key": key, "href": href, "at": change.at}

    async def _ping(self) -> dict[str, Any]:
        try:
            return {"status": "ok", "latency_ms": round(await self.examiner.ping() * 1000, 3)}
        except HoldfastError as error:
            return {"status": "down", "detail": str(error)}

    async def _measure(self) -> None:
        if (await self.examiner.pending.get()).tables:
            return  # there is nothing to measure yet
        status = await self.hold.journal.status()
        self.metrics.position.set(Position.parse(status.position).tick)
        for follower in status.followers:
            self.metrics.lag.labels(follower.name).set(follower.lag_changes)
            self.metrics.lag_seconds.labels(follower.name).set(follower.lag_seconds)
            self.metrics.dead_letters.labels(follower.name).set(follower.parked)
        waiting = dict.fromkeys((rollup.name for rollup in self.hold.rollups.rollups), 0)
        async with self.hold.store.read(confined=False) as unit:
            counted = select(dirty.c.rollup, func.count().label("number")).group_by(dirty.c.rollup)
            waiting |= {row.rollup: row.number for row in await unit.execute(counted)}
        for name, number in waiting.items():
            self.metrics.dirty.labels(name).set(number)


def _pools(hold: Holdfast) -> list[tuple[str, Any, int]]:
    settings = hold.store.settings
    found = []
    for role, engine in hold.store.engines().items():
        pool: Any = engine.pool
        most = max(settings.pool_max, settings.pool_size) if hold.store.dialect == "postgresql" else pool.size()
        found.append((role, pool, most))
    return found


def _no_parameters(request: Request) -> None:
    parameters.read(request.scope["query_string"], ())
