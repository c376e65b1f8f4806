"""The worker's configuration: JSON over a pipe from its launcher, typed and bounded.

It comes from the host, which is not trusted. So nothing in it can weaken protection: it says where things
are and how much to hold at once, never what to accept, log or reveal. What to accept stands in the
init-data, whose digest is part of the worker's evidence.
"""

from __future__ import annotations

import os
from typing import Annotated, Final

import msgspec

from strongroom.config import TlsFiles
from strongroom.forms import ready
from strongroom.worker.errors import CONFIG_REFUSED, WorkerError

MAX_CONFIG: Final = 256 * 1024
MEBIBYTE: Final = 1024 * 1024

_Name = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")]
_QueueUrl = Annotated[str, msgspec.Meta(pattern=r"\A(unix|redis|rediss)://", max_length=1024)]
_HttpUrl = Annotated[str, msgspec.Meta(pattern=r"\Ahttps?://", max_length=1024)]
_Path = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
_Resource = Annotated[str, msgspec.Meta(pattern=r"\Akbs:///[^/]+/[^/]+/[^/]+\Z", max_length=512)]


@ready
class BundleSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One sealed bundle on disk and the broker's resource that holds its key."""

    path: _Path
    resource: _Resource


@ready
class WorkerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a worker finds its queue, its broker and its models.

    Attributes:
        queue_url: `unix://`, `redis://` or `rediss://`.
        queue_tls: PEM files for mutual TLS.
        service: Name of the service; must be the one in the init-data.
        shard: Shard of the queue.
        consumer: Stable name of this worker in the queue's consumer group.
        broker_url: Base address of the key broker.
        init_data: The TOML text whose digest the evidence carries.
        tee: `sgx`, `tdx` or `snp`.
        bundles: What to serve.
        classical_release: Attest with a classical one-time key. The broker refuses it, and so does this
            worker, where the keyset says otherwise.
        threads: Threads that open and decode; 0 means one for each usable core.
        streams: Inference streams; 0 means one for each usable core.
        max_in_flight: Most requests held at once; 0 means 64.
        max_body: Largest sealed request in bytes.
        claim_after_ms: Silence after which another worker may claim an entry.
        max_deliveries: Deliveries after which an entry is a dead letter.
        metrics: Seconds between two lines of counters in the log; 0 turns them off.
    """

    queue_url: _QueueUrl
    service: _Name
    consumer: _Name
    broker_url: _HttpUrl
    init_data: Annotated[str, msgspec.Meta(min_length=1, max_length=65536)]
    tee: Annotated[str, msgspec.Meta(pattern=r"\A(sgx|tdx|snp)\Z")]
    bundles: Annotated[tuple[BundleSource, ...], msgspec.Meta(min_length=1, max_length=64)]
    classical_release: bool = False
    queue_tls: TlsFiles | None = None
    shard: Annotated[int, msgspec.Meta(ge=0, le=1023)] = 0
    threads: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    streams: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    max_in_flight: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0
    max_body: Annotated[int, msgspec.Meta(ge=1024, le=1024 * MEBIBYTE)] = 64 * MEBIBYTE
    claim_after_ms: Annotated[int, msgspec.Meta(ge=100, le=600_000)] = 10_000
    max_deliveries: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    metrics: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 0

    @property
    def usable_threads(self) -> int:
        """`threads`, or the cores that this process may use."""
        return self.threads or len(os.sched_getaffinity(0))

    @property
    def usable_in_flight(self) -> int:
        """`max_in_flight`, or 64."""
        return self.max_in_flight or 64


def parse_settings(data: bytes) -> WorkerSettings:
    """Parse the launcher's JSON.

    Raises:
        WorkerError: `worker-config-refused`: too large, malformed, an unknown key or a value out of bounds.
    """
    if len(data) > MAX_CONFIG:
        raise WorkerError(
            CONFIG_REFUSED, "size", found=f"{len(data)} bytes", expected=f"at most {MAX_CONFIG}"
        )
    try:
        settings = msgspec.json.decode(data, type=WorkerSettings)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WorkerError(CONFIG_REFUSED, str(error)) from None
    if len({bundle.resource for bundle in settings.bundles}) != len(settings.bundles):
        raise WorkerError(CONFIG_REFUSED, "a resource is listed twice")
    return settings


def read_settings(fd: int) -> WorkerSettings:
    """Read the configuration to the end of a pipe, at most `MAX_CONFIG` bytes, and close it.

    Raises:
        WorkerError: `worker-config-refused`.
    """
    data = bytearray()
    try:
        while len(data) <= MAX_CONFIG and (chunk := os.read(fd, 65536)):
            data += chunk
    except OSError:
        raise WorkerError(CONFIG_REFUSED, "the configuration pipe cannot be read") from None
    finally:
        os.close(fd)
    return parse_settings(bytes(data))
