"""What the audit is told of keys that are verified."""

from __future__ import annotations

from typing import Any

from holdfast.guard.audit import Audited, Origin, Trail
from holdfast.guard.keys.access import KeyFacts, KeyRefused


class Told:
    """Has it put on record that a key did not open what was asked for; and that it did, where reads are audited.

    What is no key of ours is on no record: anybody could fill the disk.

    Args:
        model: that keeps keys; its policy says whether it is audited.

    Attributes:
        of_use: whether the policy has `Audited(reads=True)`.
    """

    def __init__(self, trail: Trail, model: type[Any]) -> None:
        audited = model.__policy__.aspect(Audited)
        self._trail = trail
        self._table = str(model.__tablename__)
        self._of_denials = audited is not None
        self.of_use = audited is not None and audited.reads

    def refused(self, key: KeyFacts, refused: KeyRefused, address: str | None) -> None:
        """It did not open what was asked for."""
        if self._of_denials:
            self._tell(key, "denied", str(refused), address)

    def used(self, key: KeyFacts, address: str | None) -> None:
        """It did."""
        self._tell(key, "allowed", None, address)

    def _tell(self, key: KeyFacts, outcome: Any, reason: str | None, address: str | None) -> None:
        self._trail.gather(
            "key",
            outcome=outcome,
            reason=reason,
            tenant=key.org_id,
            actor=key.user_id,
            target=(self._table, key.id),
            origin=None if address is None else Origin(ip=address),
        )
