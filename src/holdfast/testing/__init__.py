"""For the tests of who uses Holdfast: a database per test, copied from a template, and what the journal got.

The fixtures are in the pytest plugin `holdfast_pytest`, which imports this only when a test asks for one.
"""

from holdfast.testing.changes import Changes, assert_changes
from holdfast.testing.templates import Template, configured_models, opened, template

__all__ = ["Changes", "Template", "assert_changes", "configured_models", "opened", "template"]
