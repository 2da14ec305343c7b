"""A project of one's own: what its guide shows is run in an empty directory, by processes of its own."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.cli.command import PROGRAM, ROOT, environment

GUIDE = (ROOT / "docs" / "guides" / "starting.md").read_text(encoding="utf-8")
SERVED = """
from starlette.testclient import TestClient
from shop.app import app

with TestClient(app) as client:
    print([row["name"] for row in client.get("/v1/resources/products").json()["data"]])
    print(client.get("/v1/resources/orders").status_code)
"""


def test_a_project_is_made_as_the_guide_says(tmp_path: Path) -> None:
    models, orders, app = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    console = re.findall(r"^\$ (.*?)(?:\s+#.*)?$", GUIDE.split("## In production")[0], re.MULTILINE)
    settings = dict(line.removeprefix("export ").split("=", 1) for line in console if line.startswith("export "))
    assert set(settings) == {"HOLDFAST_MODELS", "HOLDFAST_DATABASE_URL"}
    (tmp_path / "shop").mkdir()
    for name, text in (
        ("shop/__init__.py", ""),
        ("shop/models.py", models),
        ("shop/app.py", app),
        ("orders.py", orders),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")

    env = environment(**settings)

    def run(*command: str) -> str:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**env, "PYTHONPATH": os.pathsep.join((str(tmp_path), env["PYTHONPATH"]))},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def holdfast(line: str) -> str:
        return run(*PROGRAM, *shlex.split(line)[1:])

    told = [holdfast(line) for line in console if line.startswith("holdfast migrate") or line == "holdfast doctor"]
    assert "not covered" not in told[0]
    assert (tmp_path / "migrations" / "0001_begin.py").is_file()
    assert "none pending" in told[2]
    run(sys.executable, "orders.py")
    [keys] = [line for line in console if line.startswith("holdfast keys")]
    assert holdfast(keys).startswith("hold_live_")
    assert run(sys.executable, "-c", SERVED).splitlines() == ["['kelp']", "401"]
