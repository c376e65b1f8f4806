"""Strongroom: machine learning on data and models that nobody but the approved code may see.

    import strongroom

    with strongroom.connect("http://127.0.0.1:8470", policy="policy.toml") as room:
        answer = room.infer("lite0", {"image": jpeg_bytes})
        print(answer.labels[0].name, answer.labels[0].probability)

`connect` verifies the service under the policy before anything is sealed to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strongroom.client import (
        Answer,
        AsyncRoom,
        AsyncSealedTransport,
        Label,
        Policy,
        Room,
        SealedTransport,
        Timing,
        Verdict,
        connect,
        connect_async,
    )
    from strongroom.errors import StrongroomError

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "AsyncRoom",
    "AsyncSealedTransport",
    "Label",
    "Policy",
    "Room",
    "SealedTransport",
    "StrongroomError",
    "Timing",
    "Verdict",
    "connect",
    "connect_async",
]


def __getattr__(name: str) -> Any:
    """Load the client on first use, so that `import strongroom` stays light (PEP 562)."""
    if name == "StrongroomError":
        from strongroom.errors import StrongroomError

        return StrongroomError
    if name in __all__:
        from strongroom import client

        return getattr(client, name)
    raise AttributeError(f"module 'strongroom' has no attribute {name!r}")
