"""`holdfast query transfers`: JSON lines for programs, a table for people."""

import json
import subprocess
from pathlib import Path

from tests.cli.command import PROGRAM, Shell, environment
from tests.cli.ledger import MINT, OTHER_MINT, ledger, lines, payment, signature, write
from tests.upstreams.drafts import ALICE, ALICES, BOB, BOBS

FIELDS = [
    "signature",
    "slot",
    "instruction",
    "inner",
    "kind",
    "mint",
    "decimals",
    "amount",
    "fee",
    "source",
    "source_owner",
    "destination",
    "destination_owner",
    "authority",
    "successful",
    "payment",
    "confidence",
    "reason",
]


def test_json_lines_have_exactly_the_promised_fields(shell: Shell, database_url: str) -> None:
    write(shell.folder / "one.jsonl", ledger(10))
    assert shell.run("index", "solana", "one.jsonl", "--all", "--database", database_url).code == 0
    query = ("query", "transfers", "--database", database_url, "--json")
    done = shell.run(*query)
    assert (done.code, done.err) == (0, "")
    rows = {row["signature"]: row for row in done.lines}
    assert len(rows) == 10
    assert all(list(row) == FIELDS for row in rows.values())
    one = rows[signature(1)]
    assert one.pop("reason")
    assert 0.5 <= one.pop("confidence") <= 1
    assert one == {
        "signature": signature(1),
        "slot": 300_000_001,
        "instruction": 2,
        "inner": None,
        "kind": "transferChecked",
        "mint": MINT,
        "decimals": 6,
        "amount": "1001",
        "fee": None,
        "source": ALICES,
        "source_owner": ALICE,
        "destination": BOBS,
        "destination_owner": BOB,
        "authority": ALICE,
        "successful": True,
        "payment": True,
    }
    assert [row["signature"] for row in shell.run(*query, "--failed").lines] == [signature(6)]
    assert {row["signature"] for row in shell.run(*query, "--successful").lines} == set(rows) - {signature(6)}
    others = shell.run(*query, "--mint", OTHER_MINT).lines
    assert sorted(row["amount"] for row in others) == ["7", "8", "9"]
    assert {row["kind"] for row in others} == {"transfer"}
    assert not any(row["payment"] for row in others)
    for none in ("no such mint", "a\x1b[31m", "'; DROP TABLE token_transfers; --"):
        done = shell.run(*query, "--mint", none)
        assert (done.code, done.out, done.err) == (0, "", "")


def test_the_table_for_people_fits_a_narrow_terminal_and_cuts_off_no_amount(shell: Shell) -> None:
    write(shell.folder / "two.jsonl", lines(payment(1), payment(2, amount=2**40), payment(6, failed=True)))
    shell.run("index", "solana", "two.jsonl")
    for width in ("80", "160"):
        done = shell.run("query", "transfers", COLUMNS=width)
        assert (done.code, done.err) == (0, "")
        head, *rows = done.out.splitlines()
        assert head.split() == ["signature", "slot", "at", "mint", "amount", "from", "to", "x402"]
        assert max(map(len, done.out.splitlines())) <= int(width)
        assert {row.split()[4] for row in rows} == {"0.001001", "1099511.627776", "0.001006"}
        assert [row.split()[-1] for row in rows].count("failed") == 1
    assert shell.run("query", "transfers", "--mint", "x").out == "No transfers fit.\n"


def test_a_reader_that_goes_away_is_no_error_worth_a_word(shell: Shell) -> None:
    write(shell.folder / "many.jsonl", ledger(2_000))
    shell.run("index", "solana", "many.jsonl")
    for options in (["--json"], []):
        process = subprocess.Popen(
            [*PROGRAM, "query", "transfers", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=shell.folder,
            env=environment(),
        )
        assert process.stdout is not None
        if options:
            assert json.loads(process.stdout.readline())["signature"]
        process.stdout.close()
        assert process.stderr is not None
        with process.stderr as stderr:
            assert stderr.read() == b""
        assert process.wait(30) == 3
    # A disk that is full is worth one.
    with open("/dev/full", "wb") as full:
        for options in (["--json"], []):
            done = subprocess.run(
                [*PROGRAM, "query", "transfers", *options],
                stdout=full,
                stderr=subprocess.PIPE,
                cwd=shell.folder,
                env=environment(),
                timeout=60,
            )
            assert done.returncode == 1
            [line] = done.stderr.decode().splitlines()
            assert line.startswith("holdfast: cannot ")
            assert "No space left on device" in line


def test_a_database_that_is_not_there_is_told_and_not_made(shell: Shell) -> None:
    for command in (["query", "transfers"], ["journal", "tail"]):
        done = shell.run(*command)
        assert (done.code, done.out) == (1, "")
        assert done.err == "holdfast: there is no database holdfast.db; make it with `holdfast migrate up`\n"
    assert list(shell.folder.iterdir()) == []


def test_a_database_that_was_never_migrated_is_told_as_that(shell: Shell, database_url: str) -> None:
    if database_url.startswith("sqlite"):
        write(Path(database_url.removeprefix("sqlite:///")), b"")
    for command in (["query", "transfers"], ["journal", "status"], ["journal", "tail"]):
        done = shell.run(*command, "--database", database_url)
        assert (done.code, done.out) == (1, "")
        [line] = done.err.splitlines()
        assert line.startswith(f"holdfast: {database_url} is not migrated (table ")
        assert line.endswith("run `holdfast migrate up`")
