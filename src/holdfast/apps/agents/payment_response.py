"""The header in which a seller tells that a payment was settled, and by which transaction."""

from __future__ import annotations

import binascii
from base64 import b64decode

import msgspec

from holdfast.errors import MalformedRecord
from holdfast.upstreams.solana import base58


class _Settlement(msgspec.Struct):
    transaction: str | None = None
    network: str | None = None


def settled_signature(header: str) -> str | None:
    """Return the Solana signature that a `PAYMENT-RESPONSE` header names (version 1: `X-PAYMENT-RESPONSE`).

    To be collected in `RecognitionConfig.settled`. Whether the header speaks of success is not asked: the chain knows
    better.

    Args:
        header: the header's value, base64 of a JSON object with `transaction` and `network`.

    Returns:
        The signature in base58; None where no transaction is named, or one of another network.

    Raises:
        MalformedRecord: not base64, not such an object, or the transaction is no signature.
    """
    try:
        settlement = msgspec.json.decode(b64decode(header, validate=True), type=_Settlement)
    except (binascii.Error, msgspec.DecodeError, ValueError) as e:
        raise MalformedRecord(f"not a PAYMENT-RESPONSE header: {e}") from e
    if not settlement.transaction or (settlement.network or "").partition(":")[0] not in ("solana", "solana-devnet"):
        return None
    base58.check_signature(settlement.transaction)
    return settlement.transaction
