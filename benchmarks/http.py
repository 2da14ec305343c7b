"""One row over HTTP, for the holder of an API key, counted against his limits and served from the cache.

Seven servers, granian with one worker each, on PostgreSQL: `holdfast` is what `Expose(cached=True)` makes
of a tenanted model, `by hand` a Starlette handler that makes the same look-ups with the library (the key, its user and
organisation, the limits, the row), writes the same headers and notes the use, for this one address; it has none of
what stands around ours: bounds, problems, request ids, protecting headers, counters, the log. `row security` is ours
under `HOLDFAST_ROW_SECURITY`, on a database of its own. `ceiling` sends as many bytes for anything, and looks at
nothing: what granian and the load leave room for. These have no Redis, and limits so high that they are counted by
sub-windows. `exact` keeps each call by itself, `redis` counts in Redis, which has keys and rows too, and `redis, exact`
does both. They are loaded in turn from a process of its own, over 64
connections that each ask again as soon as they are answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial

import msgspec
import psutil  # type: ignore[import-untyped]

from benchmarks.harness import Options, Report, started
from benchmarks.http_lamps import METADATA, Lamp
from devservers import start_postgres, start_redis
from devservers.process import free_port
from holdfast import ALL, Holdfast
from holdfast.apps.accounts import Organization, OrganizationMember, User
from holdfast.apps.accounts.api_keys import create_api_key
from holdfast.migrate import roles
from holdfast.settings import Settings
from holdfast.store import Store

CONNECTIONS = 64
SECONDS = 4.0
ROWS = 100

AT_LEAST = 5_000  # requests a second
P95 = 50.0  # ms
OVER_BY_HAND = 1.5  # time a request

OURS, THEIRS, CONFINED, CEILING = "holdfast", "by hand", "row security", "ceiling"
LOGGED, SHARED, SHARED_LOG = "exact", "redis", "redis, exact"
HELD = (OURS, SHARED, SHARED_LOG)  # to the targets


class Load(msgspec.Struct):
    """What one round of load found: requests a second; all that were answered; the 95th percentile in ms; answers that
    were no 200."""

    rate: float
    number: int
    p95: float
    wrong: int


async def run(options: Options) -> Report:
    """Measure both."""
    report = Report("http", options)
    with (
        start_postgres() as postgres,
        postgres.database() as url,
        start_redis() as redis,
        contextlib.ExitStack() as stack,
    ):
        stack.enter_context(_environment("HOLDFAST_REDIS_URL", redis.url))
        confined = stack.enter_context(postgres.database())
        await _create_roles(confined)
        filled, confined_filled = await _filled(url), await _filled(confined, row_security=True)
        asked = dict.fromkeys((OURS, THEIRS, LOGGED, SHARED, SHARED_LOG, CONFINED, CEILING), filled)
        asked[CONFINED] = confined_filled
        async with contextlib.AsyncExitStack() as servers:
            serving = {
                subject: await servers.enter_async_context(
                    _serving(subject.replace(",", "").replace(" ", "-"), confined if subject == CONFINED else url)
                )
                for subject in asked
            }
            figures: dict[str, list[Load]] = {subject: [] for subject in asked}
            each: dict[str, list[float]] = {subject: [] for subject in asked}

            async def rate(subject: str) -> float:
                port, process = serving[subject]
                before = _cpu(process)
                found = await _loaded(port, *asked[subject], max(0.5, SECONDS * options.scale))
                each[subject].append((_cpu(process) - before) / found.number * 1e6)
                if found.wrong:
                    raise RuntimeError(f"{subject} answered {found.wrong} requests with something else than 200")
                figures[subject].append(found)
                return found.rate

            await report.measure("requests", "1/s", {subject: partial(rate, subject) for subject in asked})
    for subject, loads in figures.items():
        report.record("p95", subject, "ms", [load.p95 for load in loads[1:]])
        # What the server itself worked, whatever else the machine did: all of its threads, and what it wrote.
        report.record("processor time a request", subject, "µs", each[subject][1:])
    for subject in HELD:
        report.target(f"{subject}: requests a second", report.median("requests", subject), at_least=AT_LEAST)
        report.target(f"{subject}: ms, p95", report.median("p95", subject), at_most=P95)
    report.target("time over by hand", report.ratio("requests", THEIRS, OURS), at_most=OVER_BY_HAND)
    return report


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """A variable for the servers that are started meanwhile."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


async def _create_roles(url: str) -> None:
    """What row security confines units to."""
    store = Store(Settings(database_url=url))
    async with store.engine.begin() as connection:
        await roles.create(connection)
    await store.close()


async def _filled(url: str, *, row_security: bool = False) -> tuple[str, list[str]]:
    """A key, and the addresses of rows of its organisation."""
    settings = Settings(database_url=url, row_security=row_security)
    async with await Holdfast.open(settings=settings, metadata=METADATA) as hold:
        async with hold.unit(tenant=ALL) as unit:
            user = await unit[User].add(User(external_id="benchmark"))
            organization = await unit[Organization].add(
                Organization(name="Acme", tier="pro", max_requests_per_month=10**9)
            )
            member = OrganizationMember(org_id=organization.id, user_id=user.id, role="owner")
            await unit[OrganizationMember].add(member)
            key = await create_api_key(
                hold, unit, name="benchmark", user_id=user.id, org_id=organization.id, scopes=("lamps:read",)
            )
        async with hold.unit(tenant=organization.id) as unit:
            lamps = [Lamp(name=f"lamp {number}", range_nm=number) for number in range(ROWS)]
            unit.add(*lamps)
        return key.text, [f"/v1/resources/lamps/{lamp.id}" for lamp in lamps]


@contextlib.asynccontextmanager
async def _serving(subject: str, url: str) -> AsyncIterator[tuple[int, psutil.Process]]:
    """A server of its own process; its port, and the process."""
    port = free_port()
    process = await started("benchmarks.http_server", subject, url, str(port))
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if not (await process.stdout.readline()).startswith(b"ready"):
            raise RuntimeError(f"the server {subject!r} did not start; it says why above")
        yield port, psutil.Process(process.pid)
    finally:
        process.stdin.close()
        await process.wait()


def _cpu(process: psutil.Process) -> float:
    """Seconds of a processor that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def _loaded(port: int, key: str, paths: list[str], seconds: float) -> Load:
    process = await started("benchmarks.http_load")
    asked = {"port": port, "key": key, "paths": paths, "connections": CONNECTIONS, "seconds": seconds}
    out, _ = await process.communicate(msgspec.json.encode(asked))
    if process.returncode:
        sys.exit("the load could not be made; it says why above")
    await asyncio.sleep(0)
    return msgspec.json.decode(out, type=Load)
