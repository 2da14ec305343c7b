"""What is not a transaction, or contradicts itself, is refused with a reason; the rest is kept."""

import base64
import copy
import json
import re
from typing import Any

import msgspec
import pytest

from holdfast.errors import MalformedRecord
from holdfast.upstreams.solana.parse import parse_answer, parse_transaction
from holdfast.upstreams.solana.records import Transaction
from tests.upstreams.drafts import (
    ALICE,
    ALICES,
    BOB,
    BOBS,
    ENCODINGS,
    MINT,
    OTHER_PROGRAM,
    Call,
    Draft,
    batch,
    create_associated,
    hand_over,
    holding,
    initialize,
    key,
    transfer,
    transfer_checked,
    transfer_with_fee,
)

HELD = [holding(ALICES, ALICE), holding(BOBS, BOB)]
DRAFT = Draft(
    [
        transfer(ALICES, BOBS, ALICE, 1),
        Call(OTHER_PROGRAM, (ALICES,), b"abc", inner=[transfer_checked(ALICES, BOBS, ALICE, 2)]),
        transfer_with_fee(ALICES, BOBS, ALICE, 3, 1),
        initialize(key(30), ALICE),
        hand_over(ALICES, ALICE, BOB),
        create_associated(key(31), BOB),
        batch(transfer(ALICES, BOBS, ALICE, 4)),
    ],
    HELD,
    HELD,
    version="0",
    loaded_readonly=[MINT],
)
DEEP = b"[" * 100_000 + b"]" * 100_000


def put(answer: Any, path: str, value: Any) -> Any:
    """A copy of `answer` with `value` at the dotted `path`; a path that ends in "!" is taken out."""
    answer = copy.deepcopy(answer)
    *way, last = [int(step) if step.isdigit() else step for step in path.rstrip("!").split(".")]
    inside = answer
    for step in way:
        inside = inside[step]
    if path.endswith("!"):
        del inside[last]
    else:
        inside[last] = value
    return answer


