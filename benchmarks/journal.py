"""The journal: what capture costs those who write, how soon and how fast followers have it, how dear a tick is.

The peer is the same write into the same table without triggers. The limits on capture are held on narrow rows too,
where the peer is quickest. Figures of processor work are taken with fsync off, where no wait for a disk hides it:
with fsync on, capture keeps more of a COPY than is shown here. Latencies are taken with fsync on, as in production.
synchronous_commit is on throughout; SQLite has WAL and synchronous=NORMAL, as the store writes. Each figure begins
with an empty table and a checkpoint; the journal grows from one to the next, as it does.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import journal_latency as latency
from benchmarks.harness import Options, Report
from benchmarks.journal_capture import (
    bulk_insert_case,
    change_case,
    commits_case,
    copy_case,
    few,
    small_copies_case,
)
from benchmarks.journal_databases import PostgresTemplate, SqliteTemplate, postgres
from benchmarks.journal_drain import drain_cases
from benchmarks.journal_models import ENTRIES, PAYMENTS
from benchmarks.journal_ticks import tick_cases

COPY_KEEPS = {"keys": 0.60, "four facts": 0.45}
BULK_INSERT_KEEPS = 0.28
LATENCY_P99 = 60.0  # milliseconds
LATENCY_MEDIAN = 20.0  # milliseconds
DELIVERED = 50_000.0  # changes a second
TICKS = 2_000.0  # a second


async def run(options: Options) -> Report:
    """Measure, and hold the figures to the limits."""
    report = Report("journal", options)
    with tempfile.TemporaryDirectory(prefix="holdfast-journal-") as folder:
        sqlite = SqliteTemplate(Path(folder))
        await sqlite.make()
        with postgres(fsync=False) as server:
            template = PostgresTemplate(server)
            await template.make()
            await _capture(report, template, sqlite)
            await _delivery(report, template, sqlite)
            await _ticks(report, template)
        with postgres(fsync=True) as server:
            template = PostgresTemplate(server)
            await template.make()
            await tick_cases(report, template, "make_tick, fsync on", options.scaled(2_000), rounds=few(report))
            await _latency(report, template, sqlite)
    return report


async def _capture(report: Report, template: PostgresTemplate, sqlite: SqliteTemplate) -> None:
    count = report.options.scaled(250_000)
    for kind in (ENTRIES, PAYMENTS):
        case = await copy_case(report, template, kind, count)
        for captured, limit in COPY_KEEPS.items():
            report.target(f"kept of {case}, {captured}", report.ratio(case, captured, "not captured"), at_least=limit)
    await small_copies_case(report, template, ENTRIES, report.options.scaled(100))
    for verb, statement in (("UPDATE", "UPDATE {} SET amount = amount + 1"), ("DELETE", "DELETE FROM {}")):
        await change_case(report, template, ENTRIES, report.options.scaled(100_000), verb, statement)
    await commits_case(report, template, ENTRIES, report.options.scaled(20_000))
    case = await bulk_insert_case(report, sqlite, ENTRIES, count)
    for captured in COPY_KEEPS:
        ratio = report.ratio(case, captured, "not captured")
        report.target(f"kept of {case}, {captured}", ratio, at_least=BULK_INSERT_KEEPS)


async def _delivery(report: Report, template: PostgresTemplate, sqlite: SqliteTemplate) -> None:
    bulk, single = report.options.scaled(500_000), report.options.scaled(100_000)
    for case in await drain_cases(report, template, sqlite, bulk=bulk, single=single):
        report.target(f"changes/s delivered, {case}", report.median(case, "durable"), at_least=DELIVERED)


async def _ticks(report: Report, template: PostgresTemplate) -> None:
    case = "make_tick, fsync off"
    await tick_cases(report, template, case, report.options.scaled(4_000), rounds=report.options.rounds)
    for subject in ("nothing new", "a change before each"):
        report.target(f"ticks/s, {subject}", report.median(case, subject), at_least=TICKS)


async def _latency(report: Report, template: PostgresTemplate, sqlite: SqliteTemplate) -> None:
    rounds, seconds = report.options.rounds, max(0.2, 12 * report.options.scale)
    with template.copy() as url:
        case = "commit to another process, a 5 s writer open"
        figures = await latency.latency_case(
            report, case, url, latency.units_beside_a_long_one, seconds=seconds, rounds=rounds
        )
        _hold(report, case, figures)
        case = "raw SQL to another process (poll)"
        await latency.latency_case(report, case, url, latency.raw_postgres, seconds=seconds, rounds=few(report))
    with sqlite.copy() as file:
        case = "commit to another process, SQLite"
        url = f"sqlite:///{file}"
        # No writer stays open here: on SQLite nothing else could commit meanwhile.
        _hold(
            report, case, await latency.latency_case(report, case, url, latency.units, seconds=seconds, rounds=rounds)
        )


def _hold(report: Report, case: str, figures: latency.Latencies) -> None:
    report.target(f"ms, p99, {case}", figures.of(0.99), at_most=LATENCY_P99)
    report.target(f"ms, median, {case}", figures.of(0.5), at_most=LATENCY_MEDIAN)
