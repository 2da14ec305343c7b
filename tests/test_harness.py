"""The benchmark and torture harnesses, run on a toy of each."""

import json
import textwrap
from pathlib import Path

import pytest

from benchmarks.__main__ import main as bench
from benchmarks.harness import Options, Report, microseconds_each, per_second, quantile, readable
from torture.__main__ import main as torture

TOY_BENCHMARK = """
from benchmarks.harness import Report

order = []

async def run(options):
    report = Report("toy", options)

    def ours():
        order.append("ours")
        return 2.0

    async def theirs():
        order.append("theirs")
        return 1.0

    await report.measure("adding", "µs", {"ours": ours, "theirs": theirs})
    report.target("adding over theirs", report.ratio("adding", "ours", "theirs"), at_most=1.5)
    report.target("theirs", report.median("adding", "theirs"), at_least=1)
    return report
"""

TOY_TORTURE = """
from torture.harness import Result

PLANTS = {"forget": "drops one of the things it counts"}

async def run(options):
    result = Result("toy", options, ("lost", "twice"))
    result.figures["drawn"] = options.random("writer", 1).randrange(10**6)
    if options.plant == "forget":
        result.violate("lost", "thing 3 of [things]")
    return result
"""


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A package with a toy benchmark, a toy torture run and a helper that is neither."""
    name = f"toys_{request.node.name.translate(str.maketrans('[]-', '___'))}"
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "toy_benchmark.py").write_text(textwrap.dedent(TOY_BENCHMARK))
    (package / "toy_torture.py").write_text(textwrap.dedent(TOY_TORTURE))
    (package / "needs_what_is_missing.py").write_text("import a_package_nobody_has\n\n\nasync def run(options): ...\n")
    (package / "helper.py").write_text("def running(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_benchmark_prints_one_object(toys: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(["toy_benchmark", "--json", "--rounds", "3"], package=toys) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"benchmark", "machine", "cases", "targets"}
    assert report["benchmark"] == "toy"
    assert report["machine"]["cores"] >= 1
    assert report["cases"] == [
        {"case": "adding", "subject": "ours", "unit": "µs", "median": 2.0, "runs": [2.0, 2.0, 2.0]},
        {"case": "adding", "subject": "theirs", "unit": "µs", "median": 1.0, "runs": [1.0, 1.0, 1.0]},
    ]
    assert report["targets"] == [
        {"target": "adding over theirs ≤ 1.5", "figure": 2.0, "limit": 1.5, "met": False},
        {"target": "theirs ≥ 1", "figure": 1.0, "limit": 1.0, "met": True},
    ]


def test_subjects_take_turns_and_the_first_round_only_warms_up(toys: str) -> None:
    bench(["toy_benchmark", "--rounds", "2"], package=toys)
    module = __import__(f"{toys}.toy_benchmark", fromlist=["order"])
    assert module.order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]


def test_a_missed_target_is_said_to_a_person_and_fails_only_when_strict(
    toys: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(["toy_benchmark"], package=toys) == 0
    assert "missed" in capsys.readouterr().out
    assert bench(["toy_benchmark", "--strict"], package=toys) == 1


@pytest.mark.parametrize("main", [bench, torture])
def test_an_unknown_name_is_refused_with_the_known_ones(
    main: object, toys: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(main)
    assert main(["nonesuch"], package=toys) == 2
    told = capsys.readouterr().err
    assert "nonesuch" in told
    assert "needs_what_is_missing, toy_benchmark, toy_torture" in told


def test_names_are_listed_without_importing_them(toys: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench([], package=toys) == 0
    assert capsys.readouterr().out.split() == ["needs_what_is_missing", "toy_benchmark", "toy_torture"]


def test_a_torture_run_that_holds_prints_one_object_and_exits_0(toys: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert torture(["toy_torture", "--seed", "7", "--json"], package=toys) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["figures"]["drawn"] > 0
    assert first == {"torture": "toy", "seed": 7, "violations": {"lost": 0, "twice": 0}, "figures": first["figures"]}
    torture(["toy_torture", "--seed", "7", "--json"], package=toys)
    assert json.loads(capsys.readouterr().out) == first


def test_a_planted_fault_is_a_violation_and_exits_1(toys: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert torture(["toy_torture", "--plant", "forget", "--json"], package=toys) == 1
    assert json.loads(capsys.readouterr().out)["violations"] == {"lost": 1, "twice": 0}
    assert torture(["toy_torture", "--plant", "forget"], package=toys) == 1
    shown = capsys.readouterr().out
    assert "thing 3 of [things]" in shown
    assert "violated" in shown


def test_an_unknown_fault_is_refused_with_the_known_ones(toys: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert torture(["toy_torture", "--plant", "amnesia"], package=toys) == 2
    assert "'amnesia' is not one of: forget" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--seconds", "0"], ["--seconds", "-1"], ["--seconds", "soon"]])
def test_a_time_that_is_none_is_a_usage_error(option: list[str], toys: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        torture(["toy_torture", *option], package=toys)
    assert stopped.value.code == 2


def test_a_figure_that_is_no_number_cannot_be_recorded() -> None:
    report = Report("toy", Options())
    with pytest.raises(ValueError, match="finite"):
        report.record("adding", "ours", "µs", [1.0, float("nan")])
    with pytest.raises(ValueError, match="finite"):
        report.record("adding", "ours", "µs", [])


def test_a_target_needs_one_limit() -> None:
    report = Report("toy", Options())
    with pytest.raises(ValueError, match="at_most or at_least"):
        report.target("adding", 1.0)
    with pytest.raises(ValueError, match="at_most or at_least"):
        report.target("adding", 1.0, at_most=1, at_least=1)


async def test_a_rate_and_a_duration_describe_the_same_work() -> None:
    calls: list[int] = []

    async def work() -> None:
        calls.append(1)
        for _ in range(1000):
            pass

    assert await per_second(work, 10)() > 0
    assert await microseconds_each(lambda: calls.append(2), 10)() > 0
    assert calls == [1, 2]


def test_quantiles_are_values_that_occurred() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([float(n) for n in range(1, 101)], 0.99) == 99.0
    assert quantile([5.0], 0.0) == 5.0
    with pytest.raises(ValueError, match="quantile"):
        quantile([], 0.5)


@pytest.mark.parametrize(
    ("figure", "shown"),
    [(0, "0"), (1.15, "1.15"), (48.23, "48.2"), (402_618.4, "402,618"), (0.004567, "0.00457"), (2, "2")],
)
def test_figures_are_shown_with_three_digits(figure: float, shown: str) -> None:
    assert readable(figure) == shown
