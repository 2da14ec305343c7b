"""Token transfers, as transactions ask for them, alike in every encoding."""

import json

import pytest

from holdfast.upstreams.solana.parse import parse_transaction
from holdfast.upstreams.solana.records import TokenTransfer
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
    OTHER_MINT,
    OTHER_PROGRAM,
    PAYER,
    TOKEN,
    TOKEN_2022,
    Call,
    Draft,
    batch,
    close,
    holding,
    key,
    transfer,
    transfer_checked,
    transfer_with_fee,
    u64,
)

BEFORE = [holding(ALICES, ALICE), holding(BOBS, BOB), holding(CAROLS, CAROL)]


@pytest.fixture(params=ENCODINGS)
def encoding(request):
    return request.param


def transfers_of(draft: Draft, encoding: str) -> tuple[TokenTransfer, ...]:
    return parse_transaction(draft.answer(encoding)).transfers


def test_a_plain_transfer_gets_mint_and_decimals_from_the_balances(encoding):
    assert transfers_of(Draft([transfer(ALICES, BOBS, ALICE, 30)], BEFORE, BEFORE), encoding) == (
        TokenTransfer(
            instruction=0,
            inner=None,
            kind="transfer",
            program=TOKEN,
            mint=MINT,
            decimals=6,
            amount=30,
            fee=None,
            source=ALICES,
            source_owner=ALICE,
            destination=BOBS,
            destination_owner=BOB,
            authority=ALICE,
            successful=True,
        ),
    )


def test_a_checked_transfer_tells_its_mint_and_decimals_itself(encoding):
    moved = transfer_checked(ALICES, BOBS, ALICE, 2**64 - 1, mint=OTHER_MINT, decimals=9)
    (seen,) = transfers_of(Draft([moved]), encoding)
    assert (seen.kind, seen.mint, seen.decimals, seen.amount) == ("transferChecked", OTHER_MINT, 9, 2**64 - 1)
    assert (seen.source_owner, seen.destination_owner) == (None, None)


def test_a_transfer_with_fee_keeps_the_gross_amount_and_the_fee(encoding):
    (seen,) = transfers_of(Draft([transfer_with_fee(ALICES, BOBS, ALICE, 1000, 25)], BEFORE, BEFORE), encoding)
    assert (seen.kind, seen.program, seen.amount, seen.fee) == ("transferCheckedWithFee", TOKEN_2022, 1000, 25)
    assert (seen.mint, seen.decimals, seen.authority) == (MINT, 6, ALICE)


def test_a_fee_of_nothing_is_a_fee_of_nothing(encoding):
    (seen,) = transfers_of(Draft([transfer_with_fee(ALICES, BOBS, ALICE, 10, 0)]), encoding)
    assert seen.fee == 0


def test_the_authority_of_a_multisig_account_is_the_account_not_its_signers(encoding):
    multisig = key(50)
    moved = [
        transfer(ALICES, BOBS, multisig, 1),
        transfer_checked(ALICES, BOBS, multisig, 2),
        transfer_with_fee(ALICES, BOBS, multisig, 3, 1),
    ]
    for call in moved:
        call.accounts = (*call.accounts, key(51), key(52))
    assert [t.authority for t in transfers_of(Draft(moved, BEFORE, BEFORE), encoding)] == [multisig] * 3


def test_a_delegate_moves_tokens_of_the_owner(encoding):
    (seen,) = transfers_of(Draft([transfer(ALICES, BOBS, CAROL, 5)], BEFORE, BEFORE), encoding)
    assert (seen.authority, seen.source_owner) == (CAROL, ALICE)


def test_inner_transfers_come_in_execution_order_with_their_places(encoding):
    draft = Draft(
        [
            Call(OTHER_PROGRAM, (), b"a", inner=[Call(OTHER_PROGRAM, (), b"b"), transfer(ALICES, BOBS, ALICE, 1)]),
            transfer(ALICES, BOBS, ALICE, 2),
            Call(OTHER_PROGRAM, (), b"c", inner=[transfer_checked(ALICES, BOBS, ALICE, 3), close(CAROLS, CAROL)]),
        ],
        BEFORE,
        BEFORE,
    )
    places = [(t.instruction, t.inner, t.amount) for t in transfers_of(draft, encoding)]
    assert places == [(0, 1, 1), (1, None, 2), (2, 0, 3)]


