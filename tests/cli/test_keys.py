"""`holdfast keys`: a key is made, opens things in another process, is rotated and revoked."""

import sqlite3
from uuid import uuid4

from tests.cli.command import Shell

HERE = {"HOLDFAST_MODELS": "holdfast.apps.accounts", "HOLDFAST_DATABASE_URL": "sqlite:///here.db"}
ADA = ("--user", "ada@example.com")
ID = "019f0000-0000-7000-8000-000000000000"


def test_a_key_from_its_making_to_its_end(shell: Shell) -> None:
    assert shell.run("migrate", "up", **HERE).code == 0
    missing = shell.run("keys", "create", "ci", *ADA, **HERE)
    assert missing.code == 1
    assert "--new-user" in missing.err
    limits = ("--limit", "100/minute", "--limit", "5000/day")
    made = shell.run(
        "keys", "create", "ci", *ADA, "--new-user", "--scope", "tools:*", "--expires", "90d", *limits, **HERE
    )
    key = made.out.strip()
    assert key.startswith("hold_live_")
    assert "cannot be shown again" in made.err

    good = shell.run("keys", "verify", key, "--scope", "tools:read", "--json", **HERE).json
    assert good["valid"] is True
    assert good["key"]["scopes"] == ["tools:*"]
    refused = shell.run("keys", "verify", key, "--scope", "admin:read", "--json", **HERE)
    assert refused.code == 1
    assert refused.json == {"valid": False, "reason": "scope"}
    assert key not in refused.err

    (listed,) = shell.run("keys", "list", *ADA, "--json", **HERE).lines
    assert listed["usage_count"] == 1
    assert listed["limits"] == ["100/minute", "5000/day"]
    assert "100/minute, 5000/day" in shell.run("keys", "list", *ADA, **HERE).out
    assert listed["shown"] == key[: len("hold_live_") + 4]
    assert key.split("_")[2] not in str(listed)
    fresh = shell.run("keys", "rotate", listed["id"], "--grace", "1h", "--json", **HERE).json
    assert shell.run("keys", "verify", key, **HERE).code == 0
    assert shell.run("keys", "verify", fresh["key"], **HERE).code == 0
    assert shell.run("keys", "revoke", listed["id"], "--json", **HERE).json["revoked_at"] is not None
    assert shell.run("keys", "verify", key, "--json", **HERE).json["reason"] == "revoked"
    table = shell.run("keys", "list", *ADA, "--dead", **HERE).out
    assert "revoked" in table
    assert "until" in table


def test_who_is_no_owner_or_admin_gets_no_key_of_an_organisation(shell: Shell) -> None:
    assert shell.run("migrate", "up", **HERE).code == 0
    assert shell.run("keys", "create", "mine", *ADA, "--new-user", **HERE).code == 0
    with sqlite3.connect(shell.folder / "here.db") as database:
        database.execute(
            "INSERT INTO organizations (id, name, slug, created_at, updated_at, is_active)"
            " VALUES (?, 'Acme', 'acme', '2026-01-01 00:00:00', '2026-01-01 00:00:00', 1)",
            (uuid4().hex,),
        )
    refused = shell.run("keys", "create", "ours", *ADA, "--org", "acme", **HERE)
    assert (refused.code, "for its owners and admins" in refused.err) == (1, True), refused


def test_what_cannot_be_is_said(shell: Shell) -> None:
    assert shell.run("migrate", "up", **HERE).code == 0
    unsaid = shell.run("keys", "list", **HERE)
    assert unsaid.code == 2
    assert "--user or --org" in unsaid.err
    assert shell.run("keys", "revoke", "nonsense", **HERE).code == 2
    for wrong in (("--expires", "soon"), ("--network", "nowhere"), ("--scope", "a b"), ("--limit", "often")):
        said = shell.run("keys", "create", "ci", *ADA, "--new-user", *wrong, **HERE)
        assert said.code == 2, said
        assert wrong[1] in said.err
    late = ("rotate", ID, "--grace", "soon")
    for wrong in (("create", "", *ADA), late, ("rotate", "nonsense"), ("new-pepper", "a b")):
        assert shell.run("keys", *wrong, **HERE).code == 2, wrong
    # What is well written and not there could not be done.
    for missing in (("create", "ci", *ADA, "--new-user", "--org", "nobody"), ("rotate", ID), ("revoke", ID)):
        said = shell.run("keys", *missing, **HERE)
        assert (said.code, "there is no" in said.err) == (1, True), said
    nobody = shell.run("keys", "list", "--user", "nobody", **HERE)
    assert (nobody.code, nobody.err) == (1, "holdfast: there is no user 'nobody'\n")
    assert shell.run("keys", "list", *ADA, **HERE).code == 1  # nothing of the refused ones was kept
    elsewhere = shell.run("keys", "list", *ADA, **{**HERE, "HOLDFAST_MODELS": "holdfast.apps.agents"})
    assert elsewhere.code == 1
    assert "HOLDFAST_MODELS" in elsewhere.err
    pepper = shell.run("keys", "new-pepper", "p1", "--json").json["pepper"]
    assert pepper.startswith("p1:")
    production = {**HERE, "HOLDFAST_ENV": "production"}
    assert "new-pepper" in shell.run("keys", "list", *ADA, **production).err
    assert shell.run("keys", "create", "ci", *ADA, "--new-user", **production, HOLDFAST_KEY_PEPPERS=pepper).code == 0