EVERYWHERE = [
    ("meta", None, "no meta"),
    ("meta!", None, "no meta"),
    ("meta.err!", None, "err"),
    ("meta.err", "a\0b", "NUL in the text of meta.err"),
    ("meta.fee", -1, ">= 0"),
    ("meta.fee", 2**63, "<= 9223372036854775807"),
    ("meta.fee", "5000", "Expected `int`"),
    ("meta.fee", 1.5, "Expected `int`"),
    ("slot", -1, ">= 0"),
    ("slot", 2**64, "<= 9223372036854775807"),
    ("slot", "1", "Expected `int"),
    ("blockTime", -1, ">= 0"),
    ("blockTime", 10**12, "<= 253402300799"),
    ("meta.preTokenBalances.0.accountIndex", 99, "account 99, which does not exist"),
    ("meta.preTokenBalances.0.accountIndex", 256, "<= 255"),
    ("meta.preTokenBalances.0.accountIndex", -1, ">= 0"),
    ("meta.preTokenBalances.0.accountIndex", "1", "Expected `int`"),
    ("meta.preTokenBalances.0.mint", "not a mint", "not an address"),
    ("meta.postTokenBalances.0.owner", ALICE[:-1] + "\0", "not an address"),
    ("meta.postTokenBalances.0.owner", 7, "Expected `str"),
    ("meta.postTokenBalances.0.uiTokenAmount.amount", "-5", "not an amount"),
    ("meta.postTokenBalances.0.uiTokenAmount.amount", "", "not an amount"),
    ("meta.postTokenBalances.0.uiTokenAmount.amount", "1e3", "not an amount"),
    ("meta.postTokenBalances.0.uiTokenAmount.amount", str(2**64), "above 2^64"),
    ("meta.postTokenBalances.0.uiTokenAmount.amount", str(2**256), "not an amount"),
    ("meta.postTokenBalances.0.uiTokenAmount.decimals", 256, "<= 255"),
    ("meta.postTokenBalances.0.uiTokenAmount.decimals", -1, ">= 0"),
    ("meta.innerInstructions.0.index", 99, "instruction 99, which does not exist"),
    ("meta.innerInstructions", [{"index": 0, "instructions": []}] * 2, "given twice"),
    ("meta.innerInstructions", 7, "Expected"),
    ("transaction", None, "no transaction"),
    ("transaction", 7, "Expected"),
    ("transaction!", None, "neither a transaction nor a block"),
]
BY_INDEX = [
    (
        "meta.innerInstructions.0.instructions.0.programIdIndex",
        99,
        "inner instruction 0 of instruction 1 names account 99",
    ),
    ("meta.innerInstructions.0.instructions.0.programIdIndex!", None, "names account None"),
    ("meta.innerInstructions.0.instructions.0.accounts.0", 98, "names account 98"),
    ("meta.innerInstructions.0.instructions.0.accounts.0", ALICES, "names account '"),
    ("meta.innerInstructions.0.instructions.0.accounts.0", 256, "<= 255"),
    ("meta.innerInstructions.0.instructions.0.data", "0OIl", "not base58"),
    ("meta.innerInstructions.0.instructions.0.data", "1" * 100_000, "10 KiB"),
    ("meta.loadedAddresses", None, "does not name them"),
    ("meta.loadedAddresses.readonly", [], "0 readonly accounts, where the lookup tables give 0 and 1"),
    ("meta.loadedAddresses.readonly", ["short"], "not an address"),
]
IN_JSON = [
    ("version", 2, "version '2' is not known"),
    ("version", "newest", "version 'newest' is not known"),
    ("transaction.signatures", [], "0 signatures"),
    ("transaction.signatures.0", "a\0" * 40, "not a signature"),
    ("transaction.signatures.0", "short", "not a signature"),
    ("transaction.signatures.0", 7, "Expected `str`"),
]
IN_COMPILED_JSON = [
    ("transaction.message.accountKeys.1", "a" * 43 + "\0", "not an address"),
    ("transaction.message.accountKeys.1", {"pubkey": ALICES, "signer": False}, "not an address"),
    ("transaction.message.accountKeys", [], "0 accounts"),
    ("transaction.message.header.numRequiredSignatures", 200, "200 required signers"),
    ("transaction.message.header.numRequiredSignatures", 0, "0 required signers"),
    ("transaction.message.instructions.0.programIdIndex", 77, "instruction 0 names account 77"),
]
IN_PARSED = [
    ("transaction.message.accountKeys.1", ALICES, "bare text"),
    ("transaction.message.accountKeys.0.signer", False, "1 signatures for 0 signers"),
    ("transaction.message.accountKeys.0.pubkey", "", "not an address"),
    ("transaction.message.instructions.0.programId", key(5), "no program among"),
    ("transaction.message.instructions.0.programId!", None, "no program among"),
    ("transaction.message.instructions.0.parsed", "a memo", "no parsed fields"),
    ("transaction.message.instructions.0.parsed.info", [], "without its parsed fields"),
    ("transaction.message.instructions.0.parsed.info!", None, "without its parsed fields"),
    ("transaction.message.instructions.0.parsed.info.amount", "-1", "amount is not an amount"),
    ("transaction.message.instructions.0.parsed.info.amount", -1, "amount is not an amount"),
    ("transaction.message.instructions.0.parsed.info.amount", 1.0, "amount is not an amount"),
    ("transaction.message.instructions.0.parsed.info.amount", True, "amount is not an amount"),
    ("transaction.message.instructions.0.parsed.info.amount", "٣", "amount is not an amount"),
    ("transaction.message.instructions.0.parsed.info.amount", str(2**64), "above 2^64 - 1"),
    ("transaction.message.instructions.0.parsed.info.amount", str(2**256), "amount is not an amount"),
    ("transaction.message.instructions.0.parsed.info.amount!", None, "amount is not an amount"),
    ("transaction.message.instructions.0.parsed.info.source", key(5), "source is not one of"),
    ("transaction.message.instructions.0.parsed.info.destination!", None, "destination is not one of"),
    ("transaction.message.instructions.0.parsed.info.authority", 7, "authority is not one of"),
    ("transaction.message.instructions.1.accounts.0", key(5), "instruction 1 names"),
    ("transaction.message.instructions.1.accounts.0", 3, "instruction 1 names 3"),
    ("meta.innerInstructions.0.instructions.0.parsed.info.tokenAmount", "2", "no token amount"),
    ("meta.innerInstructions.0.instructions.0.parsed.info.tokenAmount.decimals", 300, "decimals are not"),
    ("meta.innerInstructions.0.instructions.0.parsed.info.tokenAmount.amount", str(2**64), "above 2^64 - 1"),
    ("meta.innerInstructions.0.instructions.0.parsed.info.mint", None, "mint is not one of"),
    ("transaction.message.instructions.2.parsed.info.feeAmount!", None, "feeAmount is no token amount"),
    ("transaction.message.instructions.3.parsed.info.owner", "x", "not an address"),
    ("transaction.message.instructions.3.parsed.info.owner", None, "owner is no address"),
    ("transaction.message.instructions.4.parsed.info.newAuthority", 7, "newAuthority is no address"),
    ("transaction.message.instructions.5.parsed.info.wallet", key(5), "wallet is not one of"),
    ("transaction.message.instructions.6.parsed.info.instructions", 7, "batch without a list"),
    ("transaction.message.instructions.6.parsed.info.instructions.0", 7, "instruction 0 of a batch"),
    ("transaction.message.instructions.6.parsed.info.instructions.0.info.amount", "x", "amount is not an amount"),
]
CASES = [
    *((encoding, *case) for encoding in ENCODINGS for case in EVERYWHERE),
    *((encoding, *case) for encoding in ("base64", "json") for case in BY_INDEX),
    *((encoding, *case) for encoding in ("json", "jsonParsed") for case in IN_JSON),
    *(("json", *case) for case in IN_COMPILED_JSON),
    *(("jsonParsed", *case) for case in IN_PARSED),
]


