"""Comments by which somebody has accepted a risk towards another linter: eugene, squawk, Atlas, pgfence, pgvet, …

They say that a person has looked, but not why: what they are about stays in view as a warning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from holdfast.migrate.lint.finding import Problem
from holdfast.migrate.lint.rules import RULES
from holdfast.migrate.lint.tokens import Token

_COMMENTS = (
    re.compile(r"^eugene:\s*ignore\b(?P<file>)\s*(?P<rules>.*)$", re.I | re.S),
    re.compile(r"^squawk-ignore(?P<file>-file)?(?![\w-])\s*(?P<rules>.*)$", re.I | re.S),
    re.compile(r"^atlas:nolint\b(?P<file>)\s*(?P<rules>.*)$", re.I | re.S),
    # Those whose rules have plain names, or names that we do not know: what follows the names is somebody's reason.
    re.compile(
        r"^(?:pgfence|pgvet|pgls|drizzle-migration-lint|migrationpilot|pgm-lint|pgsafe)[-_:]\s*"
        r"(?:ignore|disable|nolint|suppress)(?:-next-line)?(?P<file>-file)?(?![\w-])[:\s]*"
        r"(?:lint/safety/)?(?P<rules>(?:[\w-]+(?:\s*,\s*[\w-]+)*)?)",
        re.I,
    ),
)
_SEPARATOR = re.compile(r"[\s,]+")
_NEVER = ("unreadable-statement", "bad-suppression")

# Of each of their rules those of ours that are about the same; what is not here stands for all.
_SAME: Mapping[str, str] = {
    # https://kaveland.no/eugene/hints/
    "e1": "add-check-constraint add-foreign-key add-column-check add-column-foreign-key",
    "e2": "set-not-null add-column-not-null",
    "e3": "json-column",
    "e4": "work-under-lock validate-in-same-transaction",
    "e5": "alter-column-type",
    "e6": "create-index",
    "e7": "add-unique-constraint add-column-unique",
    "e8": "add-exclusion-constraint",
    "e10": "rewrite-under-lock alter-column-type add-column-volatile-default add-column-auto-increment"
    " add-column-stored-generated vacuum-full cluster set-tablespace set-access-method set-logged set-unlogged"
    " set-expression",
    "e11": "add-column-auto-increment add-column-stored-generated",
    # https://squawkhq.com/docs/rules
    "adding-field-with-default": "add-column-volatile-default add-column-stored-generated",
    "adding-foreign-key-constraint": "add-foreign-key add-column-foreign-key",
    "adding-not-nullable-field": "set-not-null add-column-not-null",
    "adding-required-field": "add-column-not-null",
    "adding-serial-primary-key-field": "add-primary-key add-column-auto-increment add-column-unique",
    "ban-alter-domain-with-add-constraint": "alter-domain-constraint",
    "ban-concurrent-index-creation-in-transaction": "concurrently-in-transaction",
    "ban-drop-column": "drop-column",
    "ban-drop-database": "drop-database",
    "ban-drop-table": "drop-table",
    "ban-truncate-cascade": "truncate",
    "ban-uncommitted-transaction": "uncommitted-transaction",
    "changing-column-type": "alter-column-type",
    "constraint-missing-not-valid": "add-check-constraint add-foreign-key validate-in-same-transaction",
    "disallowed-unique-constraint": "add-unique-constraint add-column-unique",
    "renaming-column": "rename-column",
    "renaming-table": "rename-table",
    "require-concurrent-index-creation": "create-index",
    "require-concurrent-index-deletion": "drop-index",
    "require-concurrent-partition-detach": "detach-partition",
    "require-concurrent-reindex": "reindex",
    "transaction-nesting": "nested-transaction",
    # https://atlasgo.io/lint/analyzers
    "destructive": "drop-column drop-table drop-view drop-schema drop-cascade truncate",
    "incompatible": "rename-column rename-table rename-view",
    "concurrent_index": "create-index drop-index concurrently-in-transaction",
    # Of their style nothing of ours.
    **dict.fromkeys(
        ("prefer-bigint-over-int", "prefer-bigint-over-smallint", "prefer-identity", "prefer-robust-stmts",
         "prefer-text-field", "prefer-timestamp-tz", "require-timeout-settings", "ban-char-field", "e9", "w12", "w14",
         "w13", "e15", "ban-drop-not-null"),
        "",
    ),
}  # fmt: skip


class Accepted(msgspec.Struct, frozen=True):
    """What a comment accepts: these of our rules, or None for all; of the statement, or of the whole file."""

    comment: str
    rules: frozenset[str] | None
    whole_file: bool = False

    def softened(self, problem: Problem) -> Problem | None:
        """The problem as a warning that names the comment, or None when the comment is not about it."""
        if problem.rule in _NEVER or not (self.rules is None or problem.rule in self.rules):
            return None
        return msgspec.structs.replace(
            problem,
            level="warning",
            message=f"{problem.message}; accepted by `{self.comment}`, which says no reason: -- holdfast: allow"
            f" {problem.rule} because …",
        )


def accepted(comment: Token) -> Accepted | None:
    """What a comment to another tool accepts, or None when it is none."""
    for pattern in _COMMENTS:
        if found := pattern.match(comment.value):
            names = [name.lower() for name in _SEPARATOR.split(found["rules"].strip()) if name]
            known = all(name in _SAME or name in RULES for name in names)
            rules = frozenset(rule for name in names for rule in _SAME.get(name, name).split())
            said = comment.value.partition("\n")[0][:80].strip()
            return Accepted(said, rules if names and known else None, bool(found["file"]))
    return None
