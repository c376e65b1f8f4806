"""How each HTTP server of the broker and of a witness runs: bounded connections, and silent about itself."""

from __future__ import annotations

from typing import Any, Final

from strongroom.bounded_http import BoundedProtocol, ConnectionLimits, bounded

LIMITS: Final = ConnectionLimits(body_seconds=10.0)
_GRACE_SECONDS: Final = 5


def settings(connections: int, protocol: type[BoundedProtocol] = BoundedProtocol) -> dict[str, Any]:
    """Settings for uvicorn.

    Args:
        connections: Most at once; one more is answered with 503.
        protocol: What serves a connection, within `LIMITS`.
    """
    return {
        "http": bounded(LIMITS, protocol),
        "limit_concurrency": connections,
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": False,
        "ws": "none",
        "timeout_graceful_shutdown": _GRACE_SECONDS,
    }
