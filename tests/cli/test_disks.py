"""A full disk and a read-only one: told clearly, nothing half-written, and the same end once there is room."""

import pytest

from tests.cli.command import Shell, fetch
from tests.cli.disks import PLAIN_USER, small_disk
from tests.cli.ledger import ledger, write

STATE = (
    "SELECT signature, instruction, mint, amount, successful, payment FROM token_transfers ORDER BY signature",
    "SELECT signature, status, amount, agent_address FROM x402_payments ORDER BY signature",
    "SELECT signature, status, payments FROM x402_transactions ORDER BY signature",
    "SELECT address FROM agents ORDER BY address",
    # Every row was captured once.
    "SELECT (SELECT count(*) FROM token_transfers) + (SELECT count(*) FROM x402_payments)"
    " + (SELECT count(*) FROM x402_transactions) + (SELECT count(*) FROM agents)"
    " - (SELECT count(*) FROM holdfast_journal WHERE op = 'i')",
)


@pytest.mark.parametrize("mount", [True, False], ids=["file-system", "file-limit"])
def test_a_full_disk_is_told_and_a_rerun_with_room_ends_the_same(shell: Shell, mount: bool) -> None:
    file = write(shell.folder / "ledger.jsonl", ledger(7_000))
    with small_disk(14, mount=mount) as disk:
        index = ("index", "solana", file, "--all", "--json", "--database", f"{disk.folder}/small.db")
        full = shell.run(*index, prefix=disk.prefix)
        assert (full.code, full.out) == (1, "")
        kept, reason = full.err.splitlines()
        url = f"sqlite:///{disk.folder}/small.db"
        transfers = len(fetch(url, STATE[0]))
        assert 0 < transfers < 7_000
        assert kept == (
            f"holdfast: stopped; the {transfers:,} transactions read so far are kept; run the same again for the rest"
        )
        assert reason.startswith(f"holdfast: {disk.folder}/small.db has no space left")
        assert fetch(url, "PRAGMA integrity_check") == [("ok",)]
        assert fetch(url, STATE[-1]) == [(0,)]
        disk.make_room()
        done = shell.run(*index)
        assert (done.code, done.err) == (0, "")
        assert done.json["duplicates"] == transfers
        reference = f"sqlite:///{shell.folder}/reference.db"
        assert shell.run("index", "solana", file, "--all", "--database", reference).code == 0
        for statement in STATE:
            assert fetch(url, statement) == fetch(reference, statement)


def test_a_disk_too_small_for_the_tables_is_told_and_leaves_no_half_schema(shell: Shell) -> None:
    with small_disk(1, mount=False) as disk:
        prefix = (*disk.prefix[:-1], "40000")
        done = shell.run("migrate", "up", "--database", f"{disk.folder}/small.db", prefix=prefix)
        assert (done.code, done.out) == (1, "")
        [line] = done.err.splitlines()
        assert "has no space left" in line
        disk.make_room()
        again = shell.run("migrate", "up", "--database", f"{disk.folder}/small.db")
        assert again.out.startswith(f"{disk.folder}/small.db: made what was missing")
        assert shell.run("doctor", "--database", f"{disk.folder}/small.db").code == 0


def test_a_read_only_database_is_told_and_nothing_is_changed(shell: Shell) -> None:
    file = write(shell.folder / "ledger.jsonl", ledger(10))
    assert shell.run("index", "solana", file).code == 0
    before = fetch(f"sqlite:///{shell.folder}/holdfast.db", STATE[0])
    for path in shell.folder.iterdir():
        path.chmod(0o444)
    shell.folder.chmod(0o555)
    try:
        done = shell.run("index", "solana", file, "--all", prefix=PLAIN_USER)
        assert (done.code, done.out) == (1, "")
        assert "holdfast.db is read-only" in done.err.splitlines()[-1]
        # Nor can a new one be made there.
        new = shell.run("migrate", "up", "--database", "new.db", prefix=PLAIN_USER)
        assert (new.code, new.out) == (1, "")
        [line] = new.err.splitlines()
        assert line.startswith("holdfast: new.db cannot be opened")
        # SQLite keeps a log beside a file in WAL mode, so that reading it needs a folder that can be written.
        read = shell.run("query", "transfers", prefix=PLAIN_USER)
        assert (read.code, read.out) == (1, "")
        assert "holdfast.db is read-only" in read.err
        examined = shell.run("doctor", prefix=PLAIN_USER)
        assert examined.code == 1
        assert "holdfast.db is read-only" in examined.out
    finally:
        shell.folder.chmod(0o755)
        for path in shell.folder.iterdir():
            path.chmod(0o644)
    assert fetch(f"sqlite:///{shell.folder}/holdfast.db", STATE[0]) == before
    assert shell.run("index", "solana", file, "--json").json["duplicates"] == 7
