"""The store on libSQL over HTTP beside the `libsql` package, on one sqld and the same captured table.

The package speaks SQL and returns tuples; ours are units of work and models, which a request would use. A `get` and a
`unit` are what a request does: open, ask or write one row, close. `replica` is a `get` from the embedded replica.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks.harness import Options, Report, microseconds_each
from devservers import ensure_sqld, start_sqld
from holdfast import Holdfast, Model
from holdfast.model import NAMING, uuid7

ADD_MANY_OVER_PACKAGE = 0.25  # it sends the rows one by one

ROWS = 1_000
BATCH = 1_000
GETS = 100
UNITS = 50
METADATA = MetaData(naming_convention=NAMING)


class Note(Model):
    __tablename__ = "benchmark_notes"
    metadata = METADATA

    text: Mapped[str] = mapped_column(default="")


async def run(options: Options) -> Report:
    """Measure on an sqld of its own."""
    os.environ["RUST_LOG"] = "off"  # the package would log to standard output
    import libsql

    ensure_sqld()
    report = Report("libsql", options)
    with start_sqld(namespaces=False) as server, tempfile.TemporaryDirectory() as folder:
        url = f"libsql+http://127.0.0.1:{server.port}"
        async with await Holdfast.open(
            url, metadata=METADATA, migrate=True, database_replica_file=str(Path(folder) / "copy.db"), slow_query=0.0
        ) as hold:
            ids = [uuid7() for _ in range(ROWS)]
            async with hold.unit() as unit:
                await unit[Note].add_many([{"id": id, "text": "x" * 100} for id in ids])
            await _measure(report, hold, libsql.connect(f"http://127.0.0.1:{server.port}"), ids)
    over = report.ratio("add_many of 1,000 rows", "holdfast", "libsql package")
    report.target("add_many over the libsql package", over, at_most=ADD_MANY_OVER_PACKAGE)
    return report


async def _measure(report: Report, hold: Holdfast, package: Any, ids: list[UUID]) -> None:
    key = ids[ROWS // 2]

    async def get() -> None:
        for _ in range(GETS):
            async with hold.read() as unit:
                await unit[Note].get(key)

    async def get_from_replica() -> None:
        for _ in range(GETS):
            async with hold.read(replica=True) as unit:
                await unit[Note].get(key)

    def get_by_package() -> None:
        for _ in range(GETS):
            package.execute("SELECT id, text FROM benchmark_notes WHERE id = ?", (key.hex,)).fetchone()

    async def add() -> None:
        for _ in range(UNITS):
            async with hold.unit() as unit:
                unit.add(Note(text="y"))

    def add_by_package() -> None:
        for _ in range(UNITS):
            package.execute("INSERT INTO benchmark_notes (id, text) VALUES (?, ?)", (uuid7().hex, "y"))
            package.commit()

    async def add_many() -> None:
        async with hold.unit() as unit:
            await unit[Note].add_many([{"text": "z"} for _ in range(BATCH)])

    def add_many_by_package() -> None:
        rows = [(uuid7().hex, "z") for _ in range(BATCH)]
        package.executemany("INSERT INTO benchmark_notes (id, text) VALUES (?, ?)", rows)
        package.commit()

    await report.measure(
        "get",
        "µs",
        {
            "holdfast": microseconds_each(get, GETS),
            "holdfast, replica": microseconds_each(get_from_replica, GETS),
            "libsql package": microseconds_each(get_by_package, GETS),
        },
    )
    await report.measure(
        "unit of one insert",
        "µs",
        {"holdfast": microseconds_each(add, UNITS), "libsql package": microseconds_each(add_by_package, UNITS)},
    )
    await report.measure(
        "add_many of 1,000 rows",
        "µs",
        {"holdfast": microseconds_each(add_many, 1), "libsql package": microseconds_each(add_many_by_package, 1)},
    )
