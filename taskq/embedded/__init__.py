"""A private redis-server (or valkey-server) that lives no longer than the program that started it.

::

    with EmbeddedRedis("./data") as server:
        app = TaskQ("shop", broker_url=server.url)

Meant for demos, tests and single-machine use.
The server listens on 127.0.0.1 or on a unix socket only, never evicts a key, and by default keeps an
append-only file.
"""

from taskq.embedded.finding import find_server
from taskq.embedded.server import EmbeddedRedis

__all__ = ["EmbeddedRedis", "find_server"]
