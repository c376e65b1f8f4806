"""A software TPM, driven by its own tools, and the verifier: neither knows the other's code."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from soft_tpm import free_port, manufacture
from strongroom.attestation.tpm import Credential, make_credential, verify_ek_chain, verify_quote
from strongroom.attestation.tpm_keys import TpmPublic
from strongroom.attestation.tpm_reader import TpmHash, TpmScheme

CodeOf = Callable[..., str | None]

PROGRAMS = ("swtpm", "swtpm_setup", "swtpm_localca", "tpm2_createek", "tpm2_quote")
MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (swtpm, tpm2-tools)"),
]

NONCE = bytes(range(32))
EXTENDED = hashlib.sha256(b"a worker's package").digest()
SCHEME = {"rsa": "rsapss", "ecc": "ecdsa"}
EK = {"rsa": "0x81010001", "ecc": "0x81010016"}
"""Where an RSA-2048 EK and one of P-384 are since the TPM was made."""

EK_CERTIFICATE = {"rsa": "0x1c00002", "ecc": "0x1c00016"}
"""Where their certificates are."""


@dataclass(frozen=True)
class SoftTpm:
    """A running TPM and the folders of its tools."""

    folder: Path
    authority: Path
    port: int

    def run(self, *command: str) -> bytes:
        environment = os.environ | {
            "TPM2TOOLS_TCTI": f"swtpm:host=127.0.0.1,port={self.port}",
            "TSS2_LOG": "all+none",
        }
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, check=False, timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stderr.decode(errors='replace')}")
        # There is no resource manager, and room for three objects only.
        for kind in ("-t", "-l", "-s"):
            subprocess.run(
                ["tpm2_flushcontext", kind], env=environment, capture_output=True, check=False, timeout=60
            )
        return done.stdout

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftTpm]:
    folders = [tmp_path_factory.mktemp(name) for name in ("tpm-work", "tpm-authority", "tpm-state")]
    folder, authority, state = folders
    manufacture(state, authority)
    port = free_port()
    process = subprocess.Popen(
        ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--flags", "not-need-init,startup-clear",
         "--server", f"type=tcp,port={port},bindaddr=127.0.0.1,disconnect",
         "--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1"],
    )  # fmt: skip
    try:
        wait_for(port + 1)
        yield SoftTpm(folder, authority, port)
    finally:
        process.terminate()
        process.wait(10)


def wait_for(port: int) -> None:
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port), 0.1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError("swtpm does not start")


@pytest.fixture(scope="module", params=["rsa", "ecc"])
def kind(request: pytest.FixtureRequest, tpm: SoftTpm) -> str:
    """The kind of EK and AK, which the TPM then has."""
    kind: str = request.param
    tpm.run("tpm2_readpublic", "-c", EK[kind], "-o", f"{kind}.ek.pub")
    tpm.run(
        "tpm2_createak", "-C", EK[kind], "-c", f"{kind}.ak.ctx", "-G", kind, "-g", "sha256",
        "-s", SCHEME[kind], "-u", f"{kind}.ak.pub", "-n", f"{kind}.ak.name",
    )  # fmt: skip
    return kind


@pytest.fixture(scope="module")
def measured(tpm: SoftTpm) -> dict[TpmHash, dict[int, bytes]]:
    """PCR 14 after one measurement, and PCR 15 as it was at the start."""
    tpm.run("tpm2_pcrextend", f"14:sha256={EXTENDED.hex()}")
    return {TpmHash.SHA256: {14: hashlib.sha256(bytes(32) + EXTENDED).digest(), 15: bytes(32)}}


def test_a_quote_verifies(
    tpm: SoftTpm, kind: str, measured: dict[TpmHash, dict[int, bytes]], code_of: CodeOf
) -> None:
    ak = TpmPublic.parse_sized(tpm.read(f"{kind}.ak.pub"))
    assert ak.name == tpm.read(f"{kind}.ak.name")
    assert ak.scheme == ({"rsa": TpmScheme.RSAPSS, "ecc": TpmScheme.ECDSA}[kind], TpmHash.SHA256)
    tpm.run(
        "tpm2_quote", "-c", f"{kind}.ak.ctx", "-l", "sha256:14,15", "-q", NONCE.hex(), "-m", "quote",
        "-s", "signature", "-f", "tss", "-g", "sha256", "--scheme", SCHEME[kind],
    )  # fmt: skip
    attest, signature = tpm.read("quote"), tpm.read("signature")
    claims = verify_quote(ak, attest, signature, nonce=NONCE, pcrs=measured)
    assert claims.ak_name == ak.name.hex()
    assert claims.pcrs["sha256"][15] == "00" * 32
    other = {TpmHash.SHA256: measured[TpmHash.SHA256] | {14: bytes(32)}}
    assert code_of(verify_quote, ak, attest, signature, nonce=NONCE, pcrs=other) == "evidence-binding"
    assert code_of(verify_quote, ak, attest, signature, nonce=b"x", pcrs=measured) == "evidence-nonce"


def test_an_ek_is_no_ak(tpm: SoftTpm, kind: str) -> None:
    data = tpm.read(f"{kind}.ek.pub")
    assert TpmPublic.parse_sized(data).symmetric


def ek_chain(tpm: SoftTpm, kind: str) -> list[bytes]:
    tpm.run("tpm2_nvread", EK_CERTIFICATE[kind], "-o", f"{kind}.ek.der")
    above = [
        x509.load_pem_x509_certificate((tpm.authority / name).read_bytes()).public_bytes(Encoding.DER)
        for name in ("issuercert.pem", "swtpm-localca-rootca-cert.pem")
    ]
    return [tpm.read(f"{kind}.ek.der"), *above]


def test_only_the_tpm_of_the_ek_opens_a_credential_for_its_ak(tpm: SoftTpm, kind: str) -> None:
    chain = ek_chain(tpm, kind)
    roots = frozenset({hashlib.sha256(chain[-1]).hexdigest()})
    ek = verify_ek_chain(chain, roots, int(time.time()))
    assert ek.key == TpmPublic.parse_sized(tpm.read(f"{kind}.ek.pub")).key
    ak = TpmPublic.parse_sized(tpm.read(f"{kind}.ak.pub"))
    secret = os.urandom(32)
    assert activate(tpm, kind, make_credential(ek.key, ak.name, secret, rng=os.urandom)) == secret
    foreign = make_credential(ek.key, ak.name[:-1] + bytes([ak.name[-1] ^ 1]), secret, rng=os.urandom)
    with pytest.raises(RuntimeError, match="integrity check failed"):
        activate(tpm, kind, foreign)


def activate(tpm: SoftTpm, kind: str, credential: Credential) -> bytes:
    """TPM2_ActivateCredential; the tool's file has a magic and a version before the two structures."""
    head = struct.pack(">2I", 0xBADCC0DE, 1)
    (tpm.folder / "credential").write_bytes(head + credential.id_object + credential.encrypted_secret)
    open_it = f"tpm2_activatecredential -c {kind}.ak.ctx -C {EK[kind]} -i credential -o secret"
    if kind == "rsa":  # the older template asks for a policy, the newer is content with the empty password
        session = "tpm2_startauthsession --policy-session -S session && tpm2_policysecret -S session -c e"
        open_it = f"{session} && {open_it} -P session:session"
    tpm.run("sh", "-c", open_it)
    return tpm.read("secret")
