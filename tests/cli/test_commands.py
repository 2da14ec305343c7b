"""What all commands share: help, usage, exit codes, one-line errors; migrations and the journal."""

import json
import signal

import pytest

from devservers.process import free_port
from tests.cli.command import Shell, fetch, finish, reading
from tests.cli.ledger import lines, payment

COMMANDS = [
    "",
    "up",
    "index",
    "index solana",
    "query",
    "query transfers",
    "migrate",
    "migrate new",
    "migrate up",
    "migrate down",
    "migrate status",
    "migrate lint",
    "migrate plan",
    "migrate check",
    "migrate history",
    "migrate repair",
    "migrate tenants",
    "migrate validate",
    "seed",
    "journal",
    "journal status",
    "journal tail",
    "journal parked",
    "journal retry",
    "journal skip",
    "journal rebuild",
    "journal forget",
    "cache",
    "cache stats",
    "cache keys",
    "cache clear",
    "cache warm",
    "cache bench",
    "encrypt",
    "encrypt new-key",
    "encrypt status",
    "encrypt rotate",
    "roles",
    "roles create",
    "roles sql",
    "keys",
    "keys create",
    "keys list",
    "keys rotate",
    "keys revoke",
    "keys verify",
    "keys new-pepper",
    "audit",
    "audit verify",
    "audit export",
    "audit checkpoint",
    "audit new-key",
    "privacy",
    "privacy check",
    "privacy export",
    "privacy verify",
    "privacy erase",
    "privacy erasures",
    "privacy resume",
    "privacy replay",
    "privacy consent",
    "privacy consent list",
    "privacy consent give",
    "privacy consent withdraw",
    "webhooks",
    "webhooks list",
    "webhooks replay",
    "work",
    "work list",
    "work history",
    "work run",
    "work pause",
    "work resume",
    "work forget",
    "doctor",
]


def test_every_command_is_known_and_its_help_has_an_example_that_fits_80_columns(shell: Shell) -> None:
    from typer.main import get_command

    from holdfast.cli import app

    known = [""]
    groups = [("", get_command(app))]
    while groups:
        path, group = groups.pop()
        for name, command in getattr(group, "commands", {}).items():
            known.append(f"{path} {name}".strip())
            groups.append((known[-1], command))
    assert sorted(known) == sorted(COMMANDS)
    # In one process, for starting one takes a second: what Typer prints is the same.
    script = (
        "import sys\n"
        "from holdfast.cli import app\n"
        "for command in sys.argv[1:]:\n"
        "    print('\\f')\n"
        "    app([*command.split(), '--help'], prog_name='holdfast', standalone_mode=False)\n"
    )
    done = shell.python(script, *COMMANDS, COLUMNS="80")
    pages = done.out.split("\f\n")[1:]
    assert len(pages) == len(COMMANDS)
    for command, page in zip(COMMANDS, pages, strict=True):
        assert f"Usage: holdfast {command}".strip() in page
        examples = page[page.index("Example") :]
        assert f"holdfast {command}".strip() in examples
        assert max(len(line) for line in page.splitlines()) <= 80


def test_version_and_usage(shell: Shell) -> None:
    from importlib.metadata import version

    assert shell.run("--version").out == version("holdfast") + "\n"
    for arguments in (["up", "--port", "70000"], ["index", "solana", "--nonsense"], ["quarry"]):
        done = shell.run(*arguments)
        assert (done.code, done.out) == (2, "")
        assert "Error" in done.err
    assert "Did you mean 'query'" in done.err or "quarry" in done.err
    assert list(shell.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://app:hidden@db/x", "'mysql' is not a supported database"),
        ("postgresql://app:hidden@127.0.0.1:99999/x", "port"),
        ("postgresql://app:hidden@a host/app", "names a host that cannot be one"),
        ("sqlite:///no/such/folder/x.db", "cannot be opened"),
        ("", "is no database URL"),
    ],
)
def test_a_wrong_url_is_one_line_without_the_password(shell: Shell, url: str, told: str) -> None:
    done = shell.run("migrate", "up", "--database", url)
    assert (done.code, done.out) == (1, "")
    [line] = done.err.splitlines()
    assert line.startswith("holdfast: ")
    assert told in line
    assert "hidden" not in line
    assert list(shell.folder.iterdir()) == []


def test_a_server_that_is_not_there_is_one_line(shell: Shell) -> None:
    url = f"postgresql://app:hidden@127.0.0.1:{free_port()}/app"
    for command in (["migrate", "up"], ["query", "transfers"], ["up", "--port", str(free_port())]):
        done = shell.run(*command, "--database", url, HOLDFAST_START_TIMEOUT="0.3")
        assert (done.code, done.out) == (1, "")
        [line] = done.err.splitlines()
        assert line.startswith(f"holdfast: {url.replace('hidden', '***')} cannot be reached")


def test_migrate_up_says_what_it_made_and_does_nothing_the_second_time(shell: Shell, database_url: str) -> None:
    migrate = ("migrate", "up", "--database", database_url)
    made = shell.run(*migrate)
    assert (made.code, made.err) == (0, "")
    assert made.out.splitlines()[0] == f"{database_url}: made what was missing"
    assert "  table x402_payments" in made.out.splitlines()
    assert shell.run(*migrate).out == f"{database_url}: nothing to do\n"
    fetch(database_url, "DROP INDEX ix_token_transfers_mint")
    once_more = shell.run(*migrate, "--json").json
    assert once_more == {
        "tables": [],
        "indexes": ["ix_token_transfers_mint"],
        "columns": [],
        "capture": [],
        "migrations": [],
    }


def test_the_journal_is_told_as_it_happens(shell: Shell, database_url: str) -> None:
    assert shell.run("migrate", "up", "--database", database_url).code == 0
    status = shell.run("journal", "status", "--database", database_url, "--json").json
    assert status["followers"] == []
    with reading(shell.start("journal", "tail", "--after", "1-0-0", "--json", "--database", database_url)) as process:
        assert process.stdout is not None
        # Written as it happens, not when a buffer is full. The first look at a database begins its first epoch.
        seen = [json.loads(process.stdout.readline())]
        assert (seen[0]["op"], seen[0]["table"]) == ("reset", "*")
        assert shell.run("index", "solana", "-", "--database", database_url, stdin=lines(payment(1))).code == 0
        fetch(database_url, "UPDATE x402_transactions SET error = '[bold]x'")
        while seen[-1]["op"] != "update":
            seen.append(json.loads(process.stdout.readline()))
        assert {change["table"] for change in seen} >= {"agents", "token_transfers", "x402_payments"}
        assert {change["actor"] for change in seen if change["op"] == "insert"} == {"index:solana"}
        assert (seen[-1]["table"], seen[-1]["actor"]) == ("x402_transactions", None)
        done = finish(process, signal.SIGINT)
    assert (done.code, done.err) == (130, "")
    told = shell.run("journal", "tail", "--after", "1-0-0", "--limit", "1", "--database", database_url)
    assert (told.code, told.err) == (0, "")
    for name in ("retry", "rebuild", "forget", "skip"):
        done = shell.run("journal", name, "[nobody]", "--database", database_url)
        assert (done.code, done.out) == (1, "")
        assert done.err == ("holdfast: there is no durable follower '[nobody]'; `holdfast journal status` lists them\n")
    done = shell.run("journal", "tail", "--after", "yesterday", "--database", database_url)
    assert (done.code, done.out) == (1, "")
    assert "'yesterday' is no journal position" in done.err
