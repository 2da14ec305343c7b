"""Indexing: from JSON lines of `getTransaction` answers to captured rows in SQLite, on one processor.

Beside it stand the limit, which is decoding the same lines and looking at nothing, and a writer that makes an ORM
object of every row and a transaction of every transaction, into the same captured tables with the same parser.

Every run is a process of its own on one processor. Speed is told twice: by the clock, to which the limits are held,
and by the seconds of processor time it took (of all its threads, and of the system for it). The second is the higher
one where other work on the machine or the disk makes the run wait, and says how far.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks.harness import Options, Report
from benchmarks.index_input import Input, find_input, write
from benchmarks.index_worker import Outcome

ALL = 4_000.0  # transactions a second with --all
PAYMENTS = 8_000.0  # without
MEMORY = 1.25  # times as much at most, where the file is ten times as large
MOST_MEMORY = 400.0  # MiB at most with --all, where SQLite's cache and its mapped pages are full

TRANSACTIONS = 20_000  # a run
ROW_BY_ROW = 1_000  # of the slow peer
LARGE = 1_000_000_000  # bytes

_ROOT = Path(__file__).parents[1]


async def run(options: Options) -> Report:
    """Measure, and hold the figures to the limits."""
    report = Report("index", options)
    given = find_input()
    options.say(f"index · {given.source}")
    with tempfile.TemporaryDirectory(prefix="holdfast-index-") as folder:
        await _speed(report, Path(folder), given)
        await _memory(report, Path(folder), given)
    return report


async def _speed(report: Report, folder: Path, given: Input) -> None:
    mix, few, swaps = folder / "mix.jsonl", folder / "few.jsonl", folder / "swaps.jsonl"
    count = report.options.scaled(TRANSACTIONS)
    write(mix, given.templates, transactions=count)
    write(few, given.templates, transactions=report.options.scaled(ROW_BY_ROW))
    write(swaps, given.swaps, transactions=max(1, count // 4))
    subjects = {
        "decode with msgspec": ("decode_with_msgspec", mix),
        "decode with json": ("decode_with_json", mix),
        "parse and judge": ("parse", mix),
        "holdfast --all": ("index_all", mix),
        "holdfast": ("index_payments", mix),
        "ORM, row by row": ("write_row_by_row", few),
    }
    await _case(report, folder, given.name, subjects)
    if given.swaps is not given.templates:
        subjects = {
            "parse and judge": ("parse", swaps),
            "holdfast --all": ("index_all", swaps),
            "holdfast": ("index_payments", swaps),
        }
        await _case(report, folder, "real, only trades (4 transfers each)", subjects)
    by_clock = f"{given.name}, by the clock"
    for what, subject, limit in (("--all", "holdfast --all", ALL), ("without --all", "holdfast", PAYMENTS)):
        figure = report.median(by_clock, subject)
        report.target(f"transactions/s {what} ({given.name})", figure, at_least=limit)


async def _case(report: Report, folder: Path, case: str, subjects: dict[str, tuple[str, Path]]) -> None:
    by_processor: dict[str, list[float]] = {name: [] for name in subjects}
    by_clock: dict[str, list[float]] = {name: [] for name in subjects}
    names = list(subjects)
    for number in range(report.options.rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            outcome = await _run(folder, *subjects[name])
            by_processor[name].append(outcome.transactions / outcome.processor)
            by_clock[name].append(outcome.transactions / outcome.wall)
    for suffix, runs in (("by processor time", by_processor), ("by the clock", by_clock)):
        for name in names:
            report.record(f"{case}, {suffix}", name, "transactions/s", runs[name])


async def _memory(report: Report, folder: Path, given: Input) -> None:
    """Index a large file and smaller ones; what they are made of is repeated, what they say is not.

    With payments only little is stored, and a tenth of the file must need as much memory as the whole. With --all
    the database outgrows SQLite's page cache (64 MiB) and what is mapped of it (256 MiB): memory follows the database
    until those are full, so there a half is compared with the whole, and the whole has an absolute limit too.
    """
    size = report.options.scaled(LARGE)
    case = f"memory for {size / 1e6:,.0f} MB of JSON lines"
    file = folder / "large.jsonl"

    async def peak(name: str, subject: str, bytes_read: int) -> float:
        count = write(file, given.templates, size=bytes_read)
        outcome = await _run(folder, subject, file)
        file.unlink()
        if outcome.transactions != count:
            raise RuntimeError(f"{count} transactions were written and {outcome.transactions} read")
        report.record(case, name, "MiB", [outcome.peak / 2**20])
        return outcome.peak / 2**20

    tenth = await peak("holdfast, a tenth of it", "index_payments", size // 10)
    whole = await peak("holdfast", "index_payments", size)
    half = await peak("holdfast --all, half of it", "index_all", size // 2)
    stored = await peak("holdfast --all", "index_all", size)
    report.target("memory for ten times the file", whole / tenth, at_most=MEMORY)
    report.target("memory for twice the file, --all", stored / half, at_most=MEMORY)
    report.target("MiB at most, --all", stored, at_most=MOST_MEMORY)


async def _run(folder: Path, subject: str, file: Path) -> Outcome:
    place = folder / "run"
    place.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(_ROOT / "src"), str(_ROOT)))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.index_worker", subject, str(file), str(place)),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    output, _ = await process.communicate()
    shutil.rmtree(place)
    if process.returncode != 0:
        raise RuntimeError(f"{subject} ended with {process.returncode}")
    return msgspec.json.decode(output, type=Outcome)
