"""`holdfast index solana`: what it reads, what it says, and what it leaves in the database."""

import gzip
import json
import signal
import time
from pathlib import Path
from typing import Any

import zstandard

from tests.cli.command import PATIENCE, Shell, fetch, finish, reading
from tests.cli.ledger import gift, ledger, lines, payment, signature, write

KEYS = ["transactions", "failed", "transfers", "payments", "duplicates", "rejected", "seconds"]
KEPT = "SELECT signature, payment, successful FROM token_transfers ORDER BY id"


def counts(found: dict[str, Any]) -> tuple[int, ...]:
    """All but the seconds, in order."""
    assert list(found) == KEYS
    assert found["seconds"] > 0
    return tuple(found[name] for name in KEYS[:-1])


def test_a_run_says_what_it_read_and_the_same_again_adds_nothing(shell: Shell, database_url: str) -> None:
    file = write(shell.folder / "ledger.jsonl", ledger(10))
    first = shell.run("index", "solana", file, "--database", database_url, "--json")
    assert (first.code, first.err) == (0, "")
    assert counts(first.json) == (10, 1, 10, 7, 0, 0)
    # Without --all payments are kept, and the attempt that failed.
    kept = fetch(database_url, KEPT)
    assert {(s, bool(p), bool(ok)) for s, p, ok in kept} == {(signature(n), True, n != 6) for n in (*range(1, 7), 10)}
    assert counts(shell.run("index", "solana", file, "--database", database_url, "--json").json) == (10, 1, 10, 7, 7, 0)
    assert fetch(database_url, KEPT) == kept
    # The transfers that are no payments join them later.
    every = shell.run("index", "solana", file, "--database", database_url, "--all", "--json")
    assert counts(every.json) == (10, 1, 10, 7, 7, 0)
    assert len(fetch(database_url, KEPT)) == 10
    assert [n for (n,) in fetch(database_url, "SELECT count(*) FROM x402_payments WHERE status = 'failed'")] == [1]


def test_files_folders_and_standard_input_are_read_plain_and_compressed(shell: Shell) -> None:
    write(shell.folder / "more/a.json", json.dumps(payment(1)).encode())
    write(shell.folder / "more/deep/b.jsonl.gz", gzip.compress(lines(payment(2), gift(3))))
    write(shell.folder / "more/deep/c.ndjson.zst", zstandard.compress(lines(payment(4))))
    write(shell.folder / "more/readme.txt", b"not read")
    write(shell.folder / "envelope.json", json.dumps({"jsonrpc": "2.0", "id": 1, "result": payment(5)}).encode())
    paths = ("more", "envelope.json", "-")
    done = shell.run("index", "solana", *paths, "--all", "--json", stdin=gzip.compress(lines(payment(6), payment(7))))
    assert (done.code, done.err) == (0, "")
    assert counts(done.json) == (7, 0, 7, 6, 0, 0)
    again = shell.run("index", "solana", "-", "--json", stdin=lines(payment(6), payment(8)))
    assert counts(again.json) == (2, 0, 2, 2, 1, 0)


def test_what_is_no_record_is_set_aside_with_its_place_and_the_rest_is_indexed(shell: Shell) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    huge, negative = ledger_of_amount(str(2**256)), ledger_of_amount("-1")
    bad = write(
        shell.folder / "bad [red].jsonl",
        lines(payment(1)) + b'{"slot": [x]}\n\n' + deep + b"\n" + lines(huge, negative, gift(2)) + b'{"a":"\0"}\n[x]\n',
    )
    done = shell.run("index", "solana", bad.name, "--all", "--json")
    assert done.code == 3
    assert counts(done.json) == (2, 0, 2, 1, 0, 6)
    told = done.err.splitlines()
    places = [2, 4, 5, 6, 8, 9]
    assert [line.split(": ")[:2] for line in told] == [["rejected", f"bad [red].jsonl, line {n}"] for n in places]
    assert all(len(line.split(": ", 2)[2]) > 10 for line in told)
    rows = fetch(f"sqlite:///{shell.folder}/holdfast.db", "SELECT file, place, reason FROM holdfast_rejected_records")
    assert sorted(place for _, place, _ in rows) == [f"line {n}" for n in places]
    assert {f"rejected: {file}, {place}: {reason}" for file, place, reason in rows} == set(told)
    # For a person the same, and nothing of it is taken for markup or wrapped.
    told_again = shell.run("index", "solana", bad.name, "--all")
    assert told_again.code == 3
    assert told_again.err == done.err
    [summary] = told_again.out.splitlines()
    assert summary.startswith("2 transactions (0 failed), 2 token transfers, 1 x402 payments; 2 were there already; 6")


