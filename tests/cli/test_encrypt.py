"""`holdfast encrypt`: a key is made, put in front, what is old is encrypted anew, and the old key goes."""

import asyncio
import re
from pathlib import Path

from holdfast import ALL, Holdfast
from holdfast.apps import accounts
from holdfast.apps.accounts import User
from holdfast.secrets import new_key
from holdfast.settings import Settings
from tests.cli.command import Shell
from tests.cli.conftest import Run

MODELS = """
from sqlalchemy.orm import Mapped, mapped_column
from holdfast import Encrypted, Model

class Patient(Model):
    __tablename__ = "patients"
    name: Mapped[str] = mapped_column(Encrypted(blind=True))
"""
KEPT = """
from sqlalchemy import JSON
from sqlalchemy.orm import Mapped, mapped_column
from holdfast import *

class Patient(Timestamps, Attributed, SoftDeleted, Versioned, Model):
    __tablename__ = "patients"
    __policy__ = Policy(tenant="org")
    __table_args__ = (live_unique("org", "number"),)
    org: Mapped[str]
    number: Mapped[int]
    name: Mapped[str] = mapped_column(Encrypted(blind=True))
    facts: Mapped[dict] = mapped_column(Encrypted(JSON))

class Membership(KeyedModel):
    __tablename__ = "memberships"
    __policy__ = Policy(tenant="org")
    org: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
"""
WRITE = """
import asyncio
from holdfast import Holdfast, Query
from myapp import Patient

async def main():
    async with await Holdfast.open() as hold:
        async with hold.unit() as unit:
            await unit[Patient].add_many([{"name": f"n{n}"} for n in range(7)])
            assert await unit[Patient].exists(Query(Patient).where(name="n3"))

asyncio.run(main())
"""


def test_keys_are_made_counted_and_rotated(shell: Shell) -> None:
    (shell.folder / "myapp.py").write_text(MODELS)
    old = shell.run("encrypt", "new-key", "k1").out.strip()
    new = shell.run("encrypt", "new-key", "k2", "--json").json
    assert re.fullmatch(r"k1:[A-Za-z0-9+/]{43}=", old)
    assert new["key"].startswith("k2:")
    keep = {"HOLDFAST_MODELS": "myapp", "HOLDFAST_DATABASE_URL": "sqlite:///here.db"}
    shell.python(WRITE, **keep, HOLDFAST_ENCRYPTION_KEYS=old)

    both = {**keep, "HOLDFAST_ENCRYPTION_KEYS": f"{new['key']},{old}"}
    (counted,) = shell.run("encrypt", "status", "--json", **both).lines
    assert counted == {"column": "patients.name", "keys": {"k2": 0, "k1": 7}, "rotates": True}
    rotated = shell.run("encrypt", "rotate", **both)
    assert (rotated.code, rotated.out) == (0, "patients: 7 rows encrypted anew\n")
    assert shell.run("encrypt", "rotate", "--json", **both).lines == [
        {"table": "patients", "rows": 0, "unreadable": [], "kept": {}}
    ]

    only = {**keep, "HOLDFAST_ENCRYPTION_KEYS": new["key"]}
    shown = shell.run("encrypt", "status", **only)
    assert re.search(r"patients\.name +k2 +7", shown.out)
    assert "other" not in shown.out


async def log_in(env: dict[str, str], name: str) -> None:
    settings = Settings.from_environment(env)
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata, follow=True) as hold:
        async with hold.unit(tenant=ALL) as unit:
            await unit[User].add(User(external_id=name, email=f"{name}@example.com"))
            await hold.audit.record(unit, "login", private={"code": f"of {name}"})  # about nobody: under the ring
        await hold.audit.caught_up()


def test_keys_that_the_audit_trail_alone_has_are_told_and_kept(run: Run, tmp_path: Path) -> None:
    here = {"HOLDFAST_MODELS": "holdfast.apps.accounts", "HOLDFAST_DATABASE_URL": "sqlite:///here.db"}
    old, new = new_key("k1"), new_key("k2")
    for keys, name in ((old, "ada"), (f"{new},{old}", "bob")):
        asyncio.run(log_in({**here, "HOLDFAST_ENCRYPTION_KEYS": keys}, name))
    both = {**here, "HOLDFAST_ENCRYPTION_KEYS": f"{new},{old}:read"}
    people = {"column": "holdfast_subject_keys.wrapped", "keys": {"k2": 1, "k1": 1}, "rotates": True}
    sealed = {"column": "audit_logs.sealed", "keys": {"k2": 1, "k1": 1}, "rotates": False}
    assert run("encrypt", "status", "--json", **both).lines == [people, sealed]
    assert run("encrypt", "rotate", "--json", **both).lines == [
        {"table": "holdfast_subject_keys", "rows": 1, "unreadable": [], "kept": {}},
        {"table": "audit_logs", "rows": 0, "unreadable": [], "kept": {"k1": 1}},
    ]
    people["keys"] = {"k2": 2, "k1": 0}
    assert run("encrypt", "status", "--json", **both).lines == [people, sealed]
    for command in ("status", "rotate"):
        assert "audit_logs: 1 records are under k1 and stay so" in run("encrypt", command, **both).out
    shown = run("audit", "export", "--private", **both)
    assert all(f"{name}@example.com" in shown.out and f"of {name}" in shown.out for name in ("ada", "bob"))
    only = run("encrypt", "status", **{**here, "HOLDFAST_ENCRYPTION_KEYS": new})
    assert "what is private in them cannot be read" in only.out
    none = run("encrypt", "status", "--json", **here).lines
    assert [one["keys"] for one in none] == [{"other": 2}, {"other": 2}]


def test_the_migrations_of_such_models_are_whole(shell: Shell, database_url: str) -> None:
    (shell.folder / "myapp.py").write_text(KEPT)
    keep = {"HOLDFAST_MODELS": "myapp", "HOLDFAST_DATABASE_URL": database_url}
    for command in (("new", "first"), ("up",), ("check",)):
        done = shell.run("migrate", *command, **keep)
        assert done.code == 0, done.err
    assert "nothing to write" in (done := shell.run("migrate", "new", "second", **keep)).out + done.err
    assert shell.run("doctor", **keep).code == 0


def test_what_is_wrong_with_a_key_is_said_without_it(shell: Shell) -> None:
    (shell.folder / "myapp.py").write_text(MODELS)
    refused = shell.run("encrypt", "new-key", "a key")
    assert (refused.code, refused.out) == (1, "")
    assert "1 to 32 letters, digits, - and _" in refused.err
    shell.run("migrate", "up", HOLDFAST_MODELS="myapp")
    none = shell.run("encrypt", "status", HOLDFAST_MODELS="myapp")
    assert (none.code, none.out) == (1, "")
    assert "make one with `holdfast encrypt new-key`" in none.err
    without = shell.run("encrypt", "status", "--database", "sqlite:///agents.db")
    assert without.code == 1  # there is no such file
