"""One subject of the `index` benchmark, in a process of its own on one processor: what it did, as JSON.

python -m benchmarks.index_worker SUBJECT FILE FOLDER
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a subject did, without starting up.

    Attributes:
        transactions: how many it read.
        kept: rows of `token_transfers` it wrote.
        processor: seconds of processor time, the system's for it included.
        wall: seconds by the clock.
        peak: bytes of memory the process had at most, files that are mapped into it included.
    """

    transactions: int
    kept: int
    processor: float
    wall: float
    peak: int


Subject = Callable[[Path, Path], Awaitable[tuple[int, int]]]  # file, folder → transactions, rows kept


async def decode_with_msgspec(file: Path, folder: Path) -> tuple[int, int]:
    """The limit of any indexer in Python: every line decoded, nothing looked at."""
    return _decode(file, msgspec.json.decode)


async def decode_with_json(file: Path, folder: Path) -> tuple[int, int]:
    """The same by the standard library."""
    return _decode(file, json.loads)


async def parse(file: Path, folder: Path) -> tuple[int, int]:
    """Parsed and judged, and not stored."""
    from holdfast.apps.agents.indexing import make_recogniser

    recogniser = make_recogniser()
    count = 0
    for transaction in _transactions(file, recogniser.wants):
        recogniser.recognise(transaction)
        count += 1
    return count, 0


async def index_all(file: Path, folder: Path) -> tuple[int, int]:
    """`holdfast index solana FILE --all`."""
    return await _index(file, folder, keep_all=True)


async def index_payments(file: Path, folder: Path) -> tuple[int, int]:
    """`holdfast index solana FILE`."""
    return await _index(file, folder, keep_all=False)


async def write_row_by_row(file: Path, folder: Path) -> tuple[int, int]:
    """The same parser and the same captured tables, written as one does without a thought: an ORM object a row."""
    from holdfast import Holdfast
    from holdfast.apps import agents
    from holdfast.apps.agents.indexing import make_recogniser
    from holdfast.apps.agents.ledger import moment
    from holdfast.apps.agents.models import TOP_LEVEL, TokenTransfer

    recogniser = make_recogniser()
    transactions = kept = 0
    async with await Holdfast.open(_url(folder), metadata=agents.metadata) as hold:
        for transaction in _transactions(file, recogniser.wants):
            transactions += 1
            if not transaction.transfers:
                continue
            judged = zip(transaction.transfers, recogniser.recognise(transaction), strict=True)
            async with hold.unit(actor="benchmark") as unit:
                for transfer, judgement in judged:
                    kept += 1
                    unit.add(
                        TokenTransfer(
                            signature=transaction.signature,
                            instruction=transfer.instruction,
                            inner_instruction=TOP_LEVEL if transfer.inner is None else transfer.inner,
                            slot=transaction.slot,
                            block_time=moment(transaction.block_time),
                            kind=transfer.kind,
                            mint=transfer.mint,
                            decimals=transfer.decimals,
                            amount=transfer.amount,
                            fee=transfer.fee,
                            source=transfer.source,
                            source_owner=transfer.source_owner,
                            destination=transfer.destination,
                            destination_owner=transfer.destination_owner,
                            authority=transfer.authority,
                            successful=transfer.successful,
                            payment=judgement.payment,
                            confidence=judgement.confidence,
                            reason=judgement.reason,
                        )
                    )
    return transactions, kept


SUBJECTS: dict[str, Subject] = {
    subject.__name__: subject
    for subject in (decode_with_msgspec, decode_with_json, parse, index_all, index_payments, write_row_by_row)
}


async def _index(file: Path, folder: Path, *, keep_all: bool) -> tuple[int, int]:
    from holdfast import Holdfast
    from holdfast.apps import agents
    from holdfast.apps.agents.indexing import SolanaFiles, make_recogniser
    from holdfast.apps.agents.models import TokenTransfer

    async with await Holdfast.open(_url(folder), metadata=agents.metadata) as hold:
        run = SolanaFiles(hold, make_recogniser(), keep_all=keep_all)
        await run.index([file])
        if run.rejected or run.counts.duplicates:
            raise RuntimeError(f"{run.rejected} rejected, {run.counts.duplicates} twice: {run.rejected_lines()[:1]}")
        async with hold.read() as unit:
            return run.counts.transactions, await unit[TokenTransfer].count()


def _transactions(file: Path, wanted: Any) -> Iterator[Any]:
    from holdfast.errors import MalformedRecord
    from holdfast.upstreams.solana.read import read_records

    for found in read_records([file], instructions=wanted):
        if isinstance(found.record, MalformedRecord):
            raise found.record
        yield found.record


def _decode(file: Path, decode: Callable[[bytes], Any]) -> tuple[int, int]:
    count = 0
    with file.open("rb") as lines:
        for line in lines:
            decode(line)
            count += 1
    return count, 0


def _url(folder: Path) -> str:
    return f"sqlite:///{folder / 'holdfast.db'}"


def main() -> None:
    """Run one subject and print its `Outcome`."""
    subject, file, folder = SUBJECTS[sys.argv[1]], Path(sys.argv[2]), Path(sys.argv[3])
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    async def timed() -> Outcome:
        if subject not in (decode_with_msgspec, decode_with_json):
            from holdfast import Holdfast
            from holdfast.apps import agents

            # Imports and migrations are done before the clock starts.
            async with await Holdfast.open(_url(folder), metadata=agents.metadata):
                pass
        processor, wall = time.process_time(), time.perf_counter()
        transactions, kept = await subject(file, folder)
        return Outcome(
            transactions=transactions,
            kept=kept,
            processor=time.process_time() - processor,
            wall=time.perf_counter() - wall,
            peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )

    sys.stdout.write(msgspec.json.encode(asyncio.run(timed())).decode() + "\n")


if __name__ == "__main__":
    main()
