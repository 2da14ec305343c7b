"""The binary form of transactions: read as solders reads it, or refused."""

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.transaction import VersionedTransaction

from holdfast.errors import MalformedRecord
from holdfast.upstreams.solana import wire
from tests.upstreams.drafts import ALICE, ALICES, BOBS, MINT, PAYER, Draft, key, transfer, transfer_checked


def raw_of(draft: Draft) -> bytes:
    return base64.b64decode(draft.answer()["transaction"][0])


LEGACY = Draft([transfer(ALICES, BOBS, ALICE, 7), transfer_checked(ALICES, BOBS, ALICE, 8)])
VERSION_0 = Draft(LEGACY.calls, version="0", loaded_writable=[BOBS], loaded_readonly=[MINT])
VERSION_1 = Draft(LEGACY.calls, version="1")
LONG = Draft([transfer(key(100 + n), BOBS, ALICE, n) for n in range(140)], signers=[PAYER, ALICE])
DRAFTS = {"legacy": LEGACY, "0": VERSION_0, "1": VERSION_1, "lengths of two bytes": LONG}


@pytest.mark.parametrize("name", DRAFTS)
def test_every_part_is_read_as_solders_reads_it(name):
    raw = raw_of(DRAFTS[name])
    seen, reference = wire.read(raw), VersionedTransaction.from_bytes(raw)
    assert seen.version == DRAFTS[name].version
    assert seen.signatures == [bytes(signature) for signature in reference.signatures]
    assert seen.signers == reference.message.header.num_required_signatures
    assert seen.keys == [bytes(key) for key in reference.message.account_keys]
    assert [(i.programIdIndex, i.accounts, i.data) for i in seen.instructions] == [
        (i.program_id_index, bytes(i.accounts), bytes(i.data)) for i in reference.message.instructions
    ]
    lookups = getattr(reference.message, "address_table_lookups", [])
    assert seen.loaded_writable == sum(len(lookup.writable_indexes) for lookup in lookups)
    assert seen.loaded_readonly == sum(len(lookup.readonly_indexes) for lookup in lookups)


@pytest.mark.parametrize("name", DRAFTS)
def test_a_transaction_cut_short_anywhere_is_refused(name):
    raw = raw_of(DRAFTS[name])
    for end in range(len(raw)):
        with pytest.raises(MalformedRecord):
            wire.read(raw[:end])


@pytest.mark.parametrize("name", DRAFTS)
def test_bytes_after_the_end_are_refused(name):
    with pytest.raises(MalformedRecord, match="followed by other bytes"):
        wire.read(raw_of(DRAFTS[name]) + b"\0")


@given(st.binary(max_size=300))
def test_random_bytes_are_read_or_refused(raw):
    with contextlib.suppress(MalformedRecord):
        wire.read(raw)


@given(st.sampled_from(sorted(DRAFTS)), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1))
def test_transactions_with_bytes_changed_are_read_or_refused(name, changes):
    raw = bytearray(raw_of(DRAFTS[name]))
    for at, byte in changes:
        raw[at % len(raw)] = byte
    with contextlib.suppress(MalformedRecord):
        wire.read(bytes(raw))


def test_a_version_from_the_future_is_refused_by_name():
    raw = bytearray(raw_of(VERSION_0))
    raw[65] = 0x82
    with pytest.raises(MalformedRecord, match="version 2 is not known"):
        wire.read(bytes(raw))


@pytest.mark.parametrize("length", [b"\x80\x00", b"\x81\x80\x00", b"\xff\xff\x04", b"\x80\x80\x80"])
def test_lengths_in_other_than_their_shortest_form_are_refused(length):
    with pytest.raises(MalformedRecord, match=r"shortest form|no compact-u16"):
        wire.read(b"\1" + bytes(64) + b"\1\0\0" + length + bytes(2000))


@pytest.mark.parametrize(
    ("signers", "reason"), [(0, "asks for 0 signers"), (100, "asks for 100"), (2, "1 signatures for 2")]
)
def test_signers_that_do_not_fit_signatures_or_accounts_are_refused(signers, reason):
    raw = bytearray(raw_of(LEGACY))
    raw[65] = signers
    with pytest.raises(MalformedRecord, match=reason):
        wire.read(bytes(raw))
