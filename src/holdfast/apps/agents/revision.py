"""What rows that are there take over when their transaction is indexed again.

A block's answer has no slot, an answer without balances no owners, and a recogniser may know more facilitators than
the one before. So gaps are filled, and the judgement of a transaction is replaced, as a whole, by a better founded
one: a higher confidence in its best transfer. Neither depends on what is indexed first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Table, and_, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from holdfast.apps.agents.models import TokenTransfer, X402Payment, X402Transaction
from holdfast.model import Model
from holdfast.store import Unit

Row = dict[str, Any]

TRANSFER_KEY = ("signature", "instruction", "inner_instruction", "batched")
PAYMENT_KEY = ("signature", "instruction", "inner_instruction")
TRANSACTION_KEY = ("signature",)

_TRANSFER_GAPS = ("slot", "block_time", "mint", "decimals", "source_owner", "destination_owner")
_GAPS = ("slot", "block_time")
_JUDGEMENT = ("payment", "confidence", "reason")
_SIGNATURES = 500  # a statement


class Known(NamedTuple):
    """What is to be done about transactions that were there before their rows were inserted, by signature."""

    better_founded: set[str]  # the new rows judge with more confidence
    incomplete: set[str]  # something is NULL in the rows that were there


async def look_up(unit: Unit, transfers: Sequence[Row]) -> Known:
    """What is known of the transactions of these rows, which have been inserted as far as they were not there."""
    best: dict[str, float] = {}
    for row in transfers:
        best[row["signature"]] = max(row["confidence"], best.get(row["signature"], 0.0))
    inserted = {row["id"] for row in transfers}
    before: dict[str, float] = {}
    incomplete: set[str] = set()
    table = _table(TokenTransfer)
    has_gap = or_(*(table.c[name].is_(None) for name in _TRANSFER_GAPS))
    stored = select(table.c.id, table.c.signature, table.c.confidence, has_gap)
    signatures = list(best)
    for start in range(0, len(signatures), _SIGNATURES):
        part = stored.where(table.c.signature.in_(signatures[start : start + _SIGNATURES]))
        rows: Iterable[Any] = await unit.execute(part)
        for key, signature, confidence, gap in rows:
            if key not in inserted:
                before[signature] = max(confidence, before.get(signature, 0.0))
                if gap:
                    incomplete.add(signature)
    return Known({signature for signature, confidence in before.items() if confidence < best[signature]}, incomplete)


async def complete(
    unit: Unit, known: Known, transfers: Sequence[Row], transactions: Sequence[Row], payments: Sequence[Row]
) -> None:
    """Fill what is NULL in rows that are there with what these rows say."""
    for model, rows, key, gaps in (
        (TokenTransfer, transfers, TRANSFER_KEY, _TRANSFER_GAPS),
        (X402Transaction, transactions, TRANSACTION_KEY, _GAPS),
        (X402Payment, payments, PAYMENT_KEY, _GAPS),
    ):
        given = [r for r in rows if r["signature"] in known.incomplete and any(r[n] is not None for n in gaps)]
        if given:
            await _fill(unit, _table(model), given, key, gaps)


async def judge_again(unit: Unit, transfers: Sequence[Row]) -> None:
    """Give transfers the judgement in these rows, all those of their transactions; removes their payments."""
    transfer = _table(TokenTransfer)
    place = and_(*(transfer.c[name] == bindparam(f"{name}_") for name in TRANSFER_KEY))
    judged = update(transfer).where(place).values({name: bindparam(f"{name}_") for name in _JUDGEMENT})
    values = [{f"{name}_": row[name] for name in (*TRANSFER_KEY, *_JUDGEMENT)} for row in transfers]
    signatures = [{"of": signature} for signature in sorted({row["signature"] for row in transfers})]
    connection = await unit.connection()
    with unit.translated():
        await connection.execute(judged, values)
        for model in (X402Payment, X402Transaction):
            table = _table(model)
            await connection.execute(delete(table).where(table.c.signature == bindparam("of")), signatures)


async def _fill(unit: Unit, table: Table, rows: list[Row], key: Sequence[str], gaps: Sequence[str]) -> None:
    statement: Any = (sqlite.insert if unit.store.dialect == "sqlite" else postgresql.insert)(table)
    new = statement.excluded
    filled = {name: func.coalesce(table.c[name], new[name]) for name in gaps}
    gap = or_(*(and_(table.c[name].is_(None), new[name].is_not(None)) for name in gaps))
    connection = await unit.connection()
    with unit.translated():
        await connection.execute(statement.on_conflict_do_update(index_elements=key, set_=filled, where=gap), rows)


def _table(model: type[Model]) -> Table:
    return model.__table__  # type: ignore[return-value]
