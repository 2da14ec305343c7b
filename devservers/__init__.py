"""Real PostgreSQL, pgbouncer, Redis, sqld and Chromium for tests, torture runs and benchmarks.

Nothing here is shipped in the wheel. Every server listens on 127.0.0.1 only, keeps its data in a
temporary folder, and ends with the process that started it, however that process ends.

    with start_postgres() as postgres, postgres.database() as url: ...
    with start_redis() as redis: redis.url

`python -m devservers` finds them, or installs what is missing into the virtual environment.
"""

from devservers.errors import ServerError
from devservers.find import find_chromium, find_pgbouncer, find_postgres, find_redis, find_sqld
from devservers.install import ensure_pgbouncer, ensure_sqld
from devservers.pgbouncer import PgbouncerServer, start_pgbouncer
from devservers.postgres import PostgresServer, start_postgres, start_replica
from devservers.redis import RedisServer, start_redis
from devservers.redis_cluster import RedisCluster, start_redis_cluster
from devservers.sqld import SqldServer, start_sqld

__all__ = [
    "PgbouncerServer",
    "PostgresServer",
    "RedisCluster",
    "RedisServer",
    "ServerError",
    "SqldServer",
    "ensure_pgbouncer",
    "ensure_sqld",
    "find_chromium",
    "find_pgbouncer",
    "find_postgres",
    "find_redis",
    "find_sqld",
    "start_pgbouncer",
    "start_postgres",
    "start_redis",
    "start_redis_cluster",
    "start_replica",
    "start_sqld",
]
