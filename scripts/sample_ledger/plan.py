"""One transaction as planned: what to run, and what is true of each of its transfers."""

from __future__ import annotations

from dataclasses import dataclass

from solders.instruction import Instruction


@dataclass(frozen=True)
class Plan:
    """`labels` gives for each transfer its instruction, its inner instruction, and whether it is a payment."""

    kind: str
    instructions: tuple[Instruction, ...]
    signers: tuple[str, ...]  # key names, the fee payer first
    labels: tuple[tuple[int, int | None, bool], ...] = ()
    agent: int | None = None  # whom it pays, or meant to
    legacy: bool = False
    lookup: bool = False
