"""`holdfast audit`: a trail is verified, known elsewhere, exported; what was done to it ends the command with 1."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

from holdfast import ALL, Holdfast
from holdfast.apps import accounts
from holdfast.apps.accounts import Organization, User
from holdfast.settings import Settings
from tests.cli.conftest import Run

HERE = {
    "HOLDFAST_MODELS": "holdfast.apps.accounts",
    "HOLDFAST_DATABASE_URL": "sqlite:///here.db",
    "HOLDFAST_ENCRYPTION_KEYS": f"k1:{'A' * 43}=",
}


async def write(env: dict[str, str]) -> None:
    settings = Settings.from_environment(env)
    async with await Holdfast.open(settings=settings, metadata=accounts.metadata, follow=True) as hold:
        async with hold.unit(actor="ada", tenant=ALL) as unit:
            await unit[User].add(User(external_id="u", email="ada@example.com"))
            for _ in range(3):
                await unit[Organization].add(Organization(name="Acme"))
        await hold.audit.caught_up()


def test_a_trail_is_verified_exported_and_known_elsewhere(run: Run, tmp_path: Path) -> None:
    key = run("audit", "new-key", "a1", "--json").json["key"]
    env = {**HERE, "HOLDFAST_AUDIT_KEYS": key}
    asyncio.run(write(env))
    good = run("audit", "verify", **env)
    assert (good.code, good.out) == (0, "4 records in 4 chains: each is as it was sealed.\n")
    assert "a chain that was taken away whole, or its end, is not missed" in good.err
    nobody = run("audit", "verify", "--tenant", "nope", "--json", **env)
    assert (nobody.code, nobody.out) == (1, "")
    assert "there is no chain of 'nope'" in nobody.err
    assert run("audit", "verify", "--tenant", "", "--json", **env).json["records"] == 1
    kept = run("audit", "checkpoint", "kept", "--json", **env)
    assert run("audit", "verify", "--checkpoint", "kept", **env).err == ""
    assert kept.json == {"whole": True, "chains": 4, "records": 4, "faults": []}
    assert (kept.code, kept.err) == (0, "")
    lines = run("audit", "export", **env)
    (tmp_path / "trail.jsonl").write_text(lines.out)
    user = next(line for line in lines.lines if line["target_type"] == "users")
    assert user["changes"]["email"] == "private"
    assert "ada@example.com" not in lines.out
    [told] = run("audit", "export", "--tenant", "", "--action", "insert", "--private", **env).lines
    assert told["private"]["values"]["email"] == [None, "ada@example.com"]
    with sqlite3.connect(tmp_path / "here.db") as database:
        database.execute("UPDATE holdfast_subject_keys SET wrapped = NULL, shredded_at = created_at")
    [told] = run("audit", "export", "--tenant", "", "--action", "insert", "--private", **env).lines
    assert told["private"] == {"values": "erased"}
    assert run("audit", "verify", **env).code == 0
    assert run("audit", "export", "--until", "2020-01-01", **env).out == ""
    elsewhere = run("audit", "verify", "--file", "trail.jsonl", "--checkpoint", "kept", **env)
    assert elsewhere.code == 0

    with sqlite3.connect(tmp_path / "here.db") as database:
        database.execute("DROP TRIGGER append_only_audit_logs_update")
        database.execute("UPDATE audit_logs SET actor = 'eve' WHERE tenant = ''")
    broken = run("audit", "verify", **env)
    assert broken.code == 1
    assert f"nobody, record 1: the record {user['id']} is not what was sealed" in broken.out
    [fault] = run("audit", "verify", "--tenant", "", "--json", **env).json["faults"]
    assert (fault["seq"], fault["id"], fault["what"]) == (1, user["id"], "changed")
    before = (tmp_path / "kept").read_bytes()
    refused = run("audit", "checkpoint", "kept", **env)
    assert refused.code == 1
    assert "left as it is" in refused.err
    assert (tmp_path / "kept").read_bytes() == before
    (tmp_path / "trail.jsonl").write_text(lines.out.replace('"ada"', '"eve"', 1))
    assert run("audit", "verify", "--file", "trail.jsonl", **env).code == 1


def test_what_cannot_be_is_said(run: Run, tmp_path: Path) -> None:
    env = {**HERE, "HOLDFAST_AUDIT_KEYS": f"a1:{'B' * 43}="}
    assert run("migrate", "up", **env).code == 0
    assert run("audit", "export", "--since", "soon", **env).code == 2
    empty = run("audit", "verify", **env)
    assert (empty.code, empty.out) == (0, "0 records in 0 chains: each is as it was sealed.\n")
    assert "a trail that was emptied cannot be told from a new one" in empty.err
    assert "holdfast audit checkpoint" in empty.err
    assert run("audit", "verify", "--file", "x", "--tenant", "y", **env).code == 2
    (tmp_path / "wrong").write_text(json.dumps({"heads": []}))
    for option in ("--checkpoint", "--after", "--file"):
        said = run("audit", "verify", option, "wrong", **env)
        assert said.code == 1
        assert "audit trail" in said.err
    assert run("audit", "verify", "--checkpoint", "nowhere", **env).code == 1
    elsewhere = run("audit", "verify", **{**env, "HOLDFAST_MODELS": "holdfast.apps.agents"})
    assert elsewhere.code == 1
    assert "HOLDFAST_MODELS" in elsewhere.err
    production = run("audit", "verify", **{**HERE, "HOLDFAST_ENV": "production"})
    assert production.code == 1
    assert "holdfast audit new-key" in production.err
