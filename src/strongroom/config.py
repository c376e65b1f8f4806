"""The configuration of the parts: one TOML file, typed, with every key known.

`strongroom up` writes such a file for one machine; `strongroom broker|worker|frontend --config FILE` read it.
Nothing in it can weaken what a client's or an owner's policy demands: those are files of their own.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from strongroom.errors import EXIT_USAGE, ConfigError, define
from strongroom.forms import ready

CONFIG_UNREADABLE = define(
    "config-unreadable",
    "The configuration file cannot be read",
    status=500,
    exit_code=EXIT_USAGE,
    remedy="Give --config a TOML file; `strongroom up` writes one into its state folder.",
)
CONFIG_INVALID = define(
    "config-invalid",
    "The configuration is not valid",
    status=500,
    exit_code=EXIT_USAGE,
    remedy="Correct the key that is named; docs/reference/configuration.md lists all keys.",
)

LISTEN_FAILED = define(
    "listen-failed",
    "The server cannot listen at its address",
    status=500,
    remedy="See the log above: another program may listen there, or the address is not of this machine.",
)

_MAX_FILE = 256 * 1024
MEBIBYTE = 1024 * 1024


@ready
class TlsFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PEM files for mutual TLS towards a queue server."""

    ca: str
    certificate: str
    key: str


@ready
class QueueConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the queue is and how much it may hold.

    Attributes:
        url: `unix:///path/to.sock`, `redis://host:port` or `rediss://host:port`.
        max_length: Entries that may wait; one more is answered with 503.
        max_body: Largest sealed request in bytes.
        claim_after: Seconds after which a silent worker's entries go to another worker.
        max_deliveries: Deliveries after which an entry is a dead letter.
        durability: `process` survives the death of any process, `power` also a power cut.
        tls: Files for mutual TLS, for `rediss://`.
    """

    url: str
    max_length: int = 1024
    max_body: int = 64 * MEBIBYTE
    claim_after: float = 10.0
    max_deliveries: int = 3
    durability: str = "process"
    tls: TlsFiles | None = None


@ready
class OidcConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An OIDC issuer whose bearer tokens administrators may present.

    Attributes:
        issuer: Its URL, as tokens name it.
        audience: What tokens for this broker name as their audience.
        keys: File with its public keys (a JSON Web Key Set); empty to fetch them from the issuer.
    """

    issuer: str
    audience: str
    keys: str = ""


@ready
class AdminConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The broker's administration over the network, with TLS.

    Attributes:
        listen: `host:port`.
        certificate: PEM file with the broker's certificate and its chain.
        key: PEM file with its key.
        client_ca: PEM file with the authority of administrators' certificates; empty for none.
        oidc: Issuers of administrators' tokens.
    """

    listen: str
    certificate: str
    key: str
    client_ca: str = ""
    oidc: tuple[OidcConfig, ...] = ()


@ready
class WitnessConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A witness of the broker's log: where it takes checkpoints, and its key."""

    url: str
    key: str


@ready
class RootConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The root key that guards the key store. Which keys are needed depends on `kind`.

    Attributes:
        kind: `file`, `tpm`, `pkcs11` or `kms`.
        path: file: 32 random bytes, mode 0600.
        pcrs: tpm: bank and numbers, for example `sha256:0,2,4,7`.
        tcti: tpm: how to reach it, in the words of tpm2-tools.
        module: pkcs11: the module's library.
        token: pkcs11: label of the token.
        pin_file: pkcs11: file with the PIN, mode 0600.
        key: pkcs11: label of the key; kms: its ARN.
        region: kms: region.
        endpoint: kms: address of the service.
    """

    kind: Literal["file", "tpm", "pkcs11", "kms"]
    path: str = ""
    pcrs: str = ""
    tcti: str = ""
    module: str = ""
    token: str = ""
    pin_file: str = ""
    key: str = ""
    region: str = ""
    endpoint: str = ""


@ready
class BrokerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The key broker: where it listens, where it is reached, and the key that signs for it.

    Attributes:
        url: Where workers reach it.
        key: Its signing key, `ed25519+mldsa65:...`.
        listen: `host:port`.
        store: Folder of the key store, empty for the one in the state folder; or `postgresql://...`.
        epoch_keys: Folder of the epochs' wrapping keys, which all brokers of a store in PostgreSQL share.
        gpu_rims: Folder with NVIDIA's signed reference values (`*.swidtag`), for attesters with GPUs; empty
            for none.
        collateral: Folder of collateral that completes evidence which comes without; empty for none, or with
            `pccs` or `kds` for the one in the state folder.
        pccs: Where Intel's collateral is fetched: a PCCS, or Intel's PCS; empty for nowhere.
        kds: Where AMD's certificates are fetched; empty for nowhere.
        root: The root key that guards the store; without it, `root.key` in the folder.
        old_root: One that opened it before, while the brokers change over.
        admin: Administration over the network; without it, only on the broker's own machine.
        profile: `production` releases nothing on simulated evidence, whatever a policy says; `trial` may.
        witness_threshold: How many witnesses must have cosigned the log before a key leaves; 0: all.
        witness_timeout: Seconds for each step of asking one.
        witnesses: The witnesses; workers started from this configuration insist on them.
    """

    url: str
    key: str
    listen: str = "127.0.0.1:8471"
    store: str = ""
    epoch_keys: str = ""
    gpu_rims: str = ""
    collateral: str = ""
    pccs: str = ""
    kds: str = ""
    profile: Literal["production", "trial"] = "production"
    root: RootConfig | None = None
    old_root: RootConfig | None = None
    admin: AdminConfig | None = None
    witness_threshold: int = 0
    witness_timeout: float = 3.0
    witnesses: tuple[WitnessConfig, ...] = ()

    @property
    def usable_threshold(self) -> int:
        """`witness_threshold`, or the number of witnesses."""
        return self.witness_threshold or len(self.witnesses)


