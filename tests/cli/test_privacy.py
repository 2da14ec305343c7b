"""`holdfast privacy`: classified, exported, verified, erased, agreed to; each tells what it did, and what to do."""

from __future__ import annotations

import asyncio
import json
import zipfile
from pathlib import Path

import pytest

from holdfast import ALL, Holdfast
from holdfast.apps import accounts
from holdfast.apps.accounts import User
from holdfast.settings import Settings
from tests.cli.conftest import Run

HERE = {"HOLDFAST_MODELS": "holdfast.apps.accounts", "HOLDFAST_DATABASE_URL": "sqlite:///here.db"}


@pytest.fixture
def ada(run: Run) -> str:
    """The id of a user."""

    async def write() -> str:
        settings = Settings.from_environment(HERE)
        opening = Holdfast.open(settings=settings, metadata=accounts.metadata)
        async with await opening as hold, hold.unit(tenant=ALL) as unit:
            return str((await unit[User].add(User(external_id="u", email="ada@example.com"))).id)

    return asyncio.run(write())


def test_models_are_classified_or_the_command_fails(run: Run, tmp_path: Path) -> None:
    good = run("privacy", "check", **HERE)
    assert (good.code, good.err) == (0, "")
    assert "has its sort" in good.out
    (tmp_path / "shop_of_privacy.py").write_text(
        "from sqlalchemy import MetaData\n"
        "from sqlalchemy.orm import Mapped\n"
        "from holdfast import Model\n"
        "class Buyer(Model):\n"
        "    __tablename__ = 'buyers'\n"
        "    metadata = MetaData()\n"
        "    phone: Mapped[str]\n"
    )
    bad = run("privacy", "check", HOLDFAST_MODELS="shop_of_privacy")
    assert bad.code == 1
    assert "buyers.phone: nobody said whether it is about a person" in bad.out
    assert "Policy(private=…, secret=… or plain=…) of Buyer" in bad.out
    told = run("privacy", "check", "--json", HOLDFAST_MODELS="shop_of_privacy")
    assert (told.code, told.json["ok"], told.json["findings"][0]["check"]) == (1, False, "classification")


def test_an_export_is_written_once_and_verified(run: Run, tmp_path: Path, ada: str) -> None:
    made = run("privacy", "export", ada, "ada.zip", "--by", "support", "--json", **HERE)
    assert (made.code, made.json["rows"]) == (0, 1)
    again = run("privacy", "export", ada, "ada.zip", **HERE)
    assert (again.code, "ada.zip cannot be written: File exists" in again.err) == (1, True)
    whole = run("privacy", "verify", "ada.zip", "--sha256", made.json["sha256"])
    assert (whole.code, "rows/users.json  1 rows" in whole.out) == (0, True)
    for name, change, told in (
        ("edited", {"rows/users.json": b"[]"}, "rows/users.json was changed"),
        ("added", {"more.json": b"[]"}, "not those of its manifest: more.json"),
        ("emptied", {"manifest.json": b"{}"}, "its manifest.json is none"),
    ):
        rewrite(tmp_path / "ada.zip", tmp_path / f"{name}.zip", change)
        found = run("privacy", "verify", f"{name}.zip")
        assert (found.code, told in found.err) == (1, True), found.err
    # Who changes a file and the manifest with it is found by the hash that is on record.
    with zipfile.ZipFile(tmp_path / "ada.zip") as packed:
        manifest = json.loads(packed.read("manifest.json"))
    manifest["subject"] = "bob"
    rewrite(tmp_path / "ada.zip", tmp_path / "forged.zip", {"manifest.json": json.dumps(manifest).encode()})
    assert run("privacy", "verify", "forged.zip").code == 0
    forged = run("privacy", "verify", "forged.zip", "--sha256", made.json["sha256"])
    assert (forged.code, "not the one whose hash was given" in forged.err) == (1, True)
    (tmp_path / "torn.zip").write_bytes((tmp_path / "ada.zip").read_bytes()[:200])
    for name in ("torn.zip", "nothing.zip", "."):
        torn = run("privacy", "verify", name)
        assert (torn.code, "is no export that can be read" in torn.err) == (1, True)


def test_a_person_is_erased_and_again_after_a_restore(run: Run, tmp_path: Path, ada: str) -> None:
    asked = run("privacy", "erase", ada, **HERE)  # nobody says yes
    assert (asked.code, "for good?" in asked.err) == (1, True)
    assert run("privacy", "erasures", **HERE).out == "There is none.\n"
    done = run("privacy", "erase", ada, "--yes", "--reason", "asked by mail", "--by", "support", **HERE)
    assert done.code == 0, done.err
    assert "erased; the journal still remembers" in done.out
    assert "  holdfast_subject_keys 1, users 1\n" in done.out
    listed = run("privacy", "erasures", "--open", "--person", ada, "--json", **HERE)
    [log] = listed.lines
    assert (log["subject"], log["asked_by"], log["reason"], log["erased"]) == (
        ada,
        "support",
        "asked by mail",
        {"holdfast_subject_keys": 1, "users": 1},
    )
    (tmp_path / "log.jsonl").write_text(listed.out)
    assert run("privacy", "resume", "--json", **HERE).lines[0]["id"] == log["id"]
    replayed = run("privacy", "replay", "log.jsonl", "--json", **HERE)
    assert (replayed.code, replayed.lines[0]["subject"]) == (0, ada)
    (tmp_path / "odd.jsonl").write_text("{}\n")
    odd = run("privacy", "replay", "odd.jsonl", **HERE)
    assert (odd.code, "line 1 of odd.jsonl is no erasure" in odd.err) == (1, True)
    nobody = run("privacy", "erase", "nobody", "--yes", **HERE)
    assert (nobody.code, "nothing is kept of 'nobody'" in nobody.err) == (1, True)


def test_consents_are_given_withdrawn_and_listed(run: Run, tmp_path: Path, ada: str) -> None:
    (tmp_path / "news.txt").write_text("We write once a month.")
    assert run("privacy", "consent", "list", ada, **HERE).out == "He has said nothing yet.\n"
    given = run("privacy", "consent", "give", ada, "news", "--text", "news.txt", "--source", "letter", **HERE)
    assert (given.code, given.out) == (0, f"{ada} agrees to news.\n")
    taken = run("privacy", "consent", "withdraw", ada, "news", "--json", **HERE)
    assert (taken.code, taken.json["given"]) == (0, False)
    listed = run("privacy", "consent", "list", ada, "--json", **HERE)
    assert [(line["given"], line["source"]) for line in listed.lines] == [(True, "letter"), (False, "support")]
    assert "withdrew  news" in run("privacy", "consent", "list", ada, **HERE).out
    for arguments, told in (
        (("withdraw", ada, "news"), "has agreed to nothing called 'news'"),
        (("give", ada, "news", "--text", "nothing.txt"), "nothing.txt cannot be read"),
        (("give", ada, "news", "--text", "news.txt", "--basis", "luck"), "not 'luck'"),
    ):
        refused = run("privacy", "consent", *arguments, **HERE)
        assert (refused.code, told in refused.err) == (1, True), refused.err


def rewrite(source: Path, target: Path, changed: dict[str, bytes]) -> None:
    """An archive with other files in the place of some, or beside them."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        files = {name: old.read(name) for name in old.namelist()} | changed
        for name, content in files.items():
            new.writestr(name, content)
