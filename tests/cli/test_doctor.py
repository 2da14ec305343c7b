"""`holdfast doctor`: healthy or not, and what to do about it."""

import pytest

from devservers.process import free_port
from tests.cli.command import Outcome, Shell, fetch

TRIGGERS = {
    "sqlite": "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'x402_payments'",
    "postgresql": "SELECT tgname, 'x402_payments' FROM pg_trigger WHERE tgrelid = 'x402_payments'::regclass"
    " AND NOT tgisinternal",
}


def wrong(done: Outcome) -> dict[str, str]:
    """The checks that are not as they must be, and what to do."""
    assert list(done.json) == ["ok", "findings"]
    found = {}
    for finding in done.json["findings"]:
        assert list(finding) == ["check", "state", "detail", "do"]
        assert finding["state"] in ("ok", "note", "wrong")
        if finding["state"] == "wrong":
            found[finding["check"]] = finding["do"]
            assert finding["detail"]
            assert finding["do"]
    assert done.json["ok"] is not bool(found)
    assert done.code == (1 if found else 0)
    assert done.err == ""
    return found


def test_it_finds_what_is_wrong_and_says_what_to_do(shell: Shell, database_url: str) -> None:
    doctor = ("doctor", "--database", database_url, "--json")
    kind = database_url.partition(":")[0]
    # Not there, or empty.
    found = wrong(shell.run(*doctor))
    assert found == (
        {"database": "make it: holdfast migrate up"}
        if kind == "sqlite"
        else {"migrations": "run `holdfast migrate up`"}
    )
    assert shell.run("migrate", "up", "--database", database_url).code == 0
    healthy = shell.run(*doctor)
    assert wrong(healthy) == {}
    checks = ["configuration", "database", "migrations", "capture", "journal"]
    assert [finding["check"] for finding in healthy.json["findings"]] == checks
    # An index that somebody dropped.
    fetch(database_url, "DROP INDEX ix_token_transfers_mint")
    done = shell.run(*doctor)
    assert wrong(done) == {"migrations": "run `holdfast migrate up`"}
    assert "the database lacks index ix_token_transfers_mint" in done.out
    # A trigger that somebody dropped.
    name, table = fetch(database_url, TRIGGERS[kind])[0]
    fetch(database_url, f'DROP TRIGGER "{name}"' + (f" ON {table}" if kind == "postgresql" else ""))
    done = shell.run(*doctor)
    found = wrong(done)
    assert set(found) == {"migrations", "capture"}
    assert "holdfast migrate up" in found["capture"]
    assert "x402_payments" in done.out
    for_people = shell.run("doctor", "--database", database_url)
    assert for_people.code == 1
    assert sum(line.startswith("WRONG ") for line in for_people.out.splitlines()) == 2
    assert sum(line.startswith("note ") for line in for_people.out.splitlines()) == 1  # nobody follows yet
    assert sum(line.strip().startswith("→ ") for line in for_people.out.splitlines()) == 3
    # Doing what it says heals both.
    assert shell.run("migrate", "up", "--database", database_url).code == 0
    assert wrong(shell.run(*doctor)) == {}


def test_a_follower_that_fails_or_has_dead_letters_is_found(shell: Shell, database_url: str) -> None:
    with shell.up("--database", database_url, "--no-sample") as service:
        service.becomes("/v1/status", lambda status, body: status == 200 and body["ok"])
        service.stop()
    doctor = ("doctor", "--database", database_url)
    assert wrong(shell.run(*doctor, "--json")) == {}
    fetch(
        database_url,
        "UPDATE holdfast_followers SET state = 'failing', reason = 'the mail server [is] down' WHERE name = 'rollups'",
    )
    done = shell.run(*doctor, "--json")
    assert "holdfast journal status" in wrong(done)["journal"]
    assert "the mail server [is] down" in done.out
    assert "rollups is failing: the mail server [is] down" in shell.run("journal", "status", *doctor[1:]).out
    fetch(database_url, "UPDATE holdfast_followers SET state = 'following', reason = NULL")
    change = (
        '{"seq":5,"tick":5,"table":"agents","op":"update","key":"k1","tenant":null,"actor":null,"request":null,'
        '"old":null,"new":null,"at":null}'
    )
    fetch(
        database_url,
        "INSERT INTO holdfast_dead_letters (follower, seq, tbl, key, change, error, parked)"
        f" VALUES ('rollups', 5, 'agents', 'k1', '{change}', 'ValueError: [no] way', 1750000000.0)",
    )
    done = shell.run(*doctor, "--json")
    assert "holdfast journal parked" in wrong(done)["journal"]
    assert "1 dead letters" in done.out
    listed = shell.run("journal", "parked", "rollups", "--database", database_url)
    assert listed.out == "2025-06-15 15:06:40Z update agents k1: ValueError: [no] way\n"
    [letter] = shell.run("journal", "parked", "rollups", "--database", database_url, "--json").lines
    assert (letter["change"]["key"], letter["error"]) == ("k1", "ValueError: [no] way")
    skipped = shell.run("journal", "skip", "rollups", "--key", "k1", "--database", database_url)
    assert skipped.out == "dropped 1 dead letter of rollups\n"
    assert wrong(shell.run(*doctor, "--json")) == {}


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"HOLDFAST_DATABASE_POOL_SIZE": "many"}, "HOLDFAST_DATABASE_POOL_SIZE='many'"),
        ({"HOLDFAST_ENV": "production"}, "HOLDFAST_DATABASE_URL"),
        ({"HOLDFAST_DATABASE_URL": "mysql://app:hidden@db/x"}, "mysql"),
        ({"HOLDFAST_CORS_ORIGINS": "*"}, "HOLDFAST_CORS_ORIGINS"),
        ({"HOLDFAST_KEY_BCRYPT": "5"}, "HOLDFAST_KEY_BCRYPT=5"),
        ({"HOLDFAST_LIMITS": "pro=1/s, free=abc"}, "HOLDFAST_LIMITS, of the tier 'free': 'abc' is no limit"),
        ({"HOLDFAST_MODELS": "holdfast.apps.accounts", "HOLDFAST_KEY_PREFIX": "A B"}, "HOLDFAST_KEY_PREFIX"),
    ],
)
def test_a_variable_that_says_nothing_sensible_is_named(shell: Shell, variables: dict[str, str], named: str) -> None:
    done = shell.run("doctor", "--json", **variables)
    assert list(wrong(done)) == ["configuration"]
    assert named in done.json["findings"][0]["detail"]
    assert "hidden" not in done.out


def test_a_server_that_does_not_answer_is_told_without_its_password(shell: Shell) -> None:
    url = f"postgresql://app:hidden@127.0.0.1:{free_port()}/app"
    done = shell.run("doctor", "--json", "--database", url)
    assert list(wrong(done)) == ["database"]
    assert "cannot be reached" in done.out
    assert "hidden" not in done.out


def test_a_file_that_is_no_database_is_told(shell: Shell) -> None:
    (shell.folder / "holdfast.db").write_bytes(b"This is a letter to a friend. " * 100)
    done = shell.run("doctor", "--json")
    assert list(wrong(done)) == ["database"]
    assert "is no usable SQLite database" in done.out
    assert wrong(done)["database"] == "restore it from a backup"
    assert shell.run("query", "transfers").err.startswith(
        "holdfast: sqlite:///holdfast.db is no usable SQLite database"
    )
