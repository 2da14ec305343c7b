"""Real transactions, where they are at hand, and made ones everywhere: checked against the balances."""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import MalformedRecord
from holdfast.upstreams.solana.parse import parse_answer, parse_transaction
from holdfast.upstreams.solana.read import read_records
from tests.upstreams.balance_oracle import disagreements
from tests.upstreams.drafts import (
    ALICE,
    ALICES,
    BOB,
    BOBS,
    OTHER_PROGRAM,
    Call,
    Draft,
    create_associated,
    holding,
    initialize,
    transfer,
    transfer_with_fee,
)
from tests.upstreams.encodings import transcode

SAMPLES = Path(__file__).parents[2].parent / "shared" / "data" / "solana"
REAL_FILES = sorted(SAMPLES.rglob("*.json")) if SAMPLES.is_dir() else []

MADE: list[dict[str, Any]] = [
    draft.answer()
    for draft in (
        Draft(
            [transfer(ALICES, BOBS, ALICE, 30)],
            [holding(ALICES, ALICE, amount=100), holding(BOBS, BOB, amount=5)],
            [holding(ALICES, ALICE, amount=70), holding(BOBS, BOB, amount=35)],
        ),
        Draft(
            [
                create_associated(BOBS, BOB, inner=[initialize(BOBS, BOB)]),
                transfer_with_fee(ALICES, BOBS, ALICE, 30, 2),
            ],
            [holding(ALICES, ALICE, amount=100)],
            [holding(ALICES, ALICE, amount=70), holding(BOBS, BOB, amount=28)],
            version="0",
        ),
        Draft(
            [Call(OTHER_PROGRAM, (), b"", inner=[transfer(ALICES, BOBS, ALICE, 1)])],
            [holding(ALICES, ALICE), holding(BOBS, BOB)],
            [holding(ALICES, ALICE), holding(BOBS, BOB)],
            err={"InstructionError": [0, {"Custom": 6001}]},
        ),
    )
]


def _entries(path: Path) -> list[dict[str, Any]]:
    document = json.loads(path.read_bytes())
    result = document.get("result", document)
    return result.get("transactions", [result])


BINARY: list[Any] = [pytest.param(MADE, id="made by hand")] + [
    pytest.param(entries, id=path.name[:40])
    for path in REAL_FILES
    if isinstance((entries := _entries(path))[0]["transaction"], list)
]


@pytest.mark.parametrize("entries", BINARY)
def test_transfers_agree_with_the_balances(entries):
    for entry in entries:
        transaction = parse_transaction(entry)
        assert transaction.successful == (entry["meta"]["err"] is None)
        assert all(transfer.successful == transaction.successful for transfer in transaction.transfers)
        if transaction.successful:
            assert disagreements(transcode(entry, "jsonParsed"), transaction)[1] == []
            for moved in transaction.transfers:
                assert None not in (moved.mint, moved.decimals, moved.source_owner, moved.destination_owner)


@pytest.mark.parametrize("entries", BINARY)
def test_the_encodings_agree(entries):
    for entry in entries:
        expected = parse_transaction(entry)
        assert parse_transaction(transcode(entry, "json")) == expected
        assert parse_transaction(transcode(entry, "jsonParsed")) == expected


def test_the_balances_would_show_a_wrong_amount_mint_or_owner():
    """The check above can fail: each of these changes is noticed."""
    entry = MADE[0]
    transaction = parse_transaction(entry)
    parsed = transcode(entry, "jsonParsed")
    assert disagreements(parsed, transaction) == (2, [])
    for change in ({"amount": 31}, {"mint": ALICE}, {"source_owner": BOB}, {"decimals": 5}):
        fields = {name: getattr(transaction.transfers[0], name) for name in transaction.transfers[0].__struct_fields__}
        wrong = type(transaction.transfers[0])(**fields | change)
        assert disagreements(parsed, type(transaction)(**_fields(transaction) | {"transfers": (wrong,)}))[1]


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def _read(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


# Answers of one node for one thing, in several encodings.
SAME: list[Any] = [
    pytest.param(
        [
            json.dumps({"blockTime": 1, "transactions": [transcode(entry, encoding) for entry in MADE]}).encode()
            for encoding in ("json", "jsonParsed")
        ],
        id="made by hand",
    )
]
if REAL_FILES:
    SAME += [
        pytest.param(
            [_read(f"solders/{name}_{encoding}_encoding.json") for encoding in ("base64", "json", "json_parsed")],
            id=name,
        )
        for name in ("get_block", "get_transaction")
    ] + [
        pytest.param([path.read_bytes(), _read(f"transactions_json/{path.name}")], id=path.name[:20])
        for path in sorted((SAMPLES / "transactions_base64").iterdir())
    ]


@pytest.mark.parametrize("answers", SAME)
def test_answers_of_a_node_in_several_encodings_are_one(answers):
    first, *others = [parse_answer(answer) for answer in answers]
    assert first
    assert not any(isinstance(record, MalformedRecord) for _, record in first)
    for other in others:
        assert other == first


def test_every_sample_is_read_whole(tmp_path):
    (tmp_path / "made.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in MADE))
    found = list(read_records([tmp_path, *REAL_FILES]))
    assert [str(each.record) for each in found if isinstance(each.record, MalformedRecord)] == []
    assert len(found) == len(MADE) + sum(len(_entries(path)) for path in REAL_FILES)
