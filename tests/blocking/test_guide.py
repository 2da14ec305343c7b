"""The examples of docs/guides/blocking.md do what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODEL = """
from sqlalchemy.orm import Mapped
from holdfast import Model

class Note(Model):
    __tablename__ = "notes"
    text: Mapped[str]
"""
FLASK = """
from concurrent.futures import ThreadPoolExecutor

with ThreadPoolExecutor(4) as requests:
    made = list(requests.map(lambda n: create(f"note {n}", "ada"), range(20)))
    assert {status for _, status in made} == {201}
    assert list(requests.map(lambda one: show(one[0]["id"]), made))[7] == ({"text": "note 7"}, 200)
assert show("00000000-0000-7000-8000-000000000000")[1] == 404
"""
CELERY = """
with hold.read() as unit:
    texts = {note.text for note in unit[Note].list()}
assert texts == {"from worker 0", "from worker 1"}, texts
"""


def test_they_run(tmp_path: Path) -> None:
    guide = (ROOT / "docs/guides/blocking.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert len(examples) == 4
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    for number, (example, more) in enumerate(zip(examples, ("", FLASK, CELERY, ""), strict=True)):
        folder = tmp_path / str(number)
        folder.mkdir()
        script = MODEL + example + more + "\nhold.close()\n"
        # Forking a process with threads is what prefork servers do.
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
