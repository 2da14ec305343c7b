"""Whether what nodes said of keys is what was committed: rules only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from torture.keys_node import Answer


class Life(msgspec.Struct):
    """One key: when it was committed, and when that it was revoked; seconds of the boot clock."""

    made: float
    revoked: float | None = None


class Verdict(msgspec.Struct):
    """What was wrong, and how late the answers were.

    Attributes:
        alive: keys that were good later than they may: number, seconds after they were revoked.
        unknown: keys that were refused though they were good: number, why, seconds after they were made.
        longest_alive: seconds after which a revoked key was still good, at worst.
        answers: how many, by what came of them.
    """

    alive: list[tuple[int, float]] = []
    unknown: list[tuple[int, str, float]] = []
    longest_alive: float = 0.0
    answers: dict[str, int] = {}


def check(answers: Iterable[Answer], lives: Mapping[int, Life], bound: float) -> Verdict:
    """Hold answers against what was committed.

    Args:
        bound: seconds after a commit from which on an answer must know of it.
    """
    found = Verdict()
    for began, number, answer in answers:
        found.answers[answer] = found.answers.get(answer, 0) + 1
        life = lives[number]
        if answer == "good":
            late = 0.0 if life.revoked is None else began - life.revoked
            found.longest_alive = max(found.longest_alive, late)
            if late > bound:
                found.alive.append((number, late))
        elif answer != "unavailable":
            # One that is being revoked just now may be refused before its revoker knows that it is committed.
            is_over = life.revoked is not None and answer == "revoked"
            if not is_over and began - life.made > bound:
                found.unknown.append((number, answer, began - life.made))
    return found