@pytest.mark.parametrize(("encoding", "path", "value", "reason"), CASES)
def test_a_record_that_is_not_what_it_should_be_is_refused(encoding, path, value, reason):
    answer = DRAFT.answer(encoding)
    assert isinstance(parse_transaction(answer), Transaction)
    with pytest.raises(MalformedRecord, match=re.escape(reason)):
        parse_transaction(put(answer, path, value))


@pytest.mark.parametrize("text", ["", "AA", "A" * 40, "not base64!", "====", "ä"])
def test_base64_that_is_no_transaction_is_refused(text):
    with pytest.raises(MalformedRecord, match=r"base64|truncated|signatures|followed|Expected"):
        parse_transaction(DRAFT.answer() | {"transaction": [text, "base64"]})


@pytest.mark.parametrize("transaction", [[], ["AA"], ["AA", "base32"], ["AA", "base64", "more"]])
def test_an_unknown_encoding_is_refused(transaction):
    with pytest.raises(MalformedRecord, match="encoding"):
        parse_transaction(DRAFT.answer() | {"transaction": transaction})


def test_the_oldest_binary_form_is_read():
    answer = DRAFT.answer("base58")
    old = answer | {"transaction": answer["transaction"][0]}
    assert parse_transaction(old) == parse_transaction(answer)


NO_ANSWERS = {
    "nothing": (b"", "not JSON"),
    "not JSON": (b"hello", "not JSON"),
    "cut short": (b'{"slot": 1, "transaction', "not JSON"),
    "two documents": (b"{} {}", "not JSON"),
    "a NUL byte": (b'{"slot": 1}\0', "NUL at byte 11"),
    "invalid UTF-8": (b'{"skipped": "\xff"}', "not UTF-8"),
    "half a surrogate": (b'{"skipped": "\\ud800"}', "not JSON"),
    "a number": (b"7", "not an answer"),
    "text": (b'"hello"', "not an answer"),
    "null": (b"null", "null instead of an answer"),
    "an object of something else": (b'{"hello": 1}', "neither a transaction nor a block"),
    "null as the result": (b'{"jsonrpc": "2.0", "result": null, "id": 1}', "no such transaction or block"),
    "a number as the result": (b'{"jsonrpc": "2.0", "result": 5, "id": 1}', "not an answer"),
    "an error": (
        b'{"jsonrpc":"2.0","error":{"code":-32007,"message":"Slot 5 was skipped"},"id":1}',
        "Slot 5 was skipped",
    ),
    "a block without transactions": (b'{"result":{"blockhash":"x","signatures":[]}}', "transactionDetails: full"),
    "a block of null": (b'{"result":{"transactions":null}}', "neither a transaction nor a block"),
    "deep": (DEEP, "nested too deeply|not an answer"),
    "deep where it is skipped": (b'{"skipped":' + DEEP + b"}", "nested too deeply"),
    "deep in envelopes": (b'{"result":' * 100_000 + b"null" + b"}" * 100_000, "nested too deeply"),
    "numbers out of range": (b'{"slot": 1e999, "transaction": ["", "base64"]}', "not an answer"),
    "a huge number": (b'{"slot": ' + b"9" * 10_000 + b"}", "not an answer"),
}


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_a_document_that_is_no_answer_is_one_refusal_with_its_reason(name):
    data, reason = NO_ANSWERS[name]
    ((index, problem),) = parse_answer(data)
    assert index is None
    assert isinstance(problem, MalformedRecord)
    assert re.search(reason, str(problem))
    with pytest.raises(MalformedRecord):
        parse_transaction(data)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_deep_nesting_inside_a_record_is_refused(encoding):
    written = json.dumps(DRAFT.answer(encoding) | {"meta": "HERE"}).encode()
    meta = json.dumps(DRAFT.answer(encoding)["meta"] | {"err": "HERE"}).encode()
    data = written.replace(b'"HERE"', meta.replace(b'"HERE"', DEEP))
    ((_, problem),) = parse_answer(data)
    assert isinstance(problem, MalformedRecord)
    assert "nested too deeply" in str(problem)


@pytest.mark.parametrize("given", [{"transaction": {1, 2}}, {"slot": object()}, {"a": float("nan")}, {7: "x", None: 1}])
def test_objects_that_no_json_can_hold_are_refused(given):
    with pytest.raises(MalformedRecord):
        parse_transaction(given)