@ready
class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One sealed bundle and the broker's resource that holds its key."""

    path: str
    resource: str


@ready
class WorkerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Workers of one host.

    Attributes:
        tee: `sgx`, `tdx` or `snp`.
        simulator: State folder of the simulated quoting key. Simulated evidence is not protection.
        release_policy: Digest of the service's release policy, `sha256:...`, as it stands in the init-data.
        models: Sealed bundles to serve.
        classical_release: Attest with a classical one-time key, for a broker that knows no HPKE release.
        threads: Threads that open and decode; 0 means one for each core.
        streams: Inference streams; 0 lets the runtime choose.
    """

    tee: str
    simulator: str
    release_policy: str
    models: tuple[ModelConfig, ...]
    name: str = "worker-0"
    classical_release: bool = False
    threads: int = 0
    streams: int = 0


@ready
class FrontendConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP front end.

    Attributes:
        listen: `host:port`.
        policy: Client policy for the plain way in; empty turns that way off.
        max_pending: Requests that may be waiting for an answer at once.
        timeout: Seconds after which a request without a deadline of its own is given up.
        body_timeout: Seconds in which a request's body must be there in full.
        body_budget: Bytes of request bodies that may be in memory at once.
        drain: Seconds that open requests get at shutdown.
    """

    listen: str = "127.0.0.1:8470"
    policy: str = ""
    max_pending: int = 4096
    timeout: float = 60.0
    body_timeout: float = 30.0
    body_budget: int = 512 * MEBIBYTE
    drain: float = 10.0


@ready
class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All parts of one service on one host."""

    service: str
    queue: QueueConfig
    broker: BrokerConfig
    worker: WorkerConfig | None = None
    frontend: FrontendConfig = FrontendConfig()


def parse_config(text: str, *, what: str = "configuration") -> Config:
    """Parse a configuration text.

    Raises:
        ConfigError: `config-invalid`; the message names the key.
    """
    try:
        return msgspec.convert(tomllib.loads(text), Config)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(CONFIG_INVALID, f"{what} is not TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(CONFIG_INVALID, f"{what}: {error}") from None


def load_config(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigError: `config-unreadable` or `config-invalid`.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_FILE:
            raise ConfigError(
                CONFIG_UNREADABLE, str(path), found=f"{size} bytes", expected=f"at most {_MAX_FILE}"
            )
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(CONFIG_UNREADABLE, f"{path}: {error}") from None
    return parse_config(text, what=str(path))


def render_config(config: Config) -> str:
    """The configuration as TOML text that `parse_config` reads back."""
    lines: list[str] = []
    _render_table(lines, (), msgspec.to_builtins(config))
    return "\n".join(lines).lstrip("\n") + "\n"


def _render_table(lines: list[str], name: tuple[str, ...], table: dict[str, Any]) -> None:
    nested = {key: value for key, value in table.items() if isinstance(value, dict)}
    rows = {key: value for key, value in table.items() if isinstance(value, list | tuple)}
    if name:
        lines += ["", f"[{'.'.join(name)}]"]
    for key, value in table.items():
        if value is not None and key not in nested and key not in rows:
            lines.append(f"{key} = {msgspec.json.encode(value).decode()}")
    for key, value in nested.items():
        _render_table(lines, (*name, key), value)
    for key, items in rows.items():
        for item in items:
            lines += ["", f"[[{'.'.join((*name, key))}]]"]
            lines += [f"{k} = {msgspec.json.encode(v).decode()}" for k, v in item.items()]


def split_listen(listen: str) -> tuple[str, int]:
    """Split `host:port`.

    Raises:
        ConfigError: `config-invalid`.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ConfigError(CONFIG_INVALID, "listen address", found=listen, expected="HOST:PORT")
    return host.strip("[]"), int(port)


@contextmanager
def listening(listen: str) -> Iterator[None]:
    """Run a uvicorn server in here: it leaves by SystemExit, with a code of its own, if it cannot listen.

    Raises:
        ConfigError: `listen-failed`.
    """
    try:
        yield
    except SystemExit as error:
        if error.code:
            raise ConfigError(LISTEN_FAILED, found=listen) from None
        raise


def home() -> Path:
    """The state folder: `STRONGROOM_HOME`, else `strongroom` in the user's XDG data folder."""
    explicit = os.environ.get("STRONGROOM_HOME")
    if explicit:
        return Path(explicit)
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "strongroom"