def test_a_transfer_hook_called_by_a_transfer_is_not_a_second_one(encoding):
    moved = transfer_checked(ALICES, BOBS, ALICE, 9, program=TOKEN_2022)
    moved.accounts = (*moved.accounts, key(60), OTHER_PROGRAM)  # accounts for the hook follow the authority
    moved.inner = [
        Call(OTHER_PROGRAM, (ALICES, MINT, BOBS, ALICE, key(60)), b"\x69\x25\x65\xc5\x4b\xfb\x66\x1a" + u64(9))
    ]
    (seen,) = transfers_of(Draft([moved], BEFORE, BEFORE), encoding)
    assert (seen.amount, seen.authority, seen.inner) == (9, ALICE, None)


def test_a_transfer_to_the_same_account_is_kept(encoding):
    (seen,) = transfers_of(Draft([transfer(ALICES, ALICES, ALICE, 4)], BEFORE, BEFORE), encoding)
    assert (seen.source, seen.destination, seen.destination_owner) == (ALICES, ALICES, ALICE)


def test_a_transfer_of_nothing_is_kept(encoding):
    (seen,) = transfers_of(Draft([transfer(ALICES, BOBS, ALICE, 0)], BEFORE, BEFORE), encoding)
    assert seen.amount == 0


def test_a_failed_transaction_keeps_its_transfers_as_unsuccessful(encoding):
    error = {"InstructionError": [1, {"Custom": 1}]}
    draft = Draft([transfer(ALICES, BOBS, ALICE, 1), transfer(ALICES, BOBS, ALICE, 2)], BEFORE, BEFORE, err=error)
    seen = parse_transaction(draft.answer(encoding))
    assert (seen.successful, seen.error) == (False, '{"InstructionError":[1,{"Custom":1}]}')
    assert [(t.amount, t.successful) for t in seen.transfers] == [(1, False), (2, False)]


def test_accounts_from_lookup_tables_follow_the_static_ones_writable_first(encoding):
    draft = Draft(
        [Call(OTHER_PROGRAM, (), b"", inner=[transfer_checked(ALICES, BOBS, ALICE, 6, program=TOKEN_2022)])],
        BEFORE,
        BEFORE,
        version="0",
        loaded_writable=[BOBS, ALICES],
        loaded_readonly=[TOKEN_2022, MINT],
    )
    seen = parse_transaction(draft.answer(encoding))
    assert seen.version == "0"
    (moved,) = seen.transfers
    assert (moved.source, moved.destination, moved.mint) == (ALICES, BOBS, MINT)
    assert (moved.source_owner, moved.destination_owner) == (ALICE, BOB)


@pytest.mark.parametrize("version", ["legacy", "0", "1"])
def test_every_version_of_transactions_is_read(version, encoding):
    seen = parse_transaction(
        Draft([transfer(ALICES, BOBS, ALICE, 1)], BEFORE, BEFORE, version=version).answer(encoding)
    )
    assert (seen.version, seen.transfers[0].source_owner) == (version, ALICE)


def test_the_transfers_of_a_batch_are_told_apart_by_their_place_in_it(encoding):
    draft = Draft(
        [
            Call(OTHER_PROGRAM, (), b"", inner=[batch(transfer(ALICES, BOBS, ALICE, 1), close(CAROLS, CAROL))]),
            batch(close(CAROLS, CAROL), transfer(ALICES, BOBS, ALICE, 2), transfer_checked(ALICES, BOBS, ALICE, 3)),
            transfer(ALICES, BOBS, ALICE, 4),
        ],
        BEFORE,
        BEFORE,
    )
    seen = [(t.instruction, t.inner, t.batch, t.amount) for t in transfers_of(draft, encoding)]
    assert seen == [(0, 0, 0, 1), (1, None, 1, 2), (1, None, 2, 3), (2, None, None, 4)]


def test_accounts_left_over_after_a_batch_are_ignored(encoding):
    draft = Draft([batch(transfer(ALICES, BOBS, ALICE, 2), trailing=[CAROLS])], BEFORE, BEFORE)
    assert [t.amount for t in transfers_of(draft, encoding)] == [2]


