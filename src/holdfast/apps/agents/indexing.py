"""Indexing Solana transactions from files into the agents app."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from holdfast.apps.agents.facilitators import fee_payers, load_facilitators
from holdfast.apps.agents.ledger import Counts, PaymentLedger
from holdfast.apps.agents.recognition import Recogniser, RecognitionConfig, load_recognition
from holdfast.hold import Holdfast
from holdfast.index import Indexer, Item
from holdfast.upstreams.solana.read import read_records
from holdfast.upstreams.solana.records import Transaction

_LINES_KEPT = 20  # rejected records that are told at once; all of them are in the table


def make_recogniser(facilitators: Path | None = None, recognition: Path | None = None) -> Recogniser:
    """A recogniser that knows the shipped facilitators and what the given files add.

    Raises:
        ConfigurationError: a file cannot be read, or does not say what it should.
    """
    config = RecognitionConfig(facilitators=fee_payers(load_facilitators(facilitators)))
    if recognition is not None:
        config = config.merged(load_recognition(recognition))
    return Recogniser(config)


class SolanaFiles:
    """One run over files of Solana transactions. `counts` and `rejected` say what it read."""

    def __init__(self, hold: Holdfast, recogniser: Recogniser, *, keep_all: bool = False) -> None:
        self._ledger = PaymentLedger(recogniser, keep_all=keep_all)
        self._indexer = Indexer[Transaction](hold.store, "solana", self._ledger)
        self._wants = recogniser.wants

    @property
    def counts(self) -> Counts:
        """What was read and committed so far."""
        return self._ledger.counts

    @property
    def rejected(self) -> int:
        """How many records were set aside."""
        return self._indexer.rejected

    def rejected_lines(self) -> list[str]:
        """The first rejected records, one line each: file, place, reason."""
        return [
            f"{r.file}{f', {r.place}' if r.place else ''}: {r.reason}"
            for r in self._indexer.first_rejected[:_LINES_KEPT]
        ]

    async def index(self, paths: Sequence[str | Path], *, on_bytes: Callable[[int], None] | None = None) -> None:
        """Index everything in `paths`; `on_bytes` is told how many bytes were read."""
        await self._indexer.run(self._items(paths, on_bytes))

    def _items(
        self, paths: Sequence[str | Path], on_bytes: Callable[[int], None] | None
    ) -> Iterator[Item[Transaction]]:
        for found in read_records(paths, instructions=self._wants, on_bytes=on_bytes):
            yield Item(found.file, str(found.place), found.record)
