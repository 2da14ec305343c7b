"""squawk as a second reader (https://squawkhq.com): its findings where ours cannot see.

Our rules know what came before a statement, so where both speak of the same hazard ours is the judgement; squawk's
word counts for actions that our grammar does not know. Most of its other rules are style and are not asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.errors import ConfigurationError, HoldfastError, MissingExtra
from holdfast.migrate.lint.finding import Finding
from holdfast.migrate.lint.parse import parse
from holdfast.migrate.lint.statements import statements_of
from holdfast.migrate.lint.syntax import Alter

DEFAULT_RULES = ("ban-duplicate-column-assignments",)
"""What squawk is asked for beside our rules: statements that fail."""

_WHERE_UNREAD = (
    "adding-field-with-default", "adding-foreign-key-constraint", "adding-not-nullable-field",
    "adding-required-field", "adding-serial-primary-key-field", "ban-drop-column", "changing-column-type",
    "constraint-missing-not-valid", "disallowed-unique-constraint", "renaming-column", "renaming-table",
    "require-concurrent-partition-detach",
)  # fmt: skip
_OTHERS = (
    "ban-alter-domain-with-add-constraint", "ban-char-field", "ban-concurrent-index-creation-in-transaction",
    "ban-create-domain-with-constraint", "ban-drop-database", "ban-drop-not-null", "ban-drop-table",
    "ban-truncate-cascade", "ban-uncommitted-transaction", "prefer-bigint-over-int", "prefer-bigint-over-smallint",
    "prefer-identity", "prefer-repack", "prefer-robust-stmts", "prefer-text-field", "prefer-timestamp-tz",
    "require-concurrent-index-creation", "require-concurrent-index-deletion", "require-concurrent-reindex",
    "identifier-too-long", "require-enum-value-ordering", "require-timeout-settings", "syntax-error",
    "transaction-nesting",
)  # fmt: skip
SQUAWK_RULES = frozenset((*DEFAULT_RULES, *_WHERE_UNREAD, *_OTHERS))
"""Every rule of squawk that may be asked for."""

_SECONDS = 60


def squawk_path() -> str | None:
    """The squawk of this environment or of PATH, or None."""
    beside = Path(sysconfig.get_path("scripts")) / ("squawk.exe" if os.name == "nt" else "squawk")
    return str(beside) if beside.is_file() else shutil.which("squawk")


def squawk_findings(texts: Mapping[str, str], rules: Sequence[str] = DEFAULT_RULES) -> list[Finding]:
    """What squawk says of SQL texts, by file; the rule's name begins with `squawk/`.

    Its rules against hazards count in the statements that our own grammar does not know, `rules` everywhere.

    Raises:
        MissingExtra: squawk is not installed. ConfigurationError: it has no such rule. HoldfastError: it failed.
    """
    if unknown := sorted(set(rules) - SQUAWK_RULES):
        raise ConfigurationError(f"squawk has no rule {', '.join(unknown)}; it has {', '.join(sorted(SQUAWK_RULES))}")
    path = squawk_path()
    if path is None:
        raise MissingExtra("squawk is not installed: pip install 'holdfast[lint]', or lint without it: --no-squawk")
    files = list(texts)
    unread = {file: _unread_lines(text) for file, text in texts.items()}
    findings = []
    for answer in _answers(path, list(texts.values())):
        file = files[int(Path(answer["file"]).stem)]
        rule, line = str(answer["rule_name"]), int(answer["line"]) + 1
        if rule in rules or (rule in _WHERE_UNREAD and line in unread[file]):
            findings.append(
                Finding(
                    file=file,
                    line=line,
                    rule=f"squawk/{rule}",
                    level="error",
                    message=str(answer["message"]),
                    fix=str(answer.get("help") or f"see https://squawkhq.com/docs/{rule}"),
                )
            )
    return findings


def _answers(path: str, texts: list[str]) -> list[dict[str, Any]]:
    """What squawk answers to all texts at once; its `file` is the number of the text."""
    with tempfile.TemporaryDirectory(prefix="holdfast-lint-") as folder:
        for number, text in enumerate(texts):
            Path(folder, f"{number:06}.sql").write_text(text, encoding="utf-8")
        # An empty configuration of its own: one that lies about must not change what is found.
        Path(folder, "squawk.toml").write_text("", encoding="utf-8")
        command = [path, "--reporter=json", f"--config={folder}/squawk.toml", "--no-error-on-unmatched-pattern"]
        try:
            done = subprocess.run([*command, f"{folder}/*.sql"], capture_output=True, timeout=_SECONDS, cwd=folder)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise HoldfastError(f"squawk failed: {error}; lint without it: --no-squawk") from None
        try:
            answers: list[dict[str, Any]] = json.loads(done.stdout or b"[]")
        except ValueError:
            said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
            raise HoldfastError(f"squawk failed: {said}; lint without it: --no-squawk") from None
    return answers


def _unread_lines(text: str) -> set[int]:
    lines: set[int] = set()
    for statement in statements_of(text):
        record = parse(statement)
        if isinstance(record, Alter) and any(action.kind == "unread" for action in record.actions):
            lines.update(range(statement.line, statement.line + statement.text.count("\n") + 1))
    return lines
