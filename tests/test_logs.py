"""A library's logs: silent unless something is wrong, lines that stay lines, and the host's to configure."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from holdfast import logs
from tests.logs import capture_logs

log = logs.get_logger("holdfast.test")


@pytest.fixture
def shown() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs.show(stream, logging.INFO)
    yield stream
    logs.hide()


def test_a_host_that_configured_nothing_sees_warnings_on_standard_error_only() -> None:
    code = (
        "from holdfast.logs import get_logger; log = get_logger('holdfast.x');"
        "log.info('quiet'); log.warning('lease_lost', follower='f')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "event=lease_lost follower=f\n")


def test_a_fact_with_line_breaks_stays_in_its_line(shown: io.StringIO) -> None:
    log.info("failed", reason='one\ntwo "three"\r\x1b[31m', at=1.5, ok=True, none=None)
    assert shown.getvalue().count("\n") == 1
    assert r"event=failed reason=" in shown.getvalue()
    assert " at=1.5 ok=true none=None\n" in shown.getvalue()


def test_a_fact_moves_no_cursor(shown: io.StringIO) -> None:
    log.warning("seen", reason="\x1b[2Jgone\x07\x9b1m")
    assert "\x1b" not in shown.getvalue()
    assert "\\x1b[2Jgone" in shown.getvalue()


def test_a_level_is_kept(shown: io.StringIO) -> None:
    log.debug("too much")
    assert shown.getvalue() == ""


def test_a_traceback_has_no_values_of_local_variables(shown: io.StringIO) -> None:
    secret = "s3cr3t"
    try:
        raise LookupError(len(secret))
    except LookupError:
        log.exception("failed")
    assert "LookupError: 6" in shown.getvalue()
    assert secret + "'" not in shown.getvalue()


def test_the_event_is_there_for_handlers_that_keep_its_structure() -> None:
    with capture_logs() as events:
        log.debug("seen", n=1, name="x", message="y")
    assert events == [{"event": "seen", "n": 1, "name": "x", "message": "y"}]


def test_a_stream_that_is_closed_stops_nobody() -> None:
    stream = io.StringIO()
    logs.show(stream, logging.INFO)
    stream.close()
    try:
        log.info("nobody reads this")
    finally:
        logs.hide()