NO_TRANSFERS = {
    "no data": Call(TOKEN, (ALICES, BOBS, ALICE), b""),
    "amount cut short": Call(TOKEN, (ALICES, BOBS, ALICE), b"\x03" + bytes(7)),
    "too few accounts": Call(TOKEN, (ALICES, BOBS), b"\x03" + bytes(8)),
    "checked without decimals": Call(TOKEN, (ALICES, MINT, BOBS, ALICE), b"\x0c" + bytes(8)),
    "checked with too few accounts": Call(TOKEN, (ALICES, MINT, BOBS), b"\x0c" + bytes(9)),
    "with fee cut short": Call(TOKEN_2022, (ALICES, MINT, BOBS, ALICE), b"\x1a\x01" + bytes(16)),
    "another instruction of the fee extension": Call(TOKEN_2022, (ALICES, MINT, BOBS, ALICE), b"\x1a\x04" + bytes(17)),
    "unknown instruction": Call(TOKEN, (ALICES, BOBS, ALICE), b"\x63" + bytes(8)),
    "another program": Call(OTHER_PROGRAM, (ALICES, BOBS, ALICE), b"\x03" + u64(7)),
    "a batch in a batch": batch(batch(transfer(ALICES, BOBS, ALICE, 7))),
    "an empty batch": Call(TOKEN, (), b"\xff"),
    "a batch cut short": Call(TOKEN, (ALICES, BOBS, ALICE), b"\xff\x03\x09\x03"),
    "a batch with too few accounts": Call(TOKEN, (ALICES, BOBS), b"\xff\x03\x09\x03" + bytes(8)),
}


@pytest.mark.parametrize("name", NO_TRANSFERS)
def test_instructions_that_can_move_nothing_are_no_transfers(name, encoding):
    draft = Draft([NO_TRANSFERS[name], transfer(ALICES, BOBS, ALICE, 1)], BEFORE, BEFORE, err="AccountInUse")
    assert [(t.instruction, t.amount) for t in transfers_of(draft, encoding)] == [(1, 1)]


def test_bytes_after_the_fields_of_a_transfer_are_ignored_as_the_program_does(encoding):
    moved = transfer(ALICES, BOBS, ALICE, 8)
    moved.data += b"\xaa\xbb"
    assert [t.amount for t in transfers_of(Draft([moved], BEFORE, BEFORE), encoding)] == [8]


def test_what_the_transaction_itself_says(encoding):
    draft = Draft([Call(MEMO, (), b"hello")], signers=[PAYER, ALICE])
    seen = parse_transaction(draft.answer(encoding))
    assert (seen.fee_payer, seen.signers, seen.fee) == (PAYER, (PAYER, ALICE), 5000)
    assert (seen.slot, seen.block_time, seen.successful, seen.error) == (300_000_000, 1_750_000_000, True, None)
    assert seen.transfers == seen.instructions == ()
    assert len(seen.signature) in range(64, 89)


def test_slot_and_time_stand_in_only_for_what_the_record_leaves_out(encoding):
    answer = Draft([Call(MEMO, (), b"hello")]).answer(encoding)
    seen = parse_transaction(answer, slot=7, block_time=8)
    assert (seen.slot, seen.block_time) == (300_000_000, 1_750_000_000)
    del answer["slot"], answer["blockTime"]
    seen = parse_transaction(answer, slot=7, block_time=8)
    assert (seen.slot, seen.block_time) == (7, 8)
    seen = parse_transaction(answer)
    assert (seen.slot, seen.block_time) == (None, None)


def test_the_version_is_worked_out_where_an_old_node_does_not_name_it(encoding):
    for version in ("legacy", "0"):
        answer = Draft([Call(MEMO, (), b"hello")], version=version).answer(encoding)
        del answer["version"]
        assert parse_transaction(answer).version == version


def test_old_answers_without_inner_instructions_balances_or_loaded_addresses_are_read(encoding):
    draft = Draft([transfer(ALICES, BOBS, ALICE, 1)])
    for leave_out in (False, True):
        answer = draft.answer(encoding)
        for name in ("innerInstructions", "preTokenBalances", "postTokenBalances", "loadedAddresses"):
            answer["meta"][name] = None
            if leave_out:
                del answer["meta"][name]
        (seen,) = parse_transaction(answer).transfers
        assert (seen.amount, seen.mint, seen.decimals, seen.source_owner) == (1, None, None, None)


def test_json_text_bytes_and_envelopes_are_one_and_the_same(encoding):
    answer = Draft([transfer(ALICES, BOBS, ALICE, 1)], BEFORE, BEFORE).answer(encoding)
    expected = parse_transaction(answer)
    for form in (answer, {"jsonrpc": "2.0", "result": answer, "id": 1}):
        assert parse_transaction(form) == expected
        assert parse_transaction(json.dumps(form)) == expected
        assert parse_transaction(json.dumps(form, indent=2).encode()) == expected
