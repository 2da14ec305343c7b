"""Token transfers as they are shown outside."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from holdfast.apps.agents.models import TOP_LEVEL, TokenTransfer
from holdfast.hold import Holdfast
from holdfast.store import Query


class TransferRow(msgspec.Struct, frozen=True, kw_only=True):
    """One token transfer. Amounts are base units, as text: they may exceed what JSON numbers keep exactly."""

    signature: str
    slot: int | None
    instruction: int
    inner: int | None  # None at top level
    kind: str
    mint: str | None
    decimals: int | None
    amount: str
    fee: str | None
    source: str
    source_owner: str | None
    destination: str
    destination_owner: str | None
    authority: str
    successful: bool
    payment: bool
    confidence: float
    reason: str


async def stream_transfers(
    hold: Holdfast, *, successful: bool | None = None, mint: str | None = None
) -> AsyncIterator[TransferRow]:
    """Every kept transfer that fits, in the order of indexing, in flat memory."""
    query = Query(TokenTransfer).order_by("id")
    if successful is not None:
        query = query.where(successful=successful)
    if mint is not None:
        query = query.where(mint=mint)
    async with hold.read() as unit:
        async for t in unit[TokenTransfer].stream(query):
            yield TransferRow(
                signature=t.signature,
                slot=t.slot,
                instruction=t.instruction,
                inner=None if t.inner_instruction == TOP_LEVEL else t.inner_instruction,
                kind=t.kind,
                mint=t.mint,
                decimals=t.decimals,
                amount=str(t.amount),
                fee=None if t.fee is None else str(t.fee),
                source=t.source,
                source_owner=t.source_owner,
                destination=t.destination,
                destination_owner=t.destination_owner,
                authority=t.authority,
                successful=t.successful,
                payment=t.payment,
                confidence=t.confidence,
                reason=t.reason,
            )