def ledger_of_amount(amount: str) -> dict[str, Any]:
    """A parsed answer whose one transfer says `amount`."""
    answer = payment(90)
    message = answer["transaction"]["message"]
    keys = message["accountKeys"]
    source, mint, destination, authority = (keys[i] for i in message["instructions"][2]["accounts"])
    parsed = {
        "type": "transferChecked",
        "info": {
            "source": source,
            "mint": mint,
            "destination": destination,
            "authority": authority,
            "tokenAmount": {"amount": amount, "decimals": 6, "uiAmount": None, "uiAmountString": "0"},
        },
    }
    program = keys[message["instructions"][2]["programIdIndex"]]
    message["instructions"] = [{"program": "spl-token", "programId": program, "parsed": parsed, "stackHeight": 1}]
    message["accountKeys"] = [
        {"pubkey": key, "signer": place < 2, "writable": True, "source": "transaction"}
        for place, key in enumerate(keys)
    ]
    del message["header"]
    return answer


def test_what_cannot_be_read_at_all_is_told_with_its_reason(shell: Shell) -> None:
    write(shell.folder / "cut.jsonl.gz", gzip.compress(ledger(200))[:-20])
    write(shell.folder / "empty.json", b"")
    (shell.folder / "nothing").mkdir()
    done = shell.run("index", "solana", "cut.jsonl.gz", "empty.json", "nothing", "--json")
    assert done.code == 3
    assert done.json["rejected"] == 3
    cut, empty, nothing = done.err.splitlines()
    assert cut.startswith("rejected: cut.jsonl.gz: truncated gzip stream")
    assert empty.startswith("rejected: empty.json: empty")
    assert nothing.startswith("rejected: nothing: no .json")


def test_a_path_that_is_not_there_is_a_slip_and_nothing_is_begun(shell: Shell) -> None:
    write(shell.folder / "good.json", json.dumps(payment(1)).encode())
    done = shell.run("index", "solana", "good.json", "god.json")
    assert (done.code, done.out) == (2, "")
    assert done.err == "holdfast: there is no file or folder 'god.json'; nothing was indexed\n"
    assert [path.name for path in shell.folder.iterdir()] == ["good.json"]


def test_files_of_ones_own_that_say_nothing_sensible_are_refused_before_anything_is_read(shell: Shell) -> None:
    write(shell.folder / "good.json", json.dumps(payment(1)).encode())
    write(shell.folder / "mine.json", b'{"facilitators": 7')
    for option in ("--facilitators", "--recognition"):
        done = shell.run("index", "solana", "good.json", option, "mine.json")
        assert (done.code, done.out) == (1, "")
        [line] = done.err.splitlines()
        assert line.startswith("holdfast: ")
        assert "mine.json" in line


def test_ctrl_c_keeps_what_was_read_even_while_standard_input_waits(shell: Shell) -> None:
    with reading(shell.start("index", "solana", "-", "--json")) as process:
        assert process.stdin is not None
        # A batch that began a second ago is stored when the next record comes.
        deadline = time.monotonic() + PATIENCE
        number = 0
        while not (kept := _kept(shell.folder / "holdfast.db")):
            assert time.monotonic() < deadline
            number += 1
            process.stdin.write(lines(payment(number)).decode())
            process.stdin.flush()
            time.sleep(0.2)
        time.sleep(0.3)  # until it waits for more again
        done = finish(process, signal.SIGINT)
    assert (done.code, done.out) == (130, "")
    assert done.err.startswith(f"holdfast: interrupted; the {kept} transactions read so far are kept")


def _kept(database: Path) -> int:
    tables = "SELECT count(*) FROM sqlite_master WHERE name = 'token_transfers'"
    if not database.exists() or fetch(f"sqlite:///{database}", tables) == [(0,)]:
        return 0
    return len(fetch(f"sqlite:///{database}", KEPT))
