"""How a data layer is kept well."""

from holdfast.operate.health import Examiner, Finding, Report

__all__ = ["Examiner", "Finding", "Report"]
