"""What the followers took against what the writers committed; the journal itself is not asked."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

import msgspec

from benchmarks.harness import quantile
from torture.journal_follower import Taken
from torture.journal_transactions import Committed, Write

Violate = Callable[[str, str], None]


class Effect(msgspec.Struct, frozen=True):
    """A change with its effect, and when that was there: 0 where a kill came before the note."""

    taken: Taken
    at: int


class Ledger:
    """Everything that was committed, by table, key, operation and version, of which each is written once."""

    def __init__(self) -> None:
        self.actors: dict[Write, str | None] = {}
        self.times: dict[Write, int] = {}
        self.truncated = 0
        self.transactions = 0

    def add(self, notes: Iterable[Committed], outcomes: set[str]) -> None:
        """Take writers' notes; of a transaction whose end its writer was not told, `outcomes` knows.

        Raises:
            AssertionError: a note and the table contradict each other, so that nothing could be checked.
        """
        for note in notes:
            if note.sure and note.outcome not in outcomes:
                raise AssertionError(f"transaction {note.outcome} was committed, and the table does not have it")
            if note.outcome not in outcomes:
                continue
            self.transactions += 1
            self.truncated += note.truncated
            for write in note.writes:
                if write in self.actors:
                    raise AssertionError(f"{write} was written twice: the writers cannot be checked against")
                self.actors[write], self.times[write] = note.actor, note.at


def check(
    ledger: Ledger, name: str, effects: Sequence[Effect], tables: Sequence[str] | None, exactly_once: bool, say: Violate
) -> int:
    """Check one follower; `say(violation, detail)` for each violation. Returns how many changes it was delivered.

    An effect that is at least once may be repeated from an earlier position on: repetitions are left out.
    """
    if not effects or effects[0].taken.table != "*":
        say("missed_reset", f"{name} did not begin with a reset of everything")
    positions: set[tuple[int, int]] = set()
    given: set[Write] = set()
    versions: dict[tuple[str, str], int] = {}
    resets = 0
    for effect in effects:
        it = effect.taken
        if it.table == "*":
            continue
        if not exactly_once:
            if (it.tick, it.seq) in positions:
                continue
            positions.add((it.tick, it.seq))
        if it.op == "reset":
            resets += 1
            continue
        if it.key is None or it.version is None:
            say("invented", f"{name} was given {it}")
            continue
        write = Write(it.table, it.key, it.op, it.version)
        if write in given:
            say("effect_twice", f"{name}: {write}")
            continue
        given.add(write)
        if write not in ledger.actors:
            say("invented", f"{name} was given {write}, which nobody committed")
            continue
        if it.actor != ledger.actors[write]:
            say("wrong_actor", f"{name}: {write} is {ledger.actors[write]!r}'s, and was blamed on {it.actor!r}")
        last = versions.get((it.table, it.key), 0)
        if it.version < last or (it.version == last and it.op != "delete"):
            say("regression", f"{name}: {write} came after version {last}")
        versions[it.table, it.key] = max(last, it.version)
        if it.generation is not None and it.table == "wiped" and ledger.truncated and it.generation != resets:
            kind = "missed_reset" if it.generation > resets else "regression"
            say(kind, f"{name}: a row of generation {it.generation} came after {resets} resets of its table")
    if tables is None or "wiped" in tables:
        for _ in range(ledger.truncated - resets):
            say("missed_reset", f"{name} was told {resets} of {ledger.truncated} TRUNCATEs")
        for _ in range(resets - ledger.truncated):
            say("invented", f"{name} was told {resets} TRUNCATEs, of which {ledger.truncated} were committed")
    for write in ledger.actors:
        if write not in given and (tables is None or write.table in tables):
            say("lost", f"{name} was never given {write}")
    return len(given)


def latencies(ledger: Ledger, effects: Sequence[Effect], kills: Sequence[tuple[int, int]]) -> dict[str, float]:
    """p50, p99 and max in milliseconds from the return of the commit until the effect is there.

    A change is left out when it was committed from 0.5 s before a kill of its follower until 1 s after the first
    effect behind the restart, and when a kill came between effect and note. `kills` are (killed, restarted).
    """
    done = sorted({effect.at for effect in effects if effect.at})
    windows = []
    for killed, restarted in kills:
        first = bisect_right(done, restarted)
        windows.append((killed - 500_000_000, (done[first] if first < len(done) else 2**62) + 1_000_000_000))
    seen: dict[Write, int] = {}
    for effect in effects:
        it = effect.taken
        if it.key is not None and it.version is not None and effect.at:
            seen.setdefault(Write(it.table, it.key, it.op, it.version), effect.at)
    found: list[float] = []
    for write, at in seen.items():
        committed = ledger.times.get(write, 0)
        if committed and not any(begin <= committed <= end for begin, end in windows):
            found.append(max(0.0, (at - committed) / 1e6))
    if not found:
        return {}
    return {
        "p50 ms": round(quantile(found, 0.5), 1),
        "p99 ms": round(quantile(found, 0.99), 1),
        "max ms": round(max(found), 1),
    }
