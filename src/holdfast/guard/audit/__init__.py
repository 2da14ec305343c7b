"""The audit trail: who did what to what, in chains that show when somebody was at them."""

from holdfast.guard.audit.chain import Fault, Head
from holdfast.guard.audit.checkpoint import Checkpoint
from holdfast.guard.audit.columns import AuditColumns, AuditHeadColumns
from holdfast.guard.audit.declaring import Audited
from holdfast.guard.audit.entries import Origin
from holdfast.guard.audit.keys import AuditKeys
from holdfast.guard.audit.record import Outcome, Record
from holdfast.guard.audit.trail import Trail
from holdfast.guard.audit.verify import Verified

__all__ = [
    "AuditColumns",
    "AuditHeadColumns",
    "AuditKeys",
    "Audited",
    "Checkpoint",
    "Fault",
    "Head",
    "Origin",
    "Outcome",
    "Record",
    "Trail",
    "Verified",
]
