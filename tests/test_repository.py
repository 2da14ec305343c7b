"""The repository keeps what it says: documents, pinned packages, what is shipped, the floors."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REQUIREMENT_FILES = sorted(ROOT.glob("requirements/*.txt"))


def run(*command: str, cwd: Path = ROOT, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command with this environment's programs first on the path and nothing of Holdfast's set."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    clean["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}"
    return subprocess.run(
        command, cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def pins(file: Path) -> dict[str, Version]:
    """Package names, normalised, and versions of a requirement file."""
    found = re.findall(r"^([A-Za-z0-9_.\-]+)==([^\s;\\]+)", file.read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): Version(version) for name, version in found}


def test_the_readme_example_runs_as_it_stands(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 25
    (tmp_path / "example.py").write_text(example)
    done = run(sys.executable, "example.py", cwd=tmp_path, PYTHONPATH=str(ROOT / "src"), PYTHONWARNINGS="error")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "hold fast\n"


def test_the_ci_script_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci/run").read_text().split("set -euo pipefail")[1]
    commands = [line.removesuffix(" </dev/null") for line in script.splitlines() if line.startswith("make")]
    assert commands == ["make check", "make test"]
    assert re.search(r"^make test\b", README, re.MULTILINE)


@pytest.mark.parametrize("file", REQUIREMENT_FILES, ids=lambda file: file.name)
def test_every_requirement_is_pinned_with_hashes_and_no_file_names_an_index(file: Path) -> None:
    text = file.read_text()
    assert pins(file)
    for block in re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)):
        if block.strip():
            assert re.match(r"[A-Za-z0-9_.\-]+==\S+", block), block[:80]
            assert "--hash=sha256:" in block, block[:80]
    assert not re.search(r"://|--index|--extra-index|--find-links|file:|\s-f\s", text)


def test_the_pins_satisfy_the_project() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    groups = PROJECT["dependency-groups"]
    wanted = {
        "base": PROJECT["project"]["dependencies"],
        "dev": [
            *PROJECT["project"]["dependencies"],
            *(one for extra in extras.values() for one in extra),
            *groups["dev"],
        ],
        "build": groups["build"],
        "postgres": groups["server-postgres"],
        "redis": groups["server-redis"],
    }
    for name, requirements in wanted.items():
        pinned = pins(ROOT / f"requirements/{name}.txt")
        for requirement in map(Requirement, requirements):
            version = pinned.get(requirement.name.lower())
            assert version is not None, f"{requirement.name} is not in requirements/{name}.txt: run make lock"
            assert version in requirement.specifier, f"{requirement} against {version}: run make lock"


def test_what_make_up_installs_is_a_part_of_what_a_developer_has() -> None:
    base, dev = pins(ROOT / "requirements/base.txt"), pins(ROOT / "requirements/dev.txt")
    assert {name: dev.get(name) for name in base} == base


def test_the_wheel_carries_the_package_and_nothing_of_the_workshop(tmp_path: Path) -> None:
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "holdfast/py.typed" in names
    about = f"holdfast-{PROJECT['project']['version']}.dist-info"
    assert {name.split("/")[0] for name in names} == {"holdfast", "holdfast_pytest", about}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_public_face_names_only_what_is_there() -> None:
    face = importlib.import_module("holdfast")
    assert sorted(face.__all__) == sorted(set(face.__all__))
    for name in face.__all__:
        assert getattr(face, name) is not None
    assert (ROOT / "src/holdfast/py.typed").exists()


def test_every_setting_is_in_the_example_of_the_environment_and_no_other() -> None:
    example = (ROOT / ".env.example").read_text()
    source = (ROOT / "src/holdfast/settings.py").read_text()
    ours = set(re.findall(r'"(HOLDFAST_[A-Z_]+)"', source))
    assert ours
    assert set(re.findall(r"^#?(HOLDFAST_[A-Z_]+)=", example, re.MULTILINE)) == ours
    elsewhere = {"DATABASE_URL", "TURSO_DATABASE_URL", "TURSO_AUTH_TOKEN", "REDIS_URL", "REDIS_PREFIX"}
    for name in elsewhere:
        assert f'"{name}"' in source
        assert re.search(rf"\[[^\]]*\b{name}\b", example), f"{name} is accepted but not in .env.example"


def test_the_values_in_the_example_of_the_environment_are_the_defaults() -> None:
    from holdfast.settings import Settings

    pairs = re.findall(r"^#(HOLDFAST_[A-Z_]+)=(.+)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    given = Settings.from_environment({name: value for name, value in pairs if name != "HOLDFAST_REDIS_URL"})
    default = Settings.from_environment({})
    for field in Settings.__struct_fields__:
        if field != "database_url_is_default":
            assert getattr(given, field) == getattr(default, field), field


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A small checkout whose documents are in order."""
    (tmp_path / "Makefile").write_text("up: ## start\ntest:\n")
    (tmp_path / "other.md").write_text("# One heading, here\n\n[back](README.md)\n")
    (tmp_path / "README.md").write_text(
        "# Title\n\n[other](other.md#one-heading-here) [out](https://example.org/x) `make up`\n"
        "\n```sh\nmake test # run\n```\n"
    )
    return tmp_path


def check_docs(folder: Path) -> "subprocess.CompletedProcess[str]":
    return run(sys.executable, "scripts/check_docs.py", str(folder))


def test_documents_in_order_pass_the_docs_check(documents: Path) -> None:
    done = check_docs(documents)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[gone](nowhere.md)", "nowhere.md, which is not there"),
        ("[gone](other.md#no-such)", "other.md has no such heading"),
        ("[out of it](../secret.md)", "which is not there"),
        ("`make coffee`", "no such target: coffee"),
        ("```sh\nNAME=x make coffee\n```", "no such target: coffee"),
        ("`python -m no_such_module`", "no module no_such_module"),
        ("see /home" + "/ada/notes", "a path of one machine"),
        ("from py" + "pi.org", "the host of a package registry"),
        ("--extra-index" + "-url x", "a package index"),
    ],
)
def test_a_fault_in_a_document_is_found_and_placed(line: str, told: str, documents: Path) -> None:
    with (documents / "README.md").open("a") as readme:
        readme.write(f"\n{line}\n")
    done = check_docs(documents)
    assert done.returncode == 1
    assert told in done.stdout
    assert re.match(r"README\.md:(9|10): ", done.stdout)


@pytest.mark.parametrize("command", ["holdfast no-such-command", "holdfast doctor --no-such-option"])
def test_a_command_line_that_does_not_exist_is_found(command: str, documents: Path) -> None:
    (documents / "other.md").write_text(f"`{command}`\n")
    done = check_docs(documents)
    assert done.returncode == 1
    assert command in done.stdout


def test_the_floors_hold(tmp_path: Path) -> None:
    assert floors(tmp_path).returncode == 0


def test_a_room_that_imports_from_above_breaks_the_floors(tmp_path: Path) -> None:
    done = floors(tmp_path, {"model/climber.py": "from holdfast import journal\n"})
    assert done.returncode == 1
    assert "holdfast.model is not allowed to import holdfast.journal" in done.stdout


def test_a_room_without_a_floor_breaks_the_floors(tmp_path: Path) -> None:
    done = floors(tmp_path, {"attic/__init__.py": ""})
    assert done.returncode == 1
    assert "attic" in done.stdout


def floors(folder: Path, more: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the floors' contract on a copy of the sources with `more` files in them."""
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name, text in (more or {}).items():
        path = folder / "src/holdfast" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return run("lint-imports", "--no-cache", "--no-logo", cwd=folder, PYTHONPATH=str(folder / "src"), COLUMNS="200")
