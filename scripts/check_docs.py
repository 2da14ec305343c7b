"""What the documents say must be so: `python scripts/check_docs.py [FOLDER]`.

- links between files, and to headings, lead somewhere;
- commands that are shown exist: `make` targets, `holdfast` commands with their options, `python -m` modules;
- no tracked file names a path of somebody's machine or the host of a package registry.

Prints one line a fault, `file:line: what`; exit 1 if there is any.
"""

import functools
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Decisions and the coverage table also speak of what is not built yet.
MAY_NAME_THE_FUTURE = ("docs/adr/", "docs/coverage.md")

FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.:/-])/(?:home|root|Users|work|workspaces?|builds)/\w"),
    "the host of a package registry": re.compile(
        r"\b(?:py[p]i\.org|files\.python[h]osted\.org|registry\.n[p]mjs\.org|registry\.yarn[p]kg\.com|deb\.debia[n]\.org)\b"
    ),
    "a package index": re.compile(r"--(?:extra-)?index[-]url\s+\S|^--find[-]links\s+\S|\"resolved\": \"http"),
}

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^\s*(```+|~~~+)\s*(\w*)")
INLINE = re.compile(r"`([^`]+)`")
SHELLS = {"sh", "bash", "shell", "console"}


def main(arguments: list[str]) -> int:
    """Check the checkout at the given folder, by default the one this file is in."""
    root = Path(arguments[0]).resolve() if arguments else ROOT
    faults = [fault for path in tracked_files(root) for fault in faults_of(root, path)]
    for fault in faults:
        print(fault)
    return 1 if faults else 0


def tracked_files(root: Path) -> list[Path]:
    """Every file under version control; outside a checkout every file that is not hidden."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        paths = [root / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [path for path in root.rglob("*") if not path.relative_to(root).as_posix().startswith(".")]
    return sorted(path for path in paths if path.is_file())


def faults_of(root: Path, path: Path) -> Iterator[str]:
    """The faults of one file, each as `file:line: what`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return
    name = path.relative_to(root).as_posix()
    for number, line in enumerate(lines, 1):
        for what, pattern in FORBIDDEN.items():
            if found := pattern.search(line):
                yield f"{name}:{number}: names {what}: {found.group()}"
    if path.suffix != ".md":
        return
    for number, target in links(lines):
        if fault := broken_link(root, path, target):
            yield f"{name}:{number}: {fault}"
    if not name.startswith(MAY_NAME_THE_FUTURE):
        for number, command in commands(lines):
            if fault := unknown_command(root, command):
                yield f"{name}:{number}: {fault}"


def links(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Line numbers and targets of the links outside code."""
    for number, line, language in outside_and_inside(lines):
        if language is None:
            for found in LINK.finditer(INLINE.sub("", line)):
                yield number, found.group(1) or found.group(2)


def commands(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Line numbers and texts of the commands shown: in shell blocks, and in inline code that begins like one."""
    for number, line, language in outside_and_inside(lines):
        if language in SHELLS:
            yield number, line.strip().removeprefix("$ ").split(" #")[0]
        elif language is None:
            for found in INLINE.finditer(line):
                yield number, found.group(1)


def outside_and_inside(lines: list[str]) -> Iterator[tuple[int, str, str | None]]:
    """Each line with the language of the code block that it is in; None outside of one."""
    fence, language = "", ""
    for number, line in enumerate(lines, 1):
        mark = FENCE.match(line)
        if mark and not fence:
            fence, language = mark.group(1), mark.group(2)
        elif mark and mark.group(1).startswith(fence) and not mark.group(2):
            fence = ""
        else:
            yield number, line, language if fence else None


def broken_link(root: Path, path: Path, target: str) -> str | None:
    """Why a link leads nowhere; None when it is good, or leads out of the project."""
    if re.match(r"[a-z][a-z+.-]*:", target):
        return None
    file, _, heading = target.partition("#")
    goal = (path.parent / file).resolve() if file else path
    if not goal.is_relative_to(root) or not goal.exists():
        return f"link to {target}, which is not there"
    if heading and goal.suffix == ".md" and heading not in headings(goal):
        return f"link to {target}, but {goal.name} has no such heading"
    return None


def headings(path: Path) -> set[str]:
    """The anchors of a document's headings, as code hosts make them."""
    found = set()
    for _, line, language in outside_and_inside(path.read_text(encoding="utf-8").splitlines()):
        if language is None and line.startswith("#"):
            text = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
            found.add(text.replace(" ", "-"))
    return found


def unknown_command(root: Path, command: str) -> str | None:
    """Why a command that is shown does not exist; None when it does, or is none of ours."""
    try:
        words = shlex.split(command, comments=True)
    except ValueError:
        return None
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    match words:
        case ["make", *rest]:
            targets = [word for word in rest if re.fullmatch(r"[a-z][a-z-]*", word)]
            unknown = [target for target in targets if target not in make_targets(root)]
            return f"`{command}`: no such target: {unknown[0]}" if unknown else None
        case ["python", "-m", module, *_]:
            known = importlib.util.find_spec(module.split(".")[0]) or (root / module.replace(".", "/")).exists()
            return None if known else f"`{command}`: no module {module}"
        case ["holdfast", *rest]:
            return unknown_holdfast(command, rest)
    return None


@functools.cache
def make_targets(root: Path) -> frozenset[str]:
    """The targets that the Makefile names."""
    makefile = (root / "Makefile").read_text() if (root / "Makefile").exists() else ""
    return frozenset(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))


def unknown_holdfast(command: str, words: list[str]) -> str | None:
    """Ask the command line itself, with `--help`, whether it knows the command and the options shown."""
    path: list[str] = []
    for word in words:
        if not re.fullmatch(r"[a-z][a-z-]*", word):
            break
        path.append(word)
    # A trailing word may be an argument: then the command without it still answers.
    code, text = holdfast_help(tuple(path))
    if code != 0:
        said = [line for line in text.splitlines() if line.strip()]
        return f"`{command}`: holdfast {' '.join([*path, '--help'])} exits {code}: {said[-1] if said else ''}"
    options = {word.split("=")[0] for word in words if re.fullmatch(r"--[a-z][a-z-]*(=.*)?", word)}
    unknown = sorted(option for option in options if option not in text)
    return f"`{command}`: no such option: {unknown[0]}" if unknown else None


@functools.cache
def holdfast_help(path: tuple[str, ...]) -> tuple[int, str]:
    """Exit code and text of `holdfast PATH --help`, wide enough that no option is broken in two."""
    from typer.testing import CliRunner

    from holdfast.cli import app

    # In this process: to start one for each command that the documents show would take minutes.
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERMINAL_WIDTH": "200"})
    return done.exit_code, done.output


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
