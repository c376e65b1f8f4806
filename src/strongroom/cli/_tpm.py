"""What `strongroom tpm` does."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.certificates import sha256
from strongroom.broker import keyfile
from strongroom.cli._collect import handle_of
from strongroom.cli._evidence import read
from strongroom.cli._output import emit, say
from strongroom.cli.errors import FILE_EXISTS, FILE_UNREADABLE
from strongroom.errors import ConfigError

if TYPE_CHECKING:
    from strongroom.attestation.tpm_enrolment import Expected

_MAX_CHAIN = 128 * 1024


def run_identify(output: Path, tcti: str | None, ak_handle: str | None, *, json_output: bool) -> None:
    """Write what the machine says of its TPM."""
    from strongroom.attestation.collectors import tpm_device
    from strongroom.attestation.tpm_enrolment import Identity

    with tpm_device.opened(tcti or tpm_device.DEFAULT) as device, device.key(handle_of(ak_handle)) as key:
        identity = Identity(device.public_area(key), device.ek_certificate())
    output.write_bytes(identity.to_json_bytes())
    if json_output:
        emit({"file": str(output)})
    else:
        say(f"{output}: give it to the owner of the policy. Nothing in it is secret, or verified.")


def run_challenge(
    identity: Path, chain: Path, root: str | None, output: Path, keep: Path, *, json_output: bool
) -> None:
    """Write a challenge, and what its answer must be."""
    from strongroom.attestation import tpm_enrolment

    authorities = _certificates(chain)
    roots = {sha256(authorities[-1])} if root is None else {root.lower().removeprefix("sha256:")}
    message = tpm_enrolment.Identity.parse(read(identity, tpm_enrolment.MAX_MESSAGE))
    ders = [each.public_bytes(Encoding.DER) for each in authorities]
    made, expected = tpm_enrolment.challenge(message, ders, roots, int(time.time()), rng=os.urandom)
    _keep(keep, expected)
    output.write_bytes(made.to_json_bytes())
    if json_output:
        emit({"file": str(output), "kept": str(keep), "root": f"sha256:{sha256(authorities[-1])}"})
        return
    say(f"The TPM is of the maker whose root is sha256:{sha256(authorities[-1])}.")
    say(f"{output}: let the machine answer it. {keep}: keep it until then, and show it to nobody.")


def run_answer(
    challenge: Path, output: Path, tcti: str | None, ak_handle: str | None, *, json_output: bool
) -> None:
    """Write the TPM's answer."""
    from strongroom.attestation.collectors import tpm_device
    from strongroom.attestation.tpm_enrolment import MAX_MESSAGE, Answer, Challenge

    asked = Challenge.parse(read(challenge, MAX_MESSAGE))
    with tpm_device.opened(tcti or tpm_device.DEFAULT) as device, device.key(handle_of(ak_handle)) as key:
        secret = device.activate(key, asked.credential)
    output.write_bytes(Answer(secret).to_json_bytes())
    if json_output:
        emit({"file": str(output)})
    else:
        say(f"{output}: give it back to the owner of the policy.")


def run_accept(answer: Path, kept: Path, *, json_output: bool) -> None:
    """Print the digest to pin."""
    from strongroom.attestation.tpm_enrolment import MAX_MESSAGE, Answer, Expected

    expected = Expected.parse(keyfile.read(kept, limit=MAX_MESSAGE))
    digest = expected.accept(Answer.parse(read(answer, MAX_MESSAGE)))
    if json_output:
        emit({"tpm_key": digest, "endorsement_key": expected.ek_sha256})
        return
    say(f"The key is in the TPM with the endorsement key sha256:{expected.ek_sha256}. In the policy:")
    say(f'tpm_keys = ["{digest}"]')


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(read(path, _MAX_CHAIN))
    except ValueError as error:
        raise ConfigError(FILE_UNREADABLE, f"{path} has no certificates in PEM") from error


def _keep(path: Path, expected: Expected) -> None:
    if not keyfile.create(path, expected.to_json_bytes()):
        raise ConfigError(FILE_EXISTS, str(path))
