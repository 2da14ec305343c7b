"""`holdfast roles` and `holdfast doctor --isolation`."""

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from devservers import start_postgres
from devservers.postgres import in_own_loop
from tests.cli.command import Shell

MODELS = """
from sqlalchemy.orm import Mapped
from holdfast import Model, Policy

class Memo(Model):
    __tablename__ = "memos"
    __policy__ = Policy(tenant="org")
    org: Mapped[str]
"""


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def own_url() -> Iterator[str]:
    """A database of a server of its own: roles are the server's."""
    with start_postgres() as server, server.database() as url:
        yield url


def test_tenants_are_kept_apart_and_a_leak_is_told(shell: Shell, own_url: str) -> None:
    (shell.folder / "memos.py").write_text(MODELS)
    env = {"HOLDFAST_DATABASE_URL": own_url, "HOLDFAST_MODELS": "memos"}
    before = shell.run("doctor", "--isolation", **env)
    assert before.code == 1
    assert "run `holdfast roles create`" in before.out
    assert shell.run("migrate", "up", HOLDFAST_ROW_SECURITY="on", **env).code == 1
    made = shell.run("roles", "create", "--serving", "holdfast", **env)
    assert made.code == 0
    assert "CREATE ROLE holdfast_app NOLOGIN" in made.out
    again = shell.run("roles", "create", "--serving", "holdfast", "--json", **env)
    assert again.json == {"statements": ['GRANT holdfast_app, holdfast_worker TO "holdfast"']}
    env["HOLDFAST_ROW_SECURITY"] = "on"
    made = shell.run("migrate", "up", **env)
    assert made.code == 0, made.err
    in_own_loop(_execute(own_url, "INSERT INTO memos (org) VALUES ('a'), ('b')"))
    apart = shell.run("doctor", "--isolation", "--writes", "--json", **env)
    assert (apart.code, apart.json["leaks"], apart.json["untried"]) == (0, [], [])
    assert apart.json["attempts"] >= 30
    in_own_loop(_execute(own_url, "CREATE POLICY support ON memos USING (true)"))
    leaking = shell.run("doctor", "--isolation", **env)
    assert leaking.code == 1
    assert "LEAK  memos: reaches 1 rows that are not its own (holdfast_app, SELECT, own)" in leaking.out
    assert "policy support that is none of the models'" in leaking.out
    assert shell.run("doctor", **env).code == 1
    assert shell.run("migrate", "up", **env).code == 0
    assert shell.run("doctor", "--isolation", **env).code == 0


def test_what_makes_no_sense_is_told(shell: Shell, tmp_path: Path) -> None:
    refused = shell.run("roles", "create", "--database", f"sqlite:///{tmp_path / 'a.db'}")
    assert refused.code == 1
    assert "is no PostgreSQL" in refused.err
    assert shell.run("doctor", "--writes").code == 2
    told = shell.run("roles", "sql", "--serving", 'a"b', "--migrating", "deploy")
    assert told.code == 0
    assert 'GRANT holdfast_app, holdfast_worker TO "a""b";' in told.out
    assert 'GRANT holdfast_owner TO "deploy";' in told.out
