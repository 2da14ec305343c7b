"""Instructions as records: only for those who ask, with accounts as addresses and data as bytes."""

import json

import pytest

from holdfast.errors import MalformedRecord
from holdfast.upstreams.solana.parse import parse_answer, parse_transaction
from holdfast.upstreams.solana.records import Instruction
from tests.upstreams.drafts import (
    ALICE,
    ALICES,
    BOB,
    BOBS,
    CAROL,
    CAROLS,
    ENCODINGS,
    MEMO,
    MINT,
    OTHER_PROGRAM,
    PAYER,
    SYSTEM,
    TOKEN,
    Call,
    Draft,
    create_associated,
    hand_over,
    initialize,
    transfer,
    transfer_checked,
)

DRAFT = Draft(
    [
        Call(OTHER_PROGRAM, (ALICES, PAYER), b"\x02abc", inner=[transfer(ALICES, BOBS, ALICE, 1)]),
        transfer_checked(ALICES, BOBS, ALICE, 2),
        Call(MEMO, (), b"paid"),
    ]
)


@pytest.mark.parametrize("encoding", ["base64", "json", "base58"])
def test_every_instruction_in_execution_order(encoding):
    assert parse_transaction(DRAFT.answer(encoding), instructions=True).instructions == (
        Instruction(instruction=0, inner=None, program=OTHER_PROGRAM, accounts=(ALICES, PAYER), data=b"\x02abc"),
        Instruction(instruction=0, inner=0, program=TOKEN, accounts=(ALICES, BOBS, ALICE), data=b"\x03\1" + bytes(7)),
        Instruction(
            instruction=1,
            inner=None,
            program=TOKEN,
            accounts=(ALICES, MINT, BOBS, ALICE),
            data=b"\x0c\2" + bytes(7) + b"\6",
        ),
        Instruction(instruction=2, inner=None, program=MEMO, accounts=(), data=b"paid"),
    )


def test_parsed_forms_give_their_type_the_accounts_they_name_and_the_text_of_memos():
    seen = parse_transaction(DRAFT.answer("jsonParsed"), instructions=True).instructions
    assert [(i.instruction, i.inner, i.program, i.parsed_type, i.data) for i in seen] == [
        (0, None, OTHER_PROGRAM, None, b"\x02abc"),
        (0, 0, TOKEN, "transfer", b""),
        (1, None, TOKEN, "transferChecked", b""),
        (2, None, MEMO, None, b"paid"),
    ]
    assert seen[0].accounts == (ALICES, PAYER)
    assert sorted(seen[2].accounts) == sorted([ALICES, MINT, BOBS, ALICE])


def test_addresses_in_the_data_of_parsed_forms_are_not_taken_for_accounts():
    calls = [initialize(CAROLS, CAROL), hand_over(ALICES, ALICE, CAROL), create_associated(BOBS, BOB)]
    draft = Draft(calls, signers=[PAYER, CAROL])
    seen = parse_transaction(draft.answer("jsonParsed"), instructions=True).instructions
    assert [set(i.accounts) for i in seen] == [{CAROLS, MINT}, {ALICES, ALICE}, {PAYER, BOBS, BOB, MINT, SYSTEM, TOKEN}]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_they_are_left_out_unless_asked_for(encoding):
    assert parse_transaction(DRAFT.answer(encoding)).instructions == ()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_function_may_pick_the_transactions_that_get_them(encoding):
    asked = []

    def wanted(transaction):
        asked.append(transaction)
        return bool(transaction.transfers)

    with_transfers = parse_transaction(DRAFT.answer(encoding), instructions=wanted)
    without = parse_transaction(Draft([Call(MEMO, (), b"x")]).answer(encoding), instructions=wanted)
    assert len(with_transfers.instructions) == 4
    assert without.instructions == ()
    assert [transaction.instructions for transaction in asked] == [(), ()]
    assert with_transfers.transfers == asked[0].transfers


def test_data_that_is_not_base58_is_refused_where_it_is_read():
    answer = DRAFT.answer("json")
    answer["transaction"]["message"]["instructions"][0]["data"] = "0"
    assert len(parse_transaction(answer).transfers) == 2
    with pytest.raises(MalformedRecord, match="not base58"):
        parse_transaction(answer, instructions=True)
    ((_, problem),) = parse_answer(json.dumps(answer).encode(), instructions=True)
    assert isinstance(problem, MalformedRecord)
