"""What is kept of people: classified, exported, erased."""

from holdfast.operate.privacy.classified import Sort, examine_privacy, sorts_of
from holdfast.operate.privacy.erasures import Erasure
from holdfast.operate.privacy.erasures import metadata as erasure_metadata
from holdfast.operate.privacy.export import Exported, Manifest, Packed, verify_export
from holdfast.operate.privacy.marks import Marks
from holdfast.operate.privacy.personal import Mentions, Personal
from holdfast.operate.privacy.places import Eraser, Forgotten, erases
from holdfast.operate.privacy.privacy import PersonErased, Privacy, resume_erasures

__all__ = [
    "Eraser",
    "Erasure",
    "Exported",
    "Forgotten",
    "Manifest",
    "Marks",
    "Mentions",
    "Packed",
    "PersonErased",
    "Personal",
    "Privacy",
    "Sort",
    "erases",
    "erasure_metadata",
    "examine_privacy",
    "resume_erasures",
    "sorts_of",
    "verify_export",
]
