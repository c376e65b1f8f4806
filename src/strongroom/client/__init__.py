"""The client: verify a service, seal to it, open its answers."""

from __future__ import annotations

from strongroom.attestation.policy import Policy
from strongroom.attestation.serving import Verdict
from strongroom.client._answer import Answer, Label, Timing
from strongroom.client._room import AsyncRoom, Room, connect, connect_async
from strongroom.client._transport import AsyncSealedTransport, SealedTransport

__all__ = [
    "Answer",
    "AsyncRoom",
    "AsyncSealedTransport",
    "Label",
    "Policy",
    "Room",
    "SealedTransport",
    "Timing",
    "Verdict",
    "connect",
    "connect_async",
]
