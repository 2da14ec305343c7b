"""How many reads find something, where memory holds a part of the keys: ours beside moka-py alone and an LRU.

Memory is moka-py's, so the question is whether what we do around it (freshness, weights, times to live, counting)
costs hits. Keys are drawn by Zipf's law (exponent 0.99); HOLDFAST_BENCH_TRACES names more: files of recorded keys, a
line each, also .gz, separated as in PATH.

Then what predicting could bring: after half of a trace memory is emptied, as by a restart without Redis, and the first
twentieth of the reads behind that is counted: cold, with the keys that were read most before put back first, and as if
there had been no restart.
"""

from __future__ import annotations

import gzip
import itertools
import os
import random
import tempfile
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

from moka_py import Moka

from benchmarks.harness import Options, Report, Subject
from holdfast import Holdfast, Load
from holdfast.settings import Settings

TRACES = "HOLDFAST_BENCH_TRACES"
SHARES = (0.01, 0.05, 0.10)  # of the keys
READS = 300_000
KEYS = 30_000
EXPONENT = 0.99
PUT_BACK = 1_000  # keys
LESS = 0.005  # hit ratio: moka-py's own differs so much from run to run, for its sketch has a seed of its own


async def run(options: Options) -> Report:
    """Replay each trace at each capacity."""
    report = Report("cache_hit_ratio", options)
    with tempfile.TemporaryDirectory() as folder:
        for name, trace in _traces(options):
            keys = len(set(trace))
            for share in SHARES:
                capacity = max(1, round(share * keys))
                case = f"{name}, {share:.0%} of {keys:,} keys"
                await _case(report, case, trace, capacity, Path(folder))
                _after_restart(report, f"{case}, after a restart", trace, capacity)
    return report


async def _case(report: Report, case: str, trace: Sequence[str], capacity: int, folder: Path) -> None:
    async def ours() -> float:
        settings = Settings(database_url=f"sqlite:///{folder}/cache.db", cache_capacity=capacity)
        async with await Holdfast.open(settings=settings) as hold:
            loads = 0

            async def load(load: Load) -> int:
                nonlocal loads
                loads += 1
                return loads

            for key in trace:
                await hold.cache.get_or_load(key, load, ttl="1d", skip_l3=True)
            return 1 - loads / len(trace)

    subjects: dict[str, Subject] = {
        "holdfast": ours,
        "moka-py": lambda: _moka(trace, capacity),
        "LRU": lambda: _lru(trace, capacity),
    }
    await report.measure(case, "hit ratio", subjects, rounds=min(report.options.rounds, 3))
    behind = report.median(case, "moka-py") - report.median(case, "holdfast")
    report.target(f"{case}: hit ratio below moka-py's", behind, at_most=LESS)


def _after_restart(report: Report, case: str, trace: Sequence[str], capacity: int) -> None:
    half, first = len(trace) // 2, max(1, len(trace) // 20)
    hottest = [key for key, _ in Counter(trace[:half]).most_common(min(capacity, PUT_BACK))]
    for subject, before in (("cold", []), ("hottest put back", hottest), ("no restart", trace[:half])):
        cache: Moka[str, int] = Moka(capacity)
        _replayed(cache, before)
        report.record(case, subject, "hit ratio", [_replayed(cache, trace[half : half + first])])


def _replayed(cache: Moka[str, int], trace: Sequence[str]) -> float:
    hits = 0
    for key in trace:
        if cache.get(key) is not None:
            hits += 1
        else:
            cache.set(key, 1)
    return hits / max(1, len(trace))


def _moka(trace: Sequence[str], capacity: int) -> float:
    return _replayed(Moka(capacity), trace)


def _lru(trace: Sequence[str], capacity: int) -> float:
    cache: OrderedDict[str, int] = OrderedDict()
    hits = 0
    for key in trace:
        if key in cache:
            hits += 1
            cache.move_to_end(key)
        else:
            cache[key] = 1
            if len(cache) > capacity:
                cache.popitem(last=False)
    return hits / len(trace)


def _traces(options: Options) -> Iterator[tuple[str, list[str]]]:
    yield f"Zipf {EXPONENT}", zipf(options.scaled(READS), options.scaled(KEYS), EXPONENT)
    for file in filter(None, os.environ.get(TRACES, "").split(os.pathsep)):
        data = Path(file).read_bytes()
        lines = (gzip.decompress(data) if file.endswith(".gz") else data).decode().split()
        yield Path(file).name.partition(".")[0], lines


def zipf(reads: int, keys: int, exponent: float) -> list[str]:
    """Keys as they are read where the n-th most popular one has a share of n to the minus `exponent`."""
    weights = list(itertools.accumulate(rank**-exponent for rank in range(1, keys + 1)))
    names = [f"key:{rank}" for rank in range(keys)]
    return random.Random(1).choices(names, cum_weights=weights, k=reads)
