"""A software TPM for tests, and its own tools."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

PROGRAMS = ("swtpm", "tpm2_createprimary", "tpm2_unseal")
MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
NEEDS_TPM = [
    pytest.mark.system,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (swtpm, tpm2-tools)"),
]
"""Marks of tests that start a software TPM."""


def need_bindings() -> None:
    """Skip what drives a TPM from Python where that cannot be done."""
    pytest.importorskip("tpm2_pytss", reason="tpm2-pytss is not installed (extra tpm; needs libtss2-dev)")


class SoftTpm:
    """A TPM that runs until `stop`. Its state is empty at first: another TPM than any before."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._start()

    def _start(self) -> None:
        port = free_port()
        self.tcti = f"swtpm:host=127.0.0.1,port={port}"
        self._process = subprocess.Popen(
            ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._folder}",
             "--flags", "not-need-init,startup-clear",
             "--server", f"type=tcp,port={port},bindaddr=127.0.0.1,disconnect",
             "--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1"],
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port + 1), 0.1).close()
            except OSError:
                assert time.monotonic() < deadline, "swtpm does not start"
                assert self._process.poll() is None
                time.sleep(0.02)  # it is on its way
            else:
                return

    def run(self, *command: str) -> None:
        """Run one of tpm2-tools."""
        environment = {**os.environ, "TPM2TOOLS_TCTI": self.tcti, "TSS2_LOG": "all+none"}
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)

    def restart(self) -> None:
        """Switch it off and on again; it may have another address then."""
        self.stop()
        self._start()

    def stop(self) -> None:
        """Switch it off."""
        self._process.terminate()
        self._process.wait(10)


def free_port() -> int:
    """A port whose successor, for the control channel, is free too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


def manufacture(state: Path, authority: Path) -> None:
    """Manufacture a TPM whose EK certificates come from an authority of our own."""
    (authority / "localca.conf").write_text(
        f"statedir = {authority}\nsigningkey = {authority}/signkey.pem\n"
        f"issuercert = {authority}/issuercert.pem\ncertserial = {authority}/certserial\n"
    )
    (authority / "localca.options").write_text(
        "--platform-manufacturer Test\n--platform-version 1\n--platform-model Test\n"
    )
    (authority / "setup.conf").write_text(
        f"create_certs_tool = {shutil.which('swtpm_localca')}\n"
        f"create_certs_tool_config = {authority}/localca.conf\n"
        f"create_certs_tool_options = {authority}/localca.options\nactive_pcr_banks = sha256,sha384\n"
    )
    subprocess.run(
        ["swtpm_setup", "--tpm2", "--tpmstate", str(state), "--config", str(authority / "setup.conf"),
         "--create-ek-cert", "--pcr-banks", "sha256,sha384", "--lock-nvram", "--not-overwrite"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
