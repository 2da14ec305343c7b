"""The journal benchmark, run on so little that it only shows that every part of it works."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def report() -> dict[str, list[dict[str, object]]]:
    """What `python -m benchmarks journal --json` wrote, run in a process of its own as it is by hand."""
    command = [sys.executable, "-m", "benchmarks", "journal", "--json", "--rounds", "1", "--scale", "0.002"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    written: dict[str, list[dict[str, object]]] = json.loads(ran.stdout)
    return written


def test_every_limit_of_the_journal_is_held_against_a_figure(report: dict[str, list[dict[str, object]]]) -> None:
    limits = sorted(target["limit"] for target in report["targets"])  # type: ignore[type-var]
    assert limits == sorted([0.6, 0.6, 0.45, 0.45, 0.28, 0.28, 20, 20, 60, 60, 2_000, 2_000, 50_000, 50_000, 50_000])
    assert all(target["figure"] > 0 for target in report["targets"])  # type: ignore[operator]


def test_capture_is_measured_beside_the_same_write_without_it(report: dict[str, list[dict[str, object]]]) -> None:
    subjects: dict[str, set[object]] = {}
    for case in report["cases"]:
        subjects.setdefault(str(case["case"]), set()).add(case["subject"])
    for case in ("COPY, narrow rows", "COPY, wide rows", "bulk insert into SQLite, narrow rows", "UPDATE, narrow rows"):
        assert subjects[case] == {"not captured", "keys", "four facts"}


def test_latencies_come_from_another_process_and_are_never_negative_from_sending_commit(
    report: dict[str, list[dict[str, object]]],
) -> None:
    latencies = [case for case in report["cases"] if str(case["subject"]).endswith("from sending COMMIT")]
    assert {case["case"] for case in latencies} == {
        "commit to another process, a 5 s writer open",
        "raw SQL to another process (poll)",
        "commit to another process, SQLite",
    }
    assert all(min(case["runs"]) > 0 for case in latencies)  # type: ignore[call-overload]
