"""Reading the header that tells of a settlement."""

from __future__ import annotations

from base64 import b64encode

import msgspec
import pytest

from holdfast.apps.agents.payment_response import settled_signature
from holdfast.errors import MalformedRecord

SIGNATURE = "7scJSNzkdyryaFQcfRX52upVRridoUijgMNaUmLBtJTxB9iCjmEDk2Mk54eEuTYoPqAgdtajPvxDMk9RFimsZ93"


def header(**values: object) -> str:
    return b64encode(msgspec.json.encode(values)).decode()


@pytest.mark.parametrize("network", ["solana", "solana-devnet", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"])
def test_both_versions_name_the_signature(network: str) -> None:
    assert settled_signature(header(success=True, transaction=SIGNATURE, network=network, payer="x")) == SIGNATURE


@pytest.mark.parametrize(
    "value",
    [
        header(success=False, transaction="", network="solana", errorReason="insufficient_funds"),
        header(success=True, transaction="0x" + "12" * 32, network="base"),
        header(success=True, transaction="0x" + "12" * 32, network="eip155:8453"),
        header(success=True, network="solana"),
        header(transaction=SIGNATURE),
    ],
)
def test_without_a_solana_transaction_there_is_no_signature(value: str) -> None:
    assert settled_signature(value) is None


@pytest.mark.parametrize(
    "value",
    ["", "%%%", "é", b64encode(b"[]").decode(), b64encode(b"{").decode(), header(transaction="0x12", network="solana")],
)
def test_what_is_no_such_header_is_refused(value: str) -> None:
    with pytest.raises(MalformedRecord):
        settled_signature(value)
