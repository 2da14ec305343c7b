"""Requests that schemathesis makes from `/openapi.json`, against it, over a real server: `make fuzz`.

All checks are on, over every address but the event stream, which does not end. Where the description cannot say what
is taken, the requests are mended, or the status is expected:

- an `Idempotency-Key` that was used for another request is a 422, so each request gets one of its own;
- `after` takes what a page before gave, and `sort` each column once: valid requests are sent without the one, and with
  no column twice;
- 412 and 428 are said of preconditions, 414 of what is too long;
- what a key may be (a time to come, a network, a name that can be seen) is more than a schema says: 422 is expected.

Requests come as if by a proxy, so that what is of this machine alone is refused.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import schemathesis
import structlog
from hypothesis.errors import HypothesisWarning
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events
from schemathesis.engine.core import Engine
from schemathesis.hooks import GLOBAL_HOOK_DISPATCHER

from holdfast.http import create_app
from tests.http.press import Press, press_at
from tests.http.served import serve

ACCEPTED = ["2xx", "3xx", "401", "403", "404", "409", "412", "429"]
REJECTED = ["400", "401", "403", "404", "405", "406", "409", "412", "413", "414", "415", "422", "428", "429"]


@dataclass
class Found:
    """What a run found: how many requests, how many verdicts of each check, and what failed."""

    requests: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def conform(url: str, key: str, *, examples: int, seed: int, only: str | None = None) -> Found:
    """Ask what is served at `url`, for the holder of an API key.

    Args:
        examples: requests an operation in the phase that draws them.
        only: a pattern of `METHOD path`; all but the stream unless given.
    """
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "headers": {"Via": "1.1 test"},
            "auth": {"openapi": {"key": {"api_key": key}, "bearer": {"bearer": key}}},
            "generation": {"max-examples": examples, "deterministic": True, "database": "none", "no-shrink": True},
            "continue-on-failure": True,
            "checks": {
                "positive_data_acceptance": {"expected-statuses": ACCEPTED},
                "negative_data_rejection": {"expected-statuses": REJECTED},
                "missing_required_header": {"expected-statuses": ["400", "401", "403", "406", "415", "422", "428"]},
            },
            "operations": [
                {
                    "include-path-regex": "^/v1/(api-keys|privacy)",
                    "checks": {"positive_data_acceptance": {"expected-statuses": [*ACCEPTED, "422"]}},
                }
            ],
        }
    )
    schema = schemathesis.openapi.from_url(f"{url}openapi.json", config=config)
    schema = schema.exclude(path="/v1/stream")
    if only is not None:  # what is included is overruled by the configuration's operations
        schema = schema.exclude(
            lambda asked: re.fullmatch(only, f"{asked.operation.method} {asked.operation.path}") is None
        )
    found = Found()
    schemathesis.hook("before_call")(_mend)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypothesisWarning)
            for event in Engine(schema).execute():
                _note(found, event)
    finally:
        GLOBAL_HOOK_DISPATCHER.unregister(_mend)
    return found


def _mend(context: Any, case: Any, kwargs: Any) -> None:
    if case.headers and "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = str(uuid4())
    if case.meta is not None and case.meta.generation.mode.is_positive and case.query:
        case.query.pop("after", None)
        if "sort" in case.query:
            sort = case.query["sort"]
            names = sort.split(",") if isinstance(sort, str) else list(sort)
            once = list({name.removeprefix("-"): name for name in names}.values())
            case.query["sort"] = ",".join(once) if isinstance(sort, str) else once


def _note(found: Found, event: Any) -> None:
    if isinstance(event, events.ScenarioFinished | events.FuzzScenarioFinished):
        recorder = event.recorder
        found.requests += len(recorder.interactions)
        for nodes in recorder.checks.values():
            for node in nodes:
                found.verdicts[node.name] = found.verdicts.get(node.name, 0) + 1
                if node.status == Status.FAILURE:
                    told = f"{recorder.label}: {node.name}: {node.failure_info.failure}"
                    found.failures.append(f"{told}\n{node.failure_info.code_sample[:3000]}")
    elif isinstance(event, events.NonFatalError | events.FatalError):
        found.failures.append(
            f"schemathesis itself: {getattr(event, 'value', None) or getattr(event, 'exception', event)}"
        )


async def filled(press: Press) -> None:
    """Rows to ask for."""
    await press.ask("ada", "POST", "desks", json={"room": 1})
    for number in range(3):
        given = {"headline": f"headline {number}", "slug": f"slug-{number}", "words": number, "worth": str(10**number)}
        await press.ask("ada", "POST", "articles", json=given)
    await press.ask("ada", "POST", "memos", json={"title": "memo"})


async def conforming(
    url: str, *, examples: int, seed: int, serving: Callable[[Any], Any] = create_app, who: str = "ada", **given: Any
) -> Found:
    """What is found at an application over the database at `url`.

    Args:
        who: asks: `ada` of an organisation, or `eve` of none.
    """
    async with press_at(url, key_guesses="unlimited") as press:
        await filled(press)
        async with serve(serving(press.hold)) as address:
            return await asyncio.to_thread(conform, address, press.keys[who], examples=examples, seed=seed, **given)


def main(arguments: list[str]) -> int:
    """Run it on SQLite, or on the database that is named; 1 where something failed."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=100, help="requests an operation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", help="an empty one; else SQLite in a temporary folder")
    asked = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as folder:
        url = asked.database or f"sqlite:///{folder}/fuzz.db"
        found = asyncio.run(conforming(url, examples=asked.examples, seed=asked.seed))
    for failure in found.failures:
        print(failure, end="\n\n")
    print(f"{found.requests} requests, {sum(found.verdicts.values())} verdicts, {len(found.failures)} failures")
    return 1 if found.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
