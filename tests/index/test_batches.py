"""From a stream of records to committed batches: idempotent, bad records set aside, the rest kept."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import CheckConstraint, MetaData, func, select
from sqlalchemy.orm import Mapped, mapped_column

from devservers import PostgresServer
from holdfast import Amount, Holdfast, Model, Unit
from holdfast.errors import HoldfastError, InvalidValue, MalformedRecord, Unavailable
from holdfast.index import Indexer, Item, Rejected, batches, list_rejected
from holdfast.index.rejected import reject
from holdfast.model import NAMING
from tests.index.commands import environment


class Base(Model):
    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Reading(Base):
    __tablename__ = "readings"
    __table_args__ = (CheckConstraint("number <> 13", name="luck"),)

    number: Mapped[int] = mapped_column(unique=True)
    text: Mapped[str] = mapped_column(default="")
    value: Mapped[int] = mapped_column(Amount(), default=0)


class Readings:
    """Writes numbers, or rows, once; notes the batches that were tried."""

    def __init__(self) -> None:
        self.tried: list[list[Any]] = []

    async def write(self, unit: Unit, records: Sequence[Any]) -> None:
        self.tried.append(list(records))
        rows = [{"text": "", "value": 0, **(r if isinstance(r, dict) else {"number": r})} for r in records]
        await unit[Reading].upsert_many(rows, on=("number",), update_columns=())


@pytest.fixture
async def hold(database_url: str) -> AsyncIterator[Holdfast]:
    async with await Holdfast.open(database_url, metadata=Base.metadata) as opened:
        yield opened


def items(*records: Any, file: str = "numbers.jsonl") -> Iterator[Item[Any]]:
    for line, record in enumerate(records, start=1):
        yield Item(file, f"line {line}", record)


def indexer(hold: Holdfast, sink: Any = None, batch: int = 4) -> Indexer[Any]:
    return Indexer(hold.store, "numbers", sink or Readings(), batch=batch)


async def numbers(hold: Holdfast) -> list[int]:
    async with hold.read() as unit:
        return list((await unit.execute(select(Reading.number).order_by(Reading.number))).scalars())


async def letters(hold: Holdfast) -> list[tuple[str, str, str]]:
    async with hold.read() as unit:
        return sorted((r.file, r.place, r.reason) for r in await list_rejected(unit, source="numbers"))


async def test_everything_is_written_in_batches(hold: Holdfast) -> None:
    sink = Readings()
    await indexer(hold, sink).run(items(*range(10)))
    assert await numbers(hold) == list(range(10))
    assert [len(part) for part in sink.tried] == [4, 4, 2]


async def test_nothing_to_index_writes_nothing(hold: Holdfast) -> None:
    sink = Readings()
    await indexer(hold, sink).run(items())
    assert sink.tried == []


async def test_a_record_that_is_none_is_set_aside_and_the_rest_indexed(hold: Holdfast) -> None:
    run = indexer(hold)
    await run.run(items(1, MalformedRecord("not JSON"), 2, 3, MalformedRecord("no signature"), 4))
    assert await numbers(hold) == [1, 2, 3, 4]
    assert run.rejected == 2
    expected = [("numbers.jsonl", "line 2", "not JSON"), ("numbers.jsonl", "line 5", "no signature")]
    assert await letters(hold) == expected
    assert [(r.file, r.place, r.reason) for r in run.first_rejected] == expected


async def test_a_batch_of_nothing_but_rubbish_is_set_aside(hold: Holdfast) -> None:
    run = indexer(hold)
    await run.run(items(*(MalformedRecord(str(n)) for n in range(9))))
    assert (run.rejected, len(await letters(hold)), await numbers(hold)) == (9, 9, [])


async def test_a_batch_that_the_database_refuses_is_narrowed_to_the_row_at_fault(hold: Holdfast) -> None:
    sink = Readings()
    run = indexer(hold, sink, batch=16)
    await run.run(items(*range(16)))
    assert await numbers(hold) == [n for n in range(16) if n != 13]
    ((file, place, reason),) = await letters(hold)
    assert (file, place) == ("numbers.jsonl", "line 14")
    assert "luck" in reason
    assert len(sink.tried) <= 10  # 16 → 8 → 4 → 2 → 1, with the other halves


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"number": 5, "text": "a\0b"}, "NUL"),
        ({"number": 5, "text": "\ud800"}, "surrogate"),
        ({"number": 5, "value": -1}, "outside"),
        ({"number": 5, "value": 2**256}, "outside"),
        ({"number": 5, "value": 0.5}, "float"),
        ({"number": 2**80}, ""),
        ({"number": None}, ""),
    ],
)
async def test_what_a_column_cannot_hold_costs_its_record_alone(hold: Holdfast, bad: Any, reason: str) -> None:
    run = indexer(hold, batch=8)
    await run.run(items(1, 2, bad, 3))
    assert await numbers(hold) == [1, 2, 3]
    ((_, place, said),) = await letters(hold)
    assert place == "line 3"
    assert reason in said


async def test_several_bad_rows_in_one_batch_are_all_found(hold: Holdfast) -> None:
    run = indexer(hold, batch=100)
    given: list[Any] = [{"number": n, "value": -1} if n % 7 == 0 else n for n in range(100) if n != 13]
    await run.run(items(*given))
    assert run.rejected == 15
    assert await numbers(hold) == [n for n in range(100) if n % 7 and n != 13]


async def test_a_second_run_adds_nothing(hold: Holdfast) -> None:
    given = [1, 2, 13, MalformedRecord("x"), 4]
    await indexer(hold).run(items(*given))
    before, rejected = await numbers(hold), await letters(hold)
    again = indexer(hold)
    await again.run(items(*given))
    assert await numbers(hold) == before
    assert await letters(hold) == rejected
    assert again.rejected == 2


async def test_a_record_that_was_mended_is_indexed_and_what_was_said_of_it_is_renewed(hold: Holdfast) -> None:
    await indexer(hold).run(items(1, MalformedRecord("first"), MalformedRecord("stays")))
    await indexer(hold).run(items(1, 2, MalformedRecord("second")))
    assert await numbers(hold) == [1, 2]
    assert ("numbers.jsonl", "line 3", "second") in await letters(hold)


async def test_only_the_first_rejected_records_are_told_at_once_and_all_are_kept(hold: Holdfast) -> None:
    run = indexer(hold, batch=70)
    await run.run(items(*(MalformedRecord(str(n)) for n in range(150))))
    assert run.rejected == 150
    assert [r.reason for r in run.first_rejected] == [str(n) for n in range(100)]
    async with hold.read() as unit:
        assert len(await list_rejected(unit, limit=1_000)) == 150
        assert len(await list_rejected(unit, limit=7)) == 7
        assert await list_rejected(unit, source="others") == []


async def test_names_and_reasons_with_anything_in_them_are_kept(hold: Holdfast) -> None:
    file, reason = "a\0b\udcff.json", "quotes 'x\0' " + "y" * 5_000
    run = indexer(hold)
    await run.run(items(MalformedRecord(reason), file=file))
    ((kept_file, _, kept_reason),) = await letters(hold)
    assert kept_file == "a\\0b\\udcff.json"
    assert kept_reason.startswith("quotes 'x\\0' yyy")
    assert len(kept_reason) == 2_000


async def test_the_same_place_may_be_rejected_twice_in_one_batch(hold: Holdfast) -> None:
    same = [Rejected(source="numbers", file="-", place="line 1", reason=r) for r in ("first", "second")]
    async with hold.unit() as unit:
        await reject(unit, same)
        await reject(unit, [])
    assert await letters(hold) == [("-", "line 1", "second")]


async def test_a_record_with_many_faults_of_its_sink_is_refused_for_the_sinks_reason(hold: Holdfast) -> None:
    class Picky(Readings):
        async def write(self, unit: Unit, records: Sequence[Any]) -> None:
            await super().write(unit, records)
            if 3 in records:
                raise InvalidValue("three is not to be had")

    await indexer(hold, Picky()).run(items(1, 2, 3, 4))
    assert await numbers(hold) == [1, 2, 4]
    assert [reason for _, _, reason in await letters(hold)] == ["three is not to be had"]


async def test_when_the_database_goes_what_was_committed_stays_and_a_second_run_completes(hold: Holdfast) -> None:
    class Flaky(Readings):
        async def write(self, unit: Unit, records: Sequence[Any]) -> None:
            await super().write(unit, records)
            if 6 in records:
                raise Unavailable("the database is gone")

    run = indexer(hold, Flaky())
    with pytest.raises(Unavailable, match="the database is gone"):
        await run.run(items(*range(10), MalformedRecord("x")))
    assert await numbers(hold) == [0, 1, 2, 3]
    assert await letters(hold) == []
    again = indexer(hold)
    await again.run(items(*range(10), MalformedRecord("x")))
    assert await numbers(hold) == list(range(10))
    assert again.rejected == 1


def lost() -> Unavailable:
    error = Unavailable("the database cannot be reached")
    error.__cause__ = ConnectionResetError()
    return error


async def test_a_database_that_restarts_is_waited_for(hold: Holdfast) -> None:
    failures = [lost(), lost()]

    class Interrupted(Readings):
        async def write(self, unit: Unit, records: Sequence[Any]) -> None:
            await super().write(unit, records)
            if failures and 6 in records:
                raise failures.pop()

    await indexer(hold, Interrupted()).run(items(*range(10)))
    assert await numbers(hold) == list(range(10))
    assert not failures


async def test_a_database_that_does_not_come_back_is_given_up(hold: Holdfast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_OUTAGE", 0.3)

    class Gone(Readings):
        async def write(self, unit: Unit, records: Sequence[Any]) -> None:
            raise lost()

    with pytest.raises(Unavailable, match="cannot be reached"):
        await indexer(hold, Gone()).run(items(1))


async def test_connections_that_the_server_ends_are_made_again(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    async with await Holdfast.open(postgres_url, metadata=Base.metadata) as hold:

        def source() -> Iterator[Item[Any]]:
            for number, item in enumerate(items(*range(40))):
                if number % 10 == 9:
                    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
                    postgres_server.execute(end)
                yield item

        await indexer(hold).run(source())
        assert await numbers(hold) == [n for n in range(40) if n != 13]


async def test_a_fault_of_the_program_is_no_fault_of_the_records(hold: Holdfast) -> None:
    class Broken(Readings):
        async def write(self, unit: Unit, records: Sequence[Any]) -> None:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        await indexer(hold, Broken()).run(items(1))
    assert await letters(hold) == []


async def test_a_source_that_fails_is_told_and_the_batch_before_it_is_kept(hold: Holdfast) -> None:
    def source() -> Iterator[Item[Any]]:
        yield from items(*range(4))
        raise HoldfastError("the source ended in the middle")

    with pytest.raises(HoldfastError, match="ended in the middle"):
        await indexer(hold).run(source())
    assert await numbers(hold) == [0, 1, 2, 3]


async def test_a_slow_source_is_stored_before_a_batch_is_full(hold: Holdfast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_PATIENCE", 0.05)
    go_on = threading.Event()

    def source() -> Iterator[Item[Any]]:
        for number, item in enumerate(items(*range(6))):
            if number in (1, 3):
                threading.Event().wait(0.1)
            if number == 3:
                assert go_on.wait(10)
            yield item

    running = asyncio.create_task(indexer(hold, batch=1_000).run(source()))
    while await numbers(hold) == []:  # noqa: ASYNC110  the database is what is looked at
        await asyncio.sleep(0.01)
    assert await numbers(hold) == [0, 1]
    go_on.set()
    await running
    assert await numbers(hold) == list(range(6))


async def test_who_wrote_is_in_the_journal(hold: Holdfast) -> None:
    start = await hold.journal.make_tick()
    await indexer(hold).run(items(1))
    upto = await hold.journal.make_tick()
    actors = {c.actor async for p in hold.journal.read(start, upto, tables=["readings"]) for c in p.changes}
    assert actors == {"index:numbers"}


async def test_after_each_batch_the_caller_is_told(hold: Holdfast) -> None:
    seen: list[int] = []
    run = indexer(hold)
    await run.run(items(*range(9)), after_batch=lambda: seen.append(1))
    assert len(seen) == 3


async def test_two_runs_over_the_same_records_at_once_end_as_one(hold: Holdfast) -> None:
    given = [*range(100), MalformedRecord("x")]
    await asyncio.gather(*(indexer(hold, batch=n).run(items(*given)) for n in (7, 11)))
    assert await numbers(hold) == [n for n in range(100) if n != 13]
    assert len(await letters(hold)) == 2
    async with hold.read() as unit:
        assert (await unit.execute(select(func.count()).select_from(Reading))).scalar() == 99


def test_the_example_in_the_guide_prints_what_it_says(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "indexing.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    (promised,) = re.findall(r"It prints `(.*?)`", guide)
    (tmp_path / "example.py").write_text(example)
    command = [sys.executable, "example.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == promised
