"""`HOLDFAST_MODELS`: the command line keeps somebody's own models."""

from devservers.process import free_port
from tests.cli.command import Shell, fetch

MODELS = """
from sqlalchemy.orm import Mapped
from holdfast import Expose, Model, Policy

class Note(Model):
    __tablename__ = "notes"
    __policy__ = Policy(Expose())
    text: Mapped[str]
"""


def test_models_of_ones_own_are_migrated_examined_and_served(shell: Shell, database_url: str) -> None:
    (shell.folder / "myapp.py").write_text(MODELS)
    database = ("--database", database_url)
    made = shell.run("migrate", "up", "--json", *database, HOLDFAST_MODELS="myapp")
    assert made.code == 0
    assert "notes" in made.json["tables"]
    assert "agents" not in made.json["tables"]
    assert shell.run("doctor", *database, HOLDFAST_MODELS="myapp").code == 0
    fetch(database_url, "INSERT INTO notes (text) VALUES ('by raw SQL')")
    told = shell.run("journal", "status", "--json", *database, HOLDFAST_MODELS="myapp")
    assert told.json["position"] != "0-0-0"
    with shell.up(*database, HOLDFAST_MODELS="myapp") as service:
        service.becomes("/v1/resources/notes", lambda status, body: body["data"][0]["text"] == "by raw SQL")
        service.becomes("/v1/resources", lambda status, body: "x402-payments" not in str(body))
    both = shell.run("migrate", "up", "--json", *database, HOLDFAST_MODELS="myapp, holdfast.apps.agents")
    assert "agents" in both.json["tables"]


def test_modules_that_are_not_there_or_have_no_models_are_named(shell: Shell) -> None:
    for names, told in (
        ("nowhere.models", "HOLDFAST_MODELS names 'nowhere.models', which cannot be imported"),
        ("json", "HOLDFAST_MODELS names 'json', which has no models, schedules, handlers or @warms"),
        (" , ", "HOLDFAST_MODELS names no module"),
    ):
        done = shell.run("migrate", "up", HOLDFAST_MODELS=names)
        assert done.code == 1
        assert told in done.err
    assert not (shell.folder / "holdfast.db").exists()
    (shell.folder / "myapp.py").write_text(MODELS)
    done = shell.run("up", "--sample", "--port", str(free_port()), HOLDFAST_MODELS="myapp")
    assert done.code == 1
    assert "add holdfast.apps.agents to HOLDFAST_MODELS" in done.err
