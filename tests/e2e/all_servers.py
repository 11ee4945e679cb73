"""Every server of the suite: those of servers.py, and the families that have a file of their own."""

import servers_apache
import servers_others
from servers import SERVERS, reason_to_skip    # noqa: F401 (conftest.py's)

SERVERS.update((cls.name, cls) for cls in servers_apache.SERVERS + servers_others.SERVERS)
