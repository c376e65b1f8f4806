"""A root key in a TPM 2.0: data keys sealed under a policy of PCRs. Needs the programs of `tpm2-tools`.

What is wrapped is sealed by the TPM itself, below its primary storage key, as an object that only this TPM
opens, and only while the chosen PCRs have the values that they had when it was sealed: the machine was
started with the same firmware, kernel and whatever else was measured into them. There is no password.

The TPM must be reached through a resource manager (`/dev/tpmrm0`) or be ours alone, since objects that the
programs leave behind are flushed.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from strongroom.broker.errors import ROOT_KEY_CONFIG, ROOT_KEY_UNAVAILABLE, SECRET_UNREADABLE
from strongroom.codec import b64, jcs
from strongroom.errors import BrokerError, CodecError, ConfigError

PCRS: Final = re.compile(r"(?:sha256|sha384):(?:[0-9]|1[0-9]|2[0-3])(?:,(?:[0-9]|1[0-9]|2[0-3]))*")
SECONDS: Final = 30.0
_FORMAT: Final = "strongroom-tpm-sealed/1"
_LIMIT: Final = 8192
_DIGEST_BYTES: Final = 32
_PRIMARY: Final = ("tpm2_createprimary", "-Q", "-C", "o", "-g", "sha256", "-G", "ecc", "-c", "primary")

_T = TypeVar("_T")


class TpmRootKey:
    """The TPM of this machine.

    Args:
        pcrs: Bank and numbers of the PCRs, for example `sha256:0,2,4,7`.
        tcti: How to reach the TPM, in the words of `tpm2-tools`; empty for its own default.
        seconds: Time for each call of the TPM.

    Raises:
        ConfigError: `root-key-config`.
        BrokerError: `root-key-unavailable`.
    """

    def __init__(self, pcrs: str, *, tcti: str = "", seconds: float = SECONDS) -> None:
        if not PCRS.fullmatch(pcrs):
            raise ConfigError(ROOT_KEY_CONFIG, "pcrs", found=pcrs, expected="sha256:0,2,4,7")
        self._pcrs = pcrs
        self._seconds = seconds
        self._environment = {**os.environ, "TSS2_LOG": "all+none"}
        if tcti:
            self._environment["TPM2TOOLS_TCTI"] = tcti
        self.name = _in_folder(self._find_name)

    def wrap(self, secret: bytes, context: str) -> bytes:
        """As `RootKey.wrap`."""

        def seal(folder: Path) -> bytes:
            self._run(folder, "tpm2_createpolicy", "-Q", "--policy-pcr", "-l", self._pcrs, "-L", "policy")
            self._run(folder, *_PRIMARY)
            # Without "userwithauth" nothing but the policy opens it.
            policy = ("-L", "policy", "-a", "fixedtpm|fixedparent")
            command = (
                "tpm2_create",
                "-Q",
                "-C",
                "primary",
                *policy,
                "-u",
                "public",
                "-r",
                "private",
                "-i",
                "-",
            )
            self._run(folder, *command, stdin=_digest(context) + secret)
            members = {name: b64.encode_url((folder / name).read_bytes()) for name in ("public", "private")}
            return jcs.canonical({"type": _FORMAT, "pcrs": self._pcrs, **members})

        return _in_folder(seal)

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """As `RootKey.unwrap`. `root-key-unavailable` also where the PCRs have other values."""
        try:
            members: dict[str, Any] = jcs.parse(wrapped, limit=_LIMIT, what="sealed key")
            parts = {name: b64.decode_url(members[name], limit=_LIMIT) for name in ("public", "private")}
            pcrs = members["pcrs"]
            valid = members["type"] == _FORMAT and isinstance(pcrs, str) and PCRS.fullmatch(pcrs)
        except (CodecError, KeyError, TypeError, AttributeError):
            valid = None
        if not valid:
            raise BrokerError(SECRET_UNREADABLE, context)

        def unseal(folder: Path) -> bytes:
            for name, content in parts.items():
                (folder / name).write_bytes(content)
            self._run(folder, *_PRIMARY)
            self._run(
                folder, "tpm2_load", "-Q", "-C", "primary", "-u", "public", "-r", "private", "-c", "sealed"
            )
            return self._run(folder, "tpm2_unseal", "-c", "sealed", "-p", f"pcr:{pcrs}")

        found = _in_folder(unseal)
        if found[:_DIGEST_BYTES] != _digest(context):
            raise BrokerError(SECRET_UNREADABLE, context)
        return found[_DIGEST_BYTES:]

    def _find_name(self, folder: Path) -> str:
        """From the primary storage key, which stays the same until somebody clears the TPM."""
        self._run(folder, *_PRIMARY)
        self._run(folder, "tpm2_readpublic", "-Q", "-c", "primary", "-n", "name")
        return "tpm:" + hashlib.sha256((folder / "name").read_bytes()).hexdigest()[:16]

    def _run(self, folder: Path, *command: str, stdin: bytes = b"") -> bytes:
        """Run one of the programs. Secrets go through pipes, never through arguments or files."""
        try:
            done = self._call(folder, command, stdin)
        finally:
            for kind in ("--transient-object", "--loaded-session"):
                self._call(folder, ("tpm2_flushcontext", kind), b"")
        if done.returncode:
            lines = done.stderr.decode("utf-8", "replace").splitlines() or [f"exit status {done.returncode}"]
            raise BrokerError(ROOT_KEY_UNAVAILABLE, f"{command[0]}: {lines[0]}", expected=self._pcrs)
        return done.stdout

    def _call(
        self, folder: Path, command: tuple[str, ...], stdin: bytes
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                command,
                cwd=folder,
                env=self._environment,
                input=stdin,
                capture_output=True,
                check=False,
                timeout=self._seconds,
            )
        except OSError as error:
            what = f"{command[0]}: {error.strerror}; install tpm2-tools"
            raise BrokerError(ROOT_KEY_UNAVAILABLE, what) from error
        except subprocess.TimeoutExpired:
            raise BrokerError(ROOT_KEY_UNAVAILABLE, f"{command[0]}: the TPM does not answer") from None


def _in_folder(work: Callable[[Path], _T]) -> _T:
    with tempfile.TemporaryDirectory(prefix="strongroom-tpm-") as folder:
        return work(Path(folder))


def _digest(context: str) -> bytes:
    return hashlib.sha256(b"strongroom-tpm-sealed/1\0" + context.encode()).digest()
