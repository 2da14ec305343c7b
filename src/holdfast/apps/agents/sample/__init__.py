"""The sample ledger: some weeks of invented x402 payments that a real Solana VM has run. See README.md beside this."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from io import TextIOWrapper
from typing import Any

import msgspec
import zstandard

from holdfast.apps.agents.recognition import RecognitionConfig

_FOLDER = files(__name__)


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """The truth about one token transfer of the ledger."""

    signature: str
    instruction: int
    inner: int | None
    is_payment: bool  # in a failed transaction: an attempt at one
    kind: str  # what the maker of the sample meant by the transaction
    agent: str | None  # address of the agent that it pays, or would have


def ledger() -> Iterator[bytes]:
    """Yield the sample's transactions in order of time, each a `getTransaction` answer as JSON."""
    return _lines("ledger.jsonl.zst")


def labels() -> Iterator[Label]:
    """Yield the label of every token transfer in the ledger, in its order."""
    decoder = msgspec.json.Decoder(Label)
    return map(decoder.decode, _lines("labels.jsonl.zst"))


def agents() -> list[dict[str, Any]]:
    """Return the agents, as rows of `agents` with their `capabilities` and `pricing`; `price` is a decimal text."""
    rows: list[dict[str, Any]] = msgspec.json.decode((_FOLDER / "agents.json").read_bytes())
    return rows


def tokens() -> list[dict[str, Any]]:
    """Return the sample's tokens: `mint`, `symbol`, `decimals`, `program`."""
    rows: list[dict[str, Any]] = msgspec.json.decode((_FOLDER / "tokens.json").read_bytes())
    return rows


def recognition() -> RecognitionConfig:
    """Return what the recogniser has to know for the sample; its facilitators are in no other list."""
    return msgspec.json.decode((_FOLDER / "config.json").read_bytes(), type=RecognitionConfig)


def _lines(name: str) -> Iterator[bytes]:
    with (_FOLDER / name).open("rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as unpacked:
        for line in TextIOWrapper(unpacked, "utf-8"):
            yield line.encode()
