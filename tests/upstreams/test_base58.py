"""Base58 against the textbook way and against solders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.pubkey import Pubkey
from solders.signature import Signature

from holdfast.errors import MalformedRecord
from holdfast.upstreams.solana import base58
from tests.upstreams.encodings import ALPHABET, base58_decode_reference, base58_reference


@given(st.binary(max_size=120))
def test_any_bytes_come_back_and_read_as_the_textbook_writes_them(data):
    text = base58.encode(data)
    assert text == base58_reference(data)
    assert base58.decode(text) == data


@given(st.text(ALPHABET, max_size=120))
def test_any_text_of_the_alphabet_stands_for_the_bytes_of_the_textbook(text):
    assert base58.decode(text) == base58_decode_reference(text)
    assert base58.encode(base58.decode(text)) == text


@given(st.binary(min_size=32, max_size=32))
def test_addresses_read_as_solders_writes_them(key):
    assert base58.address(key) == str(Pubkey.from_bytes(key))
    base58.check_addresses([base58.address(key)])


@given(st.binary(min_size=64, max_size=64))
def test_signatures_read_as_solders_writes_them(signature):
    assert base58.encode(signature) == str(Signature.from_bytes(signature))
    base58.check_signature(base58.encode(signature))


@given(st.integers(20, 40).filter(lambda size: size != 32), st.data())
def test_a_key_of_another_size_is_no_address(size, data):
    zeros = data.draw(st.integers(0, size))
    key = bytes(zeros) + data.draw(st.binary(min_size=size - zeros, max_size=size - zeros))
    with pytest.raises(MalformedRecord, match="not an address"):
        base58.check_addresses([base58.encode(key)])


@pytest.mark.parametrize("key", [bytes(32), b"\xff" * 32, b"\0" + b"\xff" * 31, b"\1" + bytes(31), bytes(31) + b"\1"])
def test_keys_at_the_edge_of_a_length_are_addresses(key):
    base58.check_addresses([base58.encode(key)])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1" * 31,
        "1" * 33,
        "z" * 44,
        "0" * 40,
        "O" * 40,
        "a" * 39 + "\0",
        "ä" * 40,
        "\ud800" * 40,
        "a b" * 12,
        None,
        7,
    ],
)
def test_what_cannot_be_an_address_is_refused(text):
    with pytest.raises(MalformedRecord, match="not an address"):
        base58.check_addresses([text])


@pytest.mark.parametrize("text", ["", "1" * 63, "z" * 89, "0" * 88, "a" * 87 + "\0"])
def test_what_cannot_be_a_signature_is_refused(text):
    with pytest.raises(MalformedRecord, match="not a signature"):
        base58.check_signature(text)


@pytest.mark.parametrize("text", ["0", "I", "l", "O", "abc+", "ä", "\ud800", "a\0b", " "])
def test_characters_outside_the_alphabet_are_refused(text):
    with pytest.raises(MalformedRecord, match="not base58"):
        base58.decode(text)


def test_text_longer_than_any_instruction_is_refused_before_it_is_decoded():
    longest = base58.encode(b"\xff" * 10_240)
    assert base58.decode(longest) == b"\xff" * 10_240
    with pytest.raises(MalformedRecord, match="10 KiB"):
        base58.decode("z" * 10_000_000)


def test_the_memory_of_addresses_is_bounded(monkeypatch):
    monkeypatch.setattr(base58, "_REMEMBERED", 10)
    texts = [base58.address(number.to_bytes(32, "big")) for number in range(100)]
    base58.check_addresses(texts)
    for text in texts:
        base58.check_addresses([text])
    assert len(base58._texts) <= 10
    assert len(base58._addresses) <= 100
