"""Base58 in the Bitcoin alphabet, as Solana writes addresses, signatures and instruction data.

Pure Python over big integers, ten digits at a time, so that most of the arithmetic is on small ones: the base
install needs no compiled package for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.errors import MalformedRecord

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

# The longest data there is: a cross-program call carries at most 10 KiB, a whole transaction less.
# Decoding is quadratic in the length, so longer text is refused before the work is done.
MAX_TEXT = 10_240 * 138 // 100 + 1

_LETTERS = ALPHABET.encode()
_DIGITS = bytes(_LETTERS.index(byte) if byte in _LETTERS else 255 for byte in range(256))
_PAIRS = [a + b for a in ALPHABET for b in ALPHABET]
_GROUP = 58**10
_HALF = 58**5  # 30 bits, one digit of Python's integers: the fastest there are

# Addresses repeat from one transaction to the next (programs, mints, pools), so both directions are
# remembered; the stores are emptied when full, which bounds them at some 15 MB.
_REMEMBERED = 1 << 16
_texts: dict[bytes, str] = {}
_addresses: set[str] = set()


def encode(data: bytes) -> str:
    """`data` as base58 text; every leading zero byte becomes a leading "1"."""
    number = int.from_bytes(data, "big")
    text = ""
    while number:
        number, group = divmod(number, _GROUP)
        high, low = divmod(group, _HALF)
        above, below = high // 3364, low // 3364
        text = (
            f"{ALPHABET[above // 3364]}{_PAIRS[above % 3364]}{_PAIRS[high % 3364]}"
            f"{ALPHABET[below // 3364]}{_PAIRS[below % 3364]}{_PAIRS[low % 3364]}{text}"
        )
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text.lstrip("1")


def decode(text: str) -> bytes:
    """The bytes that `text` stands for.

    Raises `MalformedRecord` for a character outside the alphabet, and for more than `MAX_TEXT` characters.
    """
    size = len(text)
    if size > MAX_TEXT:
        raise MalformedRecord(f"base58 text of {size} characters: an instruction carries at most 10 KiB")
    digits = text.encode("ascii", "replace").translate(_DIGITS)
    if 255 in digits:
        raise MalformedRecord(f"not base58: {text[:100]!r}")
    number = group = 0
    if size <= 10:
        for digit in digits:
            number = number * 58 + digit
    else:
        start = size % 10
        for digit in digits[:start]:
            number = number * 58 + digit
        for at in range(start, size, 10):
            group = 0
            for digit in digits[at : at + 10]:
                group = group * 58 + digit
            number = number * _GROUP + group
    return bytes(size - len(text.lstrip("1"))) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def address(key: bytes) -> str:
    """A 32-byte public key as text, remembered."""
    text = _texts.get(key)
    if text is None:
        if len(_texts) >= _REMEMBERED:
            _texts.clear()
        text = _texts[key] = encode(key)
    return text


def check_addresses(texts: Iterable[str]) -> None:
    """Raise `MalformedRecord` for the first of `texts` that cannot be an address.

    An address is base58 of exactly 32 bytes; so nothing that passes holds a NUL or a quote.
    """
    if _addresses.issuperset(texts):
        return
    if len(_addresses) >= _REMEMBERED:
        _addresses.clear()
    for text in texts:
        if text in _addresses:
            continue
        if type(text) is not str or not _is_address(text):
            raise MalformedRecord(f"not an address: {text if type(text) is not str else text[:100]!r}")
        _addresses.add(text)


def check_signature(text: str) -> None:
    """Raise `MalformedRecord` if `text` cannot be a signature: 64 to 88 characters of the alphabet."""
    if not 64 <= len(text) <= 88 or not _in_alphabet(text):
        raise MalformedRecord(f"not a signature: {text[:100]!r}")


def _is_address(text: str) -> bool:
    if not 32 <= len(text) <= 44 or not _in_alphabet(text):
        return False
    # The alphabet is in ASCII order, so at one length text compares as the numbers do; nearly all addresses
    # are of the two lengths that this decides.
    if len(text) == 44 and text[0] != "1":
        return text <= _HIGHEST
    return (len(text) == 43 and text >= _LOWEST_43) or len(decode(text)) == 32


_HIGHEST = encode(b"\xff" * 32)
_LOWEST_43 = encode(b"\1" + bytes(31))


def _in_alphabet(text: str) -> bool:
    return not text.encode("ascii", "replace").translate(None, _LETTERS)
