"""`holdfast up`: started in an empty folder, ended by Ctrl-C, and what happens to it in between."""

import os
import signal
import socket
import time

import httpx

from devservers.process import free_port
from tests.cli.command import Shell, fetch
from tests.cli.ledger import ledger
from tests.cli.postgres import mortal_postgres

SUMMARY = "/v1/analytics/summary"
PAYMENT = """
    UPDATE x402_payments SET status = 'settled', amount = '{amount}' WHERE id = (
        SELECT id FROM x402_payments WHERE status = 'failed' ORDER BY id LIMIT 1)
"""


def test_it_shows_the_sample_in_an_empty_folder_and_ctrl_c_ends_it_cleanly(shell: Shell) -> None:
    database = f"sqlite:///{shell.folder}/holdfast.db"
    with shell.up() as service:
        assert service.said == [
            "Holdfast on sqlite:///holdfast.db",
            "The sample ledger: 4,762 payments in 6,000 transactions",
        ]
        # The line with the URL is the promise that it answers.
        assert service.get("/health")[0] == 200
        status, page = service.get("/")
        assert status == 200
        assert "<html" in page
        # Figures come a batch of buckets at a time, so what is compared with is the whole.
        _, summary = service.becomes(
            SUMMARY, lambda status, body: status == 200 and body["settled"] + body["failed"] == 4_762
        )
        # Raw SQL by another program, and the figures follow by themselves.
        fetch(database, PAYMENT.format(amount="7".rjust(78, "0")))
        began = time.monotonic()
        service.becomes(SUMMARY, lambda _, body: body["settled"] == summary["settled"] + 1)
        assert time.monotonic() - began < 10  # under a second on an idle machine
        # The port is taken now.
        port = service.url.rpartition(":")[2]
        second = shell.run("up", "--port", port)
        assert (second.code, second.out) == (1, "")
        assert second.err == f"holdfast: port {port} on 127.0.0.1 is taken; try holdfast up --port {int(port) + 1}\n"
        # A second one beside it, on the same file.
        with shell.up() as beside:
            assert beside.said == ["Holdfast on sqlite:///holdfast.db"]
            assert beside.get(SUMMARY)[1]["settled"] == summary["settled"] + 1
            done = beside.stop(signal.SIGTERM)
            assert (done.code, done.out, done.err) == (0, "Stopped.\n", "")
        # Event streams and idle connections do not keep it from ending.
        with (
            socket.create_connection(("127.0.0.1", int(port))) as stream,
            socket.create_connection(("127.0.0.1", int(port))),
        ):
            stream.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" in stream.recv(100)
            done = service.stop(signal.SIGINT)
        assert (done.code, done.out, done.err) == (0, "Stopped.\n", "")
    assert fetch(database, "SELECT count(*) FROM holdfast_followers WHERE until > 0") == [(0,)]
    payments = fetch(database, "SELECT count(*) FROM x402_payments")
    # kill -9, and up again: nothing is added, and nothing is missing.
    with shell.up() as killed:
        killed.process.kill()
    with shell.up() as service:
        assert service.said == ["Holdfast on sqlite:///holdfast.db"]
        service.becomes(SUMMARY, lambda _, body: body["settled"] == summary["settled"] + 1)
        service.stop()
    assert fetch(database, "SELECT count(*) FROM x402_payments") == payments


def test_the_sample_goes_where_it_is_asked_for_and_nowhere_else(shell: Shell, database_url: str) -> None:
    empty = "SELECT count(*) FROM agents"
    with shell.up("--no-sample") as service:
        assert service.get(SUMMARY)[1]["agents"] == 0
        service.stop()
    assert fetch(f"sqlite:///{shell.folder}/holdfast.db", empty) == [(0,)]
    with shell.up("--database", database_url) as service:
        service.stop()
    assert fetch(database_url, empty) == [(0,)]
    with shell.up("--database", database_url, "--sample") as service:
        assert service.said[1].startswith("The sample ledger: 4,762 payments")
        service.becomes(SUMMARY, lambda status, body: status == 200 and body["settled"] > 4_000)
        service.stop()
    assert fetch(database_url, empty) == [(50,)]


def test_on_loopback_it_answers_to_this_machines_names_only(shell: Shell) -> None:
    with shell.up("--no-sample") as service:
        for host, status in (("localhost", 200), ("127.0.0.1:9", 200), ("evil.example", 421)):
            assert httpx.get(f"{service.url}/health", headers={"Host": host}, timeout=20).status_code == status
        service.stop()


def test_a_database_in_memory_keeps_nothing_and_is_refused(shell: Shell) -> None:
    for url in ("sqlite://", "sqlite:///", "sqlite:///:memory:"):
        for command in (("index", "solana", "-"), ("up", "--port", str(free_port()))):
            done = shell.run(*command, "--database", url, stdin=ledger(1))
            assert (done.code, done.out) == (1, "")
            assert f"{url} is a database in memory" in done.err
            assert "name a file" in done.err


def test_a_redis_that_is_no_redis_is_refused(shell: Shell) -> None:
    done = shell.run("up", "--redis", "foo://user:hidden@x", "--port", str(free_port()))
    assert (done.code, done.out) == (1, "")
    assert "HOLDFAST_REDIS_URL must begin with redis://" in done.err
    assert "hidden" not in done.err


def test_a_database_that_crashes_comes_back_under_it(shell: Shell) -> None:
    with mortal_postgres() as postgres, postgres.server.database() as url:
        indexed = shell.run("index", "solana", "-", "--database", url, stdin=ledger(10))
        assert indexed.code == 0
        with shell.up("--database", url) as service:
            service.becomes(SUMMARY, lambda status, body: status == 200 and body["settled"] == 6)
            postgres.crash()
            _, body = service.becomes("/health", lambda status, _: status == 503)
            assert body["parts"]["database"]["status"] == "down"
            assert service.get(SUMMARY)[0] == 503
            postgres.come_back()
            service.becomes("/health", lambda status, _: status == 200)
            # Its follower goes on too.
            fetch(url, PAYMENT.format(amount="7"))
            service.becomes(SUMMARY, lambda status, body: status == 200 and body["settled"] == 7)
            done = service.stop()
            assert (done.code, done.out) == (0, "Stopped.\n")
            assert "Traceback" not in done.err


def test_ctrl_c_ends_it_while_it_waits_for_a_database(shell: Shell) -> None:
    url = f"postgresql://app:hidden@127.0.0.1:{free_port()}/app"
    process = shell.start("-v", "up", "--port", str(free_port()), "--database", url, HOLDFAST_START_TIMEOUT="300")
    assert process.stderr is not None
    assert "database_unreachable" in process.stderr.readline()
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "Stopped.\n")
    assert "Traceback" not in err
    assert "hidden" not in err


def test_an_address_that_is_not_this_machines_is_told(shell: Shell) -> None:
    for host in ("192.0.2.1", "no.such.host.invalid"):
        done = shell.run("up", "--host", host, "--port", str(free_port()))
        assert (done.code, done.out) == (1, "")
        [line] = done.err.splitlines()
        assert line.startswith(f"holdfast: cannot listen on {host}:")
    assert list(shell.folder.iterdir()) == []
