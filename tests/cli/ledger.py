"""A few transactions: payments through a facilitator that everybody knows, failed attempts, other transfers."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from tests.upstreams.drafts import (
    ALICE,
    ALICES,
    BOB,
    BOBS,
    CAROL,
    CAROLS,
    MINT,
    OTHER_MINT,
    Call,
    Draft,
    holding,
    transfer,
    transfer_checked,
)
from tests.upstreams.encodings import base58_reference

FACILITATOR = "2wKupLR9q6wXYppw8Gr2NvWxKBUqm4PPJKkQfoxHDBg4"  # PayAI, of the shipped list
BUDGET = "ComputeBudget111111111111111111111111111111"


def signature(number: int) -> str:
    """The signature of transaction `number`."""
    return base58_reference((number + (1 << 500)).to_bytes(64, "big"))


def payment(number: int, *, failed: bool = False, amount: int | None = None) -> dict[str, Any]:
    """Alice pays Bob 1,000 + `number` base units of `MINT`, or `amount`; the transfer is instruction 2."""
    answer = _numbered(_payment(failed), number)
    data = transfer_checked(ALICES, BOBS, ALICE, 1_000 + number if amount is None else amount).data
    answer["transaction"]["message"]["instructions"][2]["data"] = base58_reference(data)
    return answer


def gift(number: int) -> dict[str, Any]:
    """Carol sends Bob `number` base units of `OTHER_MINT`, and pays for it herself: no payment."""
    answer = _numbered(_gift(), number)
    data = transfer(CAROLS, BOBS, CAROL, number).data
    answer["transaction"]["message"]["instructions"][0]["data"] = base58_reference(data)
    return answer


def lines(*answers: Any) -> bytes:
    """JSON lines."""
    return b"".join(json.dumps(answer).encode() + b"\n" for answer in answers)


def ledger(count: int, start: int = 1) -> bytes:
    """`count` transactions: in ten there are six payments, one failed attempt and three gifts."""
    made = (payment(n, failed=n % 10 == 6) if n % 10 < 7 else gift(n) for n in range(start, start + count))
    return lines(*made)


def write(path: Path, content: bytes) -> Path:
    """`content` in a new file, whose folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@cache
def _payment(failed: bool) -> str:
    budget = [Call(BUDGET, (), b"\2" + (20_000).to_bytes(4, "little")), Call(BUDGET, (), b"\3" + bytes([1] + [0] * 7))]
    holdings = (holding(ALICES, ALICE), holding(BOBS, BOB))
    draft = Draft(
        calls=[*budget, transfer_checked(ALICES, BOBS, ALICE, 0)],
        before=holdings,
        after=holdings,
        signers=(FACILITATOR, ALICE),
        err={"InstructionError": [2, {"Custom": 1}]} if failed else None,
    )
    return json.dumps(draft.answer("json"))


@cache
def _gift() -> str:
    holdings = (holding(CAROLS, CAROL, OTHER_MINT), holding(BOBS, BOB, OTHER_MINT))
    draft = Draft(calls=[transfer(CAROLS, BOBS, CAROL, 0)], before=holdings, after=holdings, signers=(CAROL,))
    return json.dumps(draft.answer("json"))


def _numbered(template: str, number: int) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(template)
    answer["transaction"]["signatures"][0] = signature(number)
    return answer | {"slot": 300_000_000 + number, "blockTime": 1_750_000_000 + number * 60}


__all__ = ["MINT", "OTHER_MINT", "gift", "ledger", "lines", "payment", "signature", "write"]
