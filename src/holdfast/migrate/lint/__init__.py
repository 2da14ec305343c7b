"""What is unsafe about a migration, told from its text: locks that wait, rewrites, and what running code trips over."""

from holdfast.migrate.lint.files import lint_path, lint_paths
from holdfast.migrate.lint.finding import Finding
from holdfast.migrate.lint.lint import lint_sql

__all__ = ["Finding", "lint_path", "lint_paths", "lint_sql"]
