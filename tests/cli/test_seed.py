"""`holdfast seed` as a person runs it."""

from __future__ import annotations

from tests.cli.command import Shell, fetch

MODULE = """
from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped, mapped_column
from holdfast import Model
from holdfast.migrate import seed
from holdfast.model import NAMING


class Currency(Model):
    __tablename__ = "currencies"
    metadata = MetaData(naming_convention=NAMING)
    code: Mapped[str] = mapped_column(unique=True)


@seed(environments=("development", "production"))
async def currencies(sowing):
    \"\"\"What can be paid with.\"\"\"
    await sowing.plant(Currency, [{"code": "EUR"}, {"code": "USD"}], on=("code",))


@seed(after=("currencies",))
async def demo(sowing):
    rows = ({"code": f"X{number}"} for number in range(sowing.rows or 1))
    await sowing.plant(Currency, rows, on=("code",))
"""


def test_planted_listed_and_refused(shell: Shell, database_url: str) -> None:
    (shell.folder / "money.py").write_text(MODULE)
    here = {"HOLDFAST_MODELS": "money", "HOLDFAST_DATABASE_URL": database_url, "HOLDFAST_SECRET_KEY": "k" * 32}
    assert shell.run("migrate", "up", **here).code == 0
    listed = shell.run("seed", "--list", "--json", **here).lines
    assert [(one["name"], one["after"]) for one in listed] == [("currencies", []), ("demo", ["currencies"])]
    assert "What can be paid with." in shell.run("seed", "--list", **here).out
    refused = shell.run("seed", "demo", **here, HOLDFAST_ENV="production")
    assert refused.code == 1
    assert "'demo' is for development and test, and this is production" in refused.err
    assert fetch(database_url, "SELECT count(*) FROM currencies") == [(0,)]
    production = shell.run("seed", **here, HOLDFAST_ENV="production")
    assert production.out.startswith("currencies: 2 new, 0 changed, 0 as they were")
    planted = shell.run("seed", "demo", "--rows", "5", "--json", **here).lines
    assert [(one["name"], one["inserted"], one["unchanged"]) for one in planted] == [
        ("currencies", 0, 2),
        ("demo", 5, 0),
    ]
    assert fetch(database_url, "SELECT count(*) FROM currencies") == [(7,)]
    assert shell.run("seed", "dmeo", **here).code == 1


def test_the_agents_app_has_seeds_without_being_told(shell: Shell) -> None:
    assert shell.run("migrate", "up").code == 0
    assert "demo-pricing: 8 new" in shell.run("seed").out
    assert "demo-pricing: 0 new, 0 changed, 8 as they were" in shell.run("seed").out


def test_without_tables_it_says_what_to_do(shell: Shell, sqlite_url: str) -> None:
    refused = shell.run("seed", "--database", sqlite_url)
    assert refused.code == 1
    assert "holdfast migrate up" in refused.err
