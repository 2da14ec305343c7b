"""What an examination says: findings, and what to do about them."""

from __future__ import annotations

from typing import Literal, Self

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. A note is worth knowing, and nothing is broken."""

    check: str
    state: Literal["ok", "note", "wrong"]
    detail: str
    do: str | None = None

    @classmethod
    def ok(cls, check: str, detail: str) -> Self:
        """It is as it must be."""
        return cls(check=check, state="ok", detail=detail)

    @classmethod
    def note(cls, check: str, detail: str, do: str) -> Self:
        """It is worth knowing."""
        return cls(check=check, state="note", detail=detail, do=do)

    @classmethod
    def wrong(cls, check: str, detail: str, do: str) -> Self:
        """It is not as it must be."""
        return cls(check=check, state="wrong", detail=detail, do=do)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was looked at; ok where nothing is wrong."""

    ok: bool
    findings: list[Finding]

    @classmethod
    def of(cls, findings: list[Finding]) -> Report:
        """The report of `findings`."""
        return cls(ok=all(finding.state != "wrong" for finding in findings), findings=findings)
