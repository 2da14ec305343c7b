"""What holds for any transaction, and for any damage to one."""

import contextlib
import copy
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import MalformedRecord
from holdfast.upstreams.solana.parse import parse_answer, parse_transaction
from holdfast.upstreams.solana.records import Transaction
from tests.upstreams.drafts import (
    ALICE,
    ALICES,
    ASSOCIATED,
    BOB,
    BOBS,
    CAROL,
    CAROLS,
    MEMO,
    MINT,
    OTHER_MINT,
    OTHER_PROGRAM,
    TEMPORARY,
    TOKEN,
    TOKEN_2022,
    WRAPPED_SOL,
    Call,
    Draft,
    batch,
    close,
    create_associated,
    hand_over,
    holding,
    initialize,
    transfer,
    transfer_checked,
    transfer_with_fee,
)

accounts = st.sampled_from([ALICES, BOBS, CAROLS, TEMPORARY])
owners = st.sampled_from([ALICE, BOB, CAROL])
mints = st.sampled_from([MINT, OTHER_MINT, WRAPPED_SOL])
amounts = st.integers(0, 2**64 - 1)
programs = st.sampled_from([TOKEN, TOKEN_2022])
any_account = accounts | owners | mints

token_calls = st.one_of(
    st.builds(transfer, accounts, accounts, owners, amounts, programs),
    st.builds(
        transfer_checked, accounts, accounts, owners, amounts, mint=mints, decimals=st.integers(0, 20), program=programs
    ),
    st.builds(transfer_with_fee, accounts, accounts, owners, amounts, amounts, mint=mints),
    st.builds(initialize, accounts, owners, mints, st.sampled_from([1, 2, 3]), programs),
    st.builds(hand_over, accounts, owners, owners, st.integers(0, 3)),
    st.builds(close, accounts, owners),
)
any_data = st.builds(
    lambda tag, rest: bytes([tag]) + rest,
    st.sampled_from([0, 1, 3, 6, 7, 8, 12, 14, 15, 16, 18, 20, 26, 255]),
    st.binary(max_size=40),
)
calls = st.one_of(
    token_calls,
    token_calls,
    st.builds(lambda parts: batch(*parts), st.lists(token_calls, min_size=1, max_size=3)),
    st.builds(create_associated, accounts, owners, mints, st.sampled_from([b"", b"\0", b"\1"]), programs),
    st.builds(Call, st.sampled_from([OTHER_PROGRAM, TOKEN, ASSOCIATED]), st.lists(any_account, max_size=7), any_data),
    st.builds(Call, st.just(MEMO), st.lists(owners, max_size=2), st.text(max_size=5).map(str.encode)),
)


def called(call: Call, inner: list[Call]) -> Call:
    return Call(call.program, call.accounts, call.data, inner)


balances = st.lists(
    st.builds(holding, accounts, st.none() | owners, mints, amounts, st.just(6)),
    max_size=4,
    unique_by=lambda b: b["account"],
)
drafts = st.builds(
    Draft,
    st.lists(st.builds(called, calls, st.lists(calls, max_size=3)), min_size=1, max_size=4),
    balances,
    balances,
    version=st.sampled_from(["legacy", "0", "1"]),
    err=st.sampled_from([None, None, {"InstructionError": [0, {"Custom": 1}]}]),
)


@given(drafts)
@settings(max_examples=200)
def test_the_encodings_of_a_transaction_say_the_same(draft):
    expected = parse_transaction(draft.answer("base64"))
    for encoding in ("json", "jsonParsed", "base58"):
        assert parse_transaction(draft.answer(encoding)) == expected


@given(drafts)
def test_instructions_are_the_same_by_index_and_in_binary(draft):
    expected = parse_transaction(draft.answer("base64"), instructions=True)
    assert parse_transaction(draft.answer("json"), instructions=True) == expected
    parsed = parse_transaction(draft.answer("jsonParsed"), instructions=True)
    assert len(parsed.instructions) == len(expected.instructions)
    for seen, told in zip(parsed.instructions, expected.instructions, strict=True):
        assert (seen.instruction, seen.inner, seen.program) == (told.instruction, told.inner, told.program)
        assert set(seen.accounts) <= set(told.accounts)
        assert seen.parsed_type is not None or seen.data == told.data


@given(drafts)
def test_places_are_in_order_and_none_is_taken_twice(draft):
    transfers = parse_transaction(draft.answer()).transfers
    places = [
        (t.instruction, -1 if t.inner is None else t.inner, -1 if t.batch is None else t.batch) for t in transfers
    ]
    assert places == sorted(set(places))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from([ALICE, "-1", str(2**64), str(2**256), "legacy", "base64", "\0", "", 255, 256]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
FULL = Draft(
    [
        called(transfer(ALICES, BOBS, ALICE, 1), [transfer_checked(ALICES, BOBS, ALICE, 2)]),
        transfer_with_fee(ALICES, BOBS, ALICE, 3, 1),
        batch(initialize(TEMPORARY, CAROL), transfer(ALICES, TEMPORARY, ALICE, 5)),
        create_associated(CAROLS, CAROL),
        hand_over(ALICES, ALICE, BOB),
        Call(MEMO, (), b"note"),
    ],
    [holding(ALICES, ALICE), holding(BOBS, BOB)],
    [holding(ALICES, BOB), holding(BOBS, BOB)],
    version="0",
    loaded_readonly=[MINT],
    meta={"logMessages": None},
)
ANSWERS = [FULL.answer(encoding) for encoding in ("base64", "json", "jsonParsed", "base58")]


@given(st.data())
@settings(max_examples=400)
def test_any_part_replaced_or_taken_out_gives_a_transaction_or_a_reason(data):
    answer = copy.deepcopy(data.draw(st.sampled_from(ANSWERS)))
    for _ in range(data.draw(st.integers(1, 3))):
        inside = answer
        while True:
            if not isinstance(inside, dict | list) or not inside:
                break
            steps = sorted(inside) if isinstance(inside, dict) else range(len(inside))
            step = data.draw(st.sampled_from(list(steps)))
            if isinstance(inside[step], dict | list) and inside[step] and data.draw(st.booleans()):
                inside = inside[step]
                continue
            if data.draw(st.booleans()):
                inside[step] = data.draw(json_values)
            elif isinstance(inside, dict):
                del inside[step]
            else:
                inside.append(copy.deepcopy(inside[step]))
            break
    with contextlib.suppress(MalformedRecord):
        parse_transaction(answer, instructions=True)
    for document in (answer, [answer, 1], {"result": {"transactions": [answer, ANSWERS[0]], "blockTime": 1}}):
        for _, record in parse_answer(json.dumps(document).encode(), instructions=True):
            assert isinstance(record, Transaction | MalformedRecord)


@given(
    st.sampled_from(ANSWERS), st.lists(st.tuples(st.integers(0, 2**20), st.binary(max_size=3)), min_size=1, max_size=4)
)
@settings(max_examples=300)
def test_any_bytes_put_anywhere_give_records_or_reasons(answer, changes):
    written = bytearray(json.dumps(answer).encode())
    for at, change in changes:
        at %= len(written)
        written[at : at + len(change)] = change
    results = parse_answer(bytes(written), instructions=True)
    assert results
    assert all(isinstance(record, Transaction | MalformedRecord) for _, record in results)


@given(st.binary(max_size=200))
def test_random_bytes_give_reasons(data):
    assert all(isinstance(record, MalformedRecord) for _, record in parse_answer(data))


@given(json_values)
def test_any_json_gives_reasons(value):
    assert all(isinstance(record, MalformedRecord) for _, record in parse_answer(json.dumps(value).encode()))
