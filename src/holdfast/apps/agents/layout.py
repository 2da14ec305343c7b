"""The layout of a transaction's top-level instructions, as the `exact` scheme for SVM describes payments.

Sources: github.com/coinbase/x402, specs/schemes/exact/scheme_exact_svm.md at 26f132bf (the account of the seller may be
created), 8b54700a (exactly three instructions), ff9e2031 (Lighthouse), ff1bc506 (Memo with a nonce); the smart-wallet
path of x402-foundation/x402 #1527.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from holdfast.apps.agents import evidence
from holdfast.upstreams.solana.associated import ASSOCIATED_TOKEN_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAM
from holdfast.upstreams.solana.records import Transaction

MAX_COMPUTE_PRICE = 5_000_000  # micro-lamports a compute unit: the scheme's limit of 5 lamports
CLIENT_COMPUTE_PRICE = 1  # what the reference clients set

_KINDS = {
    "ComputeBudget111111111111111111111111111111": "C",
    ASSOCIATED_TOKEN_PROGRAM: "A",
    TOKEN_PROGRAM: "T",
    TOKEN_2022_PROGRAM: "T",
    "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr": "M",
    "Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo": "M",
    "L2TExMFKdjpN9kozasaurPirfHy9P8sbXoAN1qA3S95": "H",  # Lighthouse: put in by Phantom and Solflare
    "Ed25519SigVerify111111111111111111111111111": "S",
    "KeccakSecp256k11111111111111111111111111111": "S",
    "Secp256r1SigVerify1111111111111111111111111": "S",
}
_EXACT = re.compile(r"LPA?T[MH]{0,4}")
_WALLET = re.compile(r"LPA?[SMH]*X[MH]*")
_BARE = re.compile(r"[LPpAMH]*T[LPpAMH]*")
_HEX = b"0123456789abcdefABCDEF"


class Layout(NamedTuple):
    """What the top-level instructions say together. All signs are bits of `evidence.SIGNS`."""

    shape: int  # EXACT, WALLET, BARE or 0
    client: int  # NONCE, CLIENT_PRICE: habits of x402 clients
    entangled: bool  # an instruction uses the fee payer, other than to open a token account
    program: str  # of the last instruction that is none of the above; "" where there is none


NO_LAYOUT = Layout(0, 0, False, "")


def read_layout(tx: Transaction) -> Layout:
    """Read the layout of `tx`, each top-level instruction becoming a letter.

    L limit and P price of compute (p: over the scheme's limit), A creation of an associated account, T transferChecked,
    M memo, H Lighthouse, S signature check, X a program of none of these, - anything else of these programs.
    """
    fee_payer = tx.fee_payer
    letters = ""
    client = 0
    entangled = False
    program = ""
    for i in tx.instructions:
        if i.inner is not None:
            continue
        letter = _KINDS.get(i.program, "X")
        data = i.data
        used = fee_payer in i.accounts
        if letter == "C":
            letter = "-"
            if data[:1] == b"\x02":
                letter = "L"
            elif data[:1] == b"\x03":
                price = int.from_bytes(data[1:9], "little")
                letter = "P" if price <= MAX_COMPUTE_PRICE else "p"
                if price == CLIENT_COMPUTE_PRICE:
                    client |= evidence.CLIENT_PRICE
        elif letter == "T":
            if data[:1] != b"\x0c" and i.parsed_type != "transferChecked":
                letter = "-"
        elif letter == "M":
            if _is_nonce(data):
                client |= evidence.NONCE
        elif letter == "A":
            if data[:1] == b"\x02" or i.parsed_type == "recoverNested":
                letter = "-"
            else:
                used = False  # version 1 clients had the facilitator pay the rent of the seller's token account
        elif letter == "X":
            program = i.program
        letters += letter
        entangled = entangled or used
    return Layout(_shape(letters), client, entangled, program)


@lru_cache(maxsize=4096)
def _shape(letters: str) -> int:
    if len(letters) <= 7 and _EXACT.fullmatch(letters):
        return evidence.EXACT
    if _WALLET.fullmatch(letters):
        return evidence.WALLET
    return evidence.BARE if _BARE.fullmatch(letters) else 0


def _is_nonce(memo: bytes) -> bool:
    """Whether a memo is 16 random bytes as clients write them: 32 hex digits, or 24 characters of padded base64."""
    if len(memo) == 32:
        return not memo.translate(None, _HEX)
    return len(memo) == 24 and memo.endswith(b"==") and b" " not in memo
