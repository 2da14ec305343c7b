"""Input for the `index` benchmark: transactions as a block has them, each with a signature of its own."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import msgspec

from holdfast.upstreams.solana import base58

REAL = Path(__file__).parents[2] / "shared" / "data" / "solana"  # mainnet answers, where somebody has them
VOTES = 2  # to every other transaction, as on mainnet
_VOTE = "Vote111111111111111111111111111111111111111"

Template = Callable[[bytes], bytes]  # a signature (64 bytes) → a getTransaction answer with it


@dataclass(frozen=True, slots=True)
class Input:
    """What is measured.

    Attributes:
        name: what they are, in a few words.
        source: where they come from.
        templates: one answer each, in the proportions of a block.
        swaps: those among them that take the most work: DEX trades.
    """

    name: str
    source: str
    templates: list[Template]
    swaps: list[Template]


def find_input() -> Input:
    """Real mainnet transactions where they are at hand, else those of the packaged sample ledger."""
    files = sorted(REAL.rglob("*.json"))
    if not files:
        from holdfast.apps.agents import sample

        packaged = [_template(msgspec.json.decode(line)) for line in islice(sample.ledger(), 1_000)]
        source = f"{len(packaged)} transactions of the packaged sample ledger, which a Solana VM has run"
        return Input("sample ledger", source, packaged, packaged)
    votes: list[Template] = []
    others: list[Template] = []
    swaps: list[Template] = []
    for file in files:
        for answer in _answers(msgspec.json.decode(file.read_bytes())):
            template = _template(answer)
            (votes if _VOTE in _keys(answer) else others).append(template)
            if file.parent.name.startswith("transactions_"):
                swaps.append(template)
    mixed = [part for other, vote in zip(others, _pairs(votes), strict=False) for part in (other, *vote)]
    source = f"{len(others)} real transactions of mainnet and devnet, with {VOTES} votes to each as in a block"
    return Input("real, as in a block", source, mixed, swaps)


def lines(templates: list[Template], *, seed: int) -> Iterator[bytes]:
    """JSON lines for ever, no signature twice."""
    draw = random.Random(seed)
    for template in cycle(templates):
        yield template(draw.randbytes(64)) + b"\n"


def write(file: Path, templates: list[Template], *, transactions: int = 0, size: int = 0, seed: int = 1) -> int:
    """Write so many transactions, or so many bytes; returns how many transactions that were."""
    count = 0
    with file.open("wb", buffering=1 << 20) as out:
        written = 0
        for line in lines(templates, seed=seed):
            if count >= transactions and written >= size:
                break
            written += out.write(line)
            count += 1
    return count


def _pairs(votes: list[Template]) -> Iterator[tuple[Template, ...]]:
    turn = cycle(votes)
    while True:
        yield tuple(islice(turn, VOTES))


def _answers(document: Any) -> Iterator[dict[str, Any]]:
    document = document.get("result", document)
    if "transactions" not in document:
        yield document
        return
    slot = document.get("parentSlot", 0) + 1
    for entry in document["transactions"]:
        yield {"slot": slot, "blockTime": document.get("blockTime"), **entry}


def _keys(answer: dict[str, Any]) -> list[str]:
    transaction = answer["transaction"]
    if isinstance(transaction, dict):
        keys = transaction["message"]["accountKeys"]
        return [key if isinstance(key, str) else key["pubkey"] for key in keys]
    raw = base64.b64decode(transaction[0])
    signatures = raw[0]
    message = 1 + 64 * signatures
    message += raw[message] >> 7  # the version's byte
    return [base58.encode(raw[at : at + 32]) for at in range(message + 4, message + 4 + 32 * raw[message + 3], 32)]


def _template(answer: dict[str, Any]) -> Template:
    transaction = answer["transaction"]
    whole = msgspec.json.encode(answer)
    if isinstance(transaction, dict):
        before, _, after = whole.partition(transaction["signatures"][0].encode())
        return lambda signature: before + base58.encode(signature).encode() + after
    raw = base64.b64decode(transaction[0])
    before, _, after = whole.partition(transaction[0].encode())
    head, tail = raw[:1], raw[65:]
    return lambda signature: before + base64.b64encode(head + signature + tail) + after
