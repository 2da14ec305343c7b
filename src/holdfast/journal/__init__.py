"""What changed, in order: capture in the database, ticks, and whoever follows."""

from holdfast.journal.capture import CapturedTable, captured_table, install, verify
from holdfast.journal.changes import EVERYTHING, Batch, Change, Position
from holdfast.journal.context import retiring
from holdfast.journal.dead_letters import DeadLetter
from holdfast.journal.events import Event
from holdfast.journal.feed import Feed, Page
from holdfast.journal.handler import Handler, on
from holdfast.journal.handlers import Handlers, HandlerStatus
from holdfast.journal.journal import Journal
from holdfast.journal.leases import LostLease
from holdfast.journal.status import FollowerStatus, JournalStatus

__all__ = [
    "EVERYTHING",
    "Batch",
    "CapturedTable",
    "Change",
    "DeadLetter",
    "Event",
    "Feed",
    "FollowerStatus",
    "Handler",
    "HandlerStatus",
    "Handlers",
    "Journal",
    "JournalStatus",
    "LostLease",
    "Page",
    "Position",
    "captured_table",
    "install",
    "on",
    "retiring",
    "verify",
]
