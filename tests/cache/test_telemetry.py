"""What OpenTelemetry reads of the cache, in a process of its own: its provider is one for all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APPLICATION = """
import asyncio, json, sys
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from holdfast import Holdfast

async def main():
    late = sys.argv[1] == "late"
    reader = InMemoryMetricReader()
    if not late:
        metrics.set_meter_provider(MeterProvider([reader]))

    async def load(load):
        return 1

    async def broken(load):
        raise OSError

    found = []
    async with await Holdfast.open("sqlite:///one.db") as one, await Holdfast.open("sqlite:///two.db") as two:
        if late:
            metrics.set_meter_provider(MeterProvider([reader]))
        for hold in (one, two, two):
            await hold.cache.get_or_load("user:1", load)
        try:
            await one.cache.get_or_load("user:2", broken)
        except OSError:
            pass
        for resource in reader.get_metrics_data().resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        found.append([metric.name, dict(point.attributes), point.value])
    print(json.dumps(found))

asyncio.run(main())
"""


def read(folder: Path, when: str) -> dict[tuple[str, ...], float]:
    done = subprocess.run(
        [sys.executable, "-c", APPLICATION, when],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return {(name, *map(str, attributes.values())): value for name, attributes, value in json.loads(done.stdout)}


def test_the_counts_of_all_caches_are_read_whenever_the_provider_comes(tmp_path: Path) -> None:
    for when in ("early", "late"):
        folder = tmp_path / when
        folder.mkdir()
        found = read(folder, when)
        assert found["holdfast.cache.reads", "user:*", "memory"] == 1
        assert found["holdfast.cache.reads", "user:*", "none"] == 3
        assert found["holdfast.cache.loads", "user:*", "ok"] == 2
        assert found["holdfast.cache.loads", "user:*", "failed"] == 1
        assert found["holdfast.cache.load.time", "user:*"] > 0
        assert found["holdfast.cache.entries",] == 2
