"""API keys: how they are written, kept, verified and taken back."""

from holdfast.guard.keys.access import KeyFacts, KeyRefused
from holdfast.guard.keys.columns import TAG, Holders, KeyColumns, KeyUseColumns
from holdfast.guard.keys.keys import ApiKeys, KeyUse, NewKey, keys_models
from holdfast.guard.keys.peppers import Peppers, new_pepper

__all__ = [
    "TAG",
    "ApiKeys",
    "Holders",
    "KeyColumns",
    "KeyFacts",
    "KeyRefused",
    "KeyUse",
    "KeyUseColumns",
    "NewKey",
    "Peppers",
    "keys_models",
    "new_pepper",
]
