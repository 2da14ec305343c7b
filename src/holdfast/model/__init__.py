"""What a user declares: models, policies, aspects, column types, ids."""

from holdfast.model.base import NAMING, KeyedModel, Model, model_of, models_of
from holdfast.model.defaults import database_actor, database_id, database_now
from holdfast.model.encrypted import BlindIndex, Encrypted, encrypted_columns, refuse_encrypted
from holdfast.model.expose import Expose
from holdfast.model.ids import uuid7
from holdfast.model.mixins import Attributed, SoftDeleted, Timestamps, Versioned, live_unique
from holdfast.model.policy import Aspect, Policy, require_columns
from holdfast.model.tenancy import check_foreign_keys
from holdfast.model.types import Amount, Text, Total, UtcTime, exact_sum, format_utc

__all__ = [
    "NAMING",
    "Amount",
    "Aspect",
    "Attributed",
    "BlindIndex",
    "Encrypted",
    "Expose",
    "KeyedModel",
    "Model",
    "Policy",
    "SoftDeleted",
    "Text",
    "Timestamps",
    "Total",
    "UtcTime",
    "Versioned",
    "check_foreign_keys",
    "database_actor",
    "database_id",
    "database_now",
    "encrypted_columns",
    "exact_sum",
    "format_utc",
    "live_unique",
    "model_of",
    "models_of",
    "refuse_encrypted",
    "require_columns",
    "uuid7",
]
