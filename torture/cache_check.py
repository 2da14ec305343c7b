"""What was read, held against what was committed: rules only."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Read = tuple[float, int, int, int]
"""When it began, which document, the version, whether it was told stale."""

Commit = tuple[float, int, int]
"""When it had returned, which document, the version."""

BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)
"""Seconds, of the histogram."""


@dataclass
class Verdict:
    """What the reads were like.

    Attributes:
        reads, told_stale: how many there were, and how many said that they may be old: those are outside the bound.
        histogram: of the others, how many were superseded for at most so many seconds when they began; 0.0 not at all.
        staleness: of each that was superseded, for how many seconds.
        violations: (document, version, seconds) of the reads over the bound.
        invented: (document, version) of versions that nobody committed.
    """

    reads: int = 0
    told_stale: int = 0
    histogram: dict[float, int] = field(default_factory=lambda: dict.fromkeys((0.0, *BOUNDS), 0))
    staleness: list[float] = field(default_factory=list)
    violations: list[tuple[int, int, float]] = field(default_factory=list)
    invented: list[tuple[int, int]] = field(default_factory=list)

    @property
    def longest(self) -> float:
        """Seconds, of the stalest read that said nothing."""
        return max(self.staleness, default=0.0)

    def percentile(self, share: float) -> float:
        """The staleness that so large a share of all reads keeps to, those that were not superseded included."""
        told = self.reads - self.told_stale
        place = int(share * told) - (told - len(self.staleness))
        return 0.0 if place < 0 or not self.staleness else sorted(self.staleness)[min(place, len(self.staleness) - 1)]


def check(reads: Iterable[Read], commits: Iterable[Commit], bound: float) -> Verdict:
    """Judge reads: one that says nothing must not have been superseded more than `bound` seconds before it began.

    A commit counts from when its writer knew of it, which is a little later than it was.
    """
    superseded = _superseded(commits)
    verdict = Verdict()
    for began, document, version, is_stale in reads:
        verdict.reads += 1
        times = superseded[document]
        if version > len(times):
            verdict.invented.append((document, version))
            continue
        if is_stale:
            verdict.told_stale += 1
            continue
        # times[v] is when version v + 1 was committed.
        late = began - times[version] if version < len(times) else 0.0
        if late <= 0:
            verdict.histogram[0.0] += 1
            continue
        verdict.staleness.append(late)
        verdict.histogram[BOUNDS[min(bisect_left(BOUNDS, late), len(BOUNDS) - 1)]] += 1
        if late > bound:
            verdict.violations.append((document, version, late))
    return verdict


def _superseded(commits: Iterable[Commit]) -> defaultdict[int, list[float]]:
    """For each document when its versions from 1 on were committed."""
    found: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
    for at, document, version in commits:
        found[document].append((version, at))
    times: defaultdict[int, list[float]] = defaultdict(list)
    for document, those in found.items():
        times[document] = list(_in_order(document, sorted(those)))
    return times


def _in_order(document: int, commits: list[tuple[int, float]]) -> Iterator[float]:
    for expected, (version, at) in enumerate(commits, 1):
        if version != expected:
            raise ValueError(f"the writers' notes lack version {expected} of document {document}")
        yield at
