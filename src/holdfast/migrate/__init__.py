"""How the schema moves. First form: what the models have and the database lacks is made."""

from holdfast.migrate.runner import Difference, migrate_up, pending

__all__ = ["Difference", "migrate_up", "pending"]
