"""What speaks for and against a transfer being an x402 payment, and how much.

One table, read by the recogniser and printed in docs/guides/x402.md: signs with points add up to a percentage; signs
with a ceiling say what a payment never does and hold the sum down, however well the rest looks.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

PAYMENT_THRESHOLD = 0.5
"""A transfer with at least this confidence is a payment (or, in a failed transaction, a payment attempt)."""

MOST = 99  # percent; only a PAYMENT-RESPONSE is certain


class Sign(msgspec.Struct, frozen=True):
    """One observation: its bit, the phrase a reason uses, its points, and the percentage it holds the sum under."""

    bit: int
    phrase: str
    points: int = 0
    ceiling: int | None = None


SETTLED = 1 << 0
FACILITATOR = 1 << 1
SPONSORED = 1 << 2
ENTANGLED = 1 << 3
EXACT = 1 << 4
WALLET = 1 << 5
BARE = 1 << 6
KNOWN_WALLET = 1 << 7
NONCE = 1 << 8
CLIENT_PRICE = 1 << 9
PAYEE = 1 << 10
MERCHANT = 1 << 11
STABLE = 1 << 12
SELF_PAID = 1 << 13
UNCHECKED = 1 << 14
OTHER = 1 << 15
BATCH = 1 << 16
RETURN = 1 << 17
EMPTY = 1 << 18
OWN_FUNDS = 1 << 19
SAME_OWNER = 1 << 20
PASSED_ON = 1 << 21

SIGNS = (
    Sign(SETTLED, "signature is in a PAYMENT-RESPONSE", 100),
    Sign(FACILITATOR, "facilitator {name} pays the fee", 60),
    Sign(MERCHANT, "the recipient pays the fee", 20),
    Sign(SPONSORED, "the fee payer takes no other part", 15),
    Sign(ENTANGLED, "the fee payer is used by an instruction", -25),
    Sign(EXACT, "exact layout", 20),
    Sign(WALLET, "smart-wallet layout", 15),
    Sign(BARE, "bare transfer", 8),
    Sign(KNOWN_WALLET, "known smart wallet", 5),
    Sign(NONCE, "memo is a nonce", 25),
    Sign(CLIENT_PRICE, "compute price of the reference client", 5),
    Sign(PAYEE, "the recipient is a known payTo", 30),
    Sign(STABLE, "stablecoin", 5),
    Sign(UNCHECKED, "not a checked transfer", ceiling=40),
    Sign(SELF_PAID, "the sender pays the fee", ceiling=30),
    Sign(OTHER, "another transfer of the transaction is the payment", ceiling=30),
    Sign(PASSED_ON, "the tokens are passed on", ceiling=30),
    Sign(BATCH, "one of many outgoing transfers", ceiling=20),
    Sign(RETURN, "the sender receives tokens in return", ceiling=10),
    Sign(EMPTY, "the amount is 0", ceiling=10),
    Sign(OWN_FUNDS, "a facilitator moves its own funds", ceiling=5),
    Sign(SAME_OWNER, "the tokens stay with their owner", ceiling=5),
)


@lru_cache(maxsize=65_536)
def weigh(signs: int, facilitator: str | None = None) -> tuple[int, str]:
    """Weigh a set of signs (their bits or-ed).

    Args:
        signs: bits of `SIGNS`.
        facilitator: its name, for the reason.

    Returns:
        The confidence in percent, 0–99 (100 where the signature is in a PAYMENT-RESPONSE), and the reason: the signs'
        phrases in the table's order, joined by "; ". The same signs always give the same reason.
    """
    found = [sign for sign in SIGNS if signs & sign.bit]
    reason = "; ".join(sign.phrase.format(name=facilitator) for sign in found) or "no sign of x402"
    percent = sum(sign.points for sign in found)
    if signs & SETTLED:
        # The seller has said which transaction paid it. All that is left open is which of its transfers did.
        return (30 if signs & OTHER else 100), reason
    for sign in found:
        if sign.ceiling is not None:
            percent = min(percent, sign.ceiling)
    return max(0, min(MOST, percent)), reason