def test_an_object_that_holds_itself_is_refused():
    loop: dict[str, Any] = {}
    loop["result"] = loop
    with pytest.raises(MalformedRecord):
        parse_transaction(loop)


def test_a_block_or_a_list_is_not_one_transaction():
    answer = DRAFT.answer()
    for many in ({"transactions": [answer]}, {"transactions": []}):
        with pytest.raises(MalformedRecord, match="one transaction was expected"):
            parse_transaction(many)
    with pytest.raises(MalformedRecord, match="one transaction was expected"):
        parse_transaction(json.dumps([answer, answer]))


def good_and_bad(results: list[Any]) -> list[tuple[int | None, str]]:
    return [(index, "bad" if isinstance(record, MalformedRecord) else "good") for index, record in results]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("meta.fee", "x"),
        ("meta.preTokenBalances.0.accountIndex", 99),
        ("transaction!", 0),
        ("transaction", [1]),
        ("meta", []),
    ],
)
def test_one_bad_transaction_of_a_block_costs_that_one_alone(encoding, path, value):
    good = DRAFT.answer(encoding)
    for entry in (put(good, path, value), None, 7, "x", []):
        block = {"blockTime": 5, "blockhash": "x", "transactions": [good, entry, good]}
        for document in (block, {"jsonrpc": "2.0", "result": block, "id": 1}, block["transactions"]):
            results = parse_answer(json.dumps(document).encode())
            assert good_and_bad(results) == [(0, "good"), (1, "bad"), (2, "good")]
            assert results[0][1] == results[2][1] == parse_transaction(good)


def test_a_batch_of_envelopes_keeps_what_is_good():
    answer = DRAFT.answer()
    entry = {name: answer[name] for name in ("transaction", "meta", "version")}
    envelopes = [
        {"jsonrpc": "2.0", "id": 0, "result": answer},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "Invalid params"}},
        {"jsonrpc": "2.0", "id": 2, "result": None},
        {"jsonrpc": "2.0", "id": 3, "result": {"blockTime": 9, "transactions": [entry, entry]}},
        {"jsonrpc": "2.0", "id": 4, "result": 5},
    ]
    results = parse_answer(json.dumps(envelopes).encode())
    assert good_and_bad(results) == [(0, "good"), (1, "bad"), (2, "bad"), (3, "good"), (4, "good"), (5, "bad")]
    assert "Invalid params" in str(results[1][1])
    assert [(r.slot, r.block_time) for _, r in results if isinstance(r, Transaction)] == [
        (300_000_000, 1_750_000_000),
        (None, 9),
        (None, 9),
    ]


def test_an_empty_block_holds_nothing():
    assert parse_answer(b'{"blockTime":1,"transactions":[]}') == []
    assert parse_answer(b"[]") == []


def test_a_null_error_beside_a_result_is_no_error():
    document = {"jsonrpc": "2.0", "error": None, "result": DRAFT.answer()}
    assert good_and_bad(parse_answer(json.dumps(document).encode())) == [(None, "good")]


def test_the_time_of_a_block_goes_to_its_transactions_even_when_one_is_bad():
    entry = {name: DRAFT.answer()[name] for name in ("transaction", "meta", "version")}
    for second in (entry, {"transaction": 5}):
        first = parse_answer(json.dumps({"blockTime": 77, "transactions": [entry, second]}).encode())[0][1]
        assert isinstance(first, Transaction)
        assert (first.slot, first.block_time) == (None, 77)


def test_a_block_with_a_time_that_is_none_is_refused():
    results = parse_answer(msgspec.json.encode({"blockTime": "noon", "transactions": [DRAFT.answer()]}))
    assert good_and_bad(results) == [(None, "bad")]


def test_the_text_of_a_reason_stays_short():
    for answer in (
        put(DRAFT.answer("jsonParsed"), "transaction.message.instructions.0.parsed.info.amount", "9" * 1_000_000),
        put(DRAFT.answer("json"), "transaction.signatures.0", "9" * 1_000_000),
        put(DRAFT.answer("json"), "transaction.message.accountKeys.0", "9" * 1_000_000),
        {"error": "9" * 1_000_000},
        DRAFT.answer() | {"transaction": ["AA", "9" * 1_000_000]},
        DRAFT.answer("json") | {"version": "9" * 1_000_000},
    ):
        with pytest.raises(MalformedRecord) as refused:
            parse_transaction(answer)
        assert len(str(refused.value)) < 500


def test_transactions_too_large_for_the_chain_are_refused_quickly():
    raw = base64.b64encode(bytes([1]) + bytes(64) + bytes([1, 0, 0]) + b"\xff\xff\x03" + bytes(3_000_000)).decode()
    with pytest.raises(MalformedRecord):
        parse_transaction(DRAFT.answer() | {"transaction": [raw, "base64"]})
