"""What `strongroom policy keygen`, `sign-values`, `values` and `publish` do; policies with their values."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.policy import Policy
from strongroom.attestation.reference_values import MAX_SIGNED, ReferenceValues, SignedReferenceValues
from strongroom.broker import keyfile
from strongroom.cli._evidence import moment, read, shown
from strongroom.cli._output import emit, say
from strongroom.cli._show import open_store
from strongroom.cli.errors import FILE_EXISTS, OPTION_INVALID
from strongroom.crypto.sign import SECRET_SIZE, SigningKey, VerifyingKey
from strongroom.errors import ConfigError

DAY: Final = 86400


@dataclass(frozen=True, slots=True)
class Publication:
    """What `sign-values` is told."""

    publisher: str
    name: str
    version: int
    not_before: str
    days: int
    measurements: tuple[str, ...]


def load_policy(policy: Path, values: Path | None) -> Policy:
    """A policy from its file, with the signed measurements of another one if it is given."""
    demanded = Policy.load(policy)
    return demanded if values is None else demanded.with_values(_signed(values))


def load_policies(policies: tuple[Path, Path], values: Path | None) -> tuple[Policy, Policy]:
    """Two policies to compare; the signed measurements go to each that names a publisher."""
    first, second = (load_policy(each, values if _takes_values(each) else None) for each in policies)
    return first, second


def run_keygen(out: Path, *, json_output: bool) -> None:
    """Make the signing key of a publisher."""
    key = SigningKey.generate()
    if not keyfile.create(out, key.raw()):
        raise ConfigError(FILE_EXISTS, str(out))
    text = key.verifying_key.text
    emit({"key": text, "file": str(out)}) if json_output else say(text)


def run_sign(publication: Publication, key_file: Path, output: Path, *, json_output: bool) -> None:
    """Sign measurements."""
    key = SigningKey.from_raw(keyfile.read(key_file, limit=SECRET_SIZE))
    first = moment(publication.not_before, "--not-before")
    values = ReferenceValues(
        publisher=publication.publisher,
        name=publication.name,
        version=publication.version,
        issued=int(time.time()),
        not_before=first,
        expires=first + publication.days * DAY,
        measurements=_measurements(publication),
    )
    output.write_bytes(values.sign(key).to_json_bytes())
    if json_output:
        emit({"file": str(output), "digest": values.digest, "key": key.verifying_key.text})
        return
    say(f"{output}: version {values.version} of {values.name}, {values.digest}")
    say(f"  counts        {shown(values.not_before)} to {shown(values.expires)}")
    say(f"  key           {key.verifying_key.text}, for [reference_values] of policies")


def run_show(path: Path, key: str | None, *, json_output: bool) -> None:
    """Print what a file of signed measurements says, and whether a key has signed it."""
    signed = _signed(path)
    publisher = None if key is None else VerifyingKey.parse(key)
    values = ReferenceValues.parse(signed.payload) if publisher is None else signed.verify(publisher)
    if json_output:
        emit(
            {
                "publisher": values.publisher,
                "name": values.name,
                "version": values.version,
                "issued": values.issued,
                "not_before": values.not_before,
                "expires": values.expires,
                "measurements": {str(kind): dict(each) for kind, each in values.measurements.items()},
                "digest": values.digest,
                "verified": key is not None,
            }
        )
        return
    signature = "not checked; give --key" if key is None else f"holds under {key}"
    say(f"{path}: version {values.version} of {values.name}, as {values.publisher} says")
    say(f"  signature     {signature}")
    say(f"  issued        {shown(values.issued)}")
    say(f"  counts        {shown(values.not_before)} to {shown(values.expires)}")
    say(f"  digest        {values.digest}")
    for kind, each in sorted(values.measurements.items()):
        for measurement, label in sorted(each.items()):
            say(f"  {kind:<13} {measurement}  {label}")


def run_publish(path: Path, home: Path | None, config: Path | None, *, json_output: bool) -> None:
    """Take signed measurements into the key broker's store."""
    from strongroom.broker.publishing import publish

    with open_store(home, config) as store:
        values = publish(store, read(path, MAX_SIGNED))
    if json_output:
        emit({"name": values.name, "version": values.version, "digest": values.digest})
        return
    say(f"The broker takes version {values.version} of {values.name}, {values.digest}")
    say(f"  counts        {shown(values.not_before)} to {shown(values.expires)}")


def _measurements(publication: Publication) -> dict[EvidenceKind, dict[str, str]]:
    found: dict[EvidenceKind, dict[str, str]] = {}
    for text in publication.measurements:
        kind, equals, rest = text.partition("=")
        measurement, _, label = rest.partition(",")
        if not equals or kind not in set(EvidenceKind):
            raise ConfigError(
                OPTION_INVALID, "--measurement", found=text[:80], expected="KIND=MEASUREMENT[,LABEL]"
            )
        labelled = found.setdefault(EvidenceKind(kind), {})
        labelled[measurement] = label or f"{publication.name} {publication.version}"
    return found


def _signed(path: Path) -> SignedReferenceValues:
    return SignedReferenceValues.parse(read(path, MAX_SIGNED))


def _takes_values(policy: Path) -> bool:
    return Policy.load(policy).reference_values is not None
