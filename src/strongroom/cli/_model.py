"""The bodies of `strongroom model import` and `strongroom model seal`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strongroom.cli._output import emit, say, working
from strongroom.cli.errors import FILE_UNREADABLE
from strongroom.errors import ConfigError

if TYPE_CHECKING:
    from strongroom.broker.admin_requests import ModelRequest

MAX_BUNDLE = 8 << 30
REPOSITORY = "default"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a model's owner wants of the broker.

    Attributes:
        resource: The model's name there; by default `default/model/NAME`.
        policy: Text of a policy of its own.
        version_floor: Refuse lower versions from now on.
        approvers: Who can approve a release.
        approvals: How many have to.
    """

    resource: str | None = None
    policy: str | None = None
    version_floor: int = 0
    approvers: tuple[str, ...] = ()
    approvals: int = 0


def run_import(
    path: Path,
    output: Path,
    *,
    name: str,
    version: str,
    labels: Path | None,
    preprocess: str | None,
    softmax: bool,
    max_batch: int | None,
    json_output: bool,
) -> None:
    """Import a model file and write its bundle."""
    from strongroom.models.bundle import read_bundle
    from strongroom.models.importers import import_model
    from strongroom.models.preprocess import parse_preprocess

    with working(f"Importing {path.name} ..."):
        data = import_model(
            path,
            name=name,
            version=version,
            labels=None if labels is None else _read(labels),
            preprocess=None if preprocess is None else parse_preprocess(preprocess),
            softmax=softmax,
            max_batch=max_batch,
        )
    output.write_bytes(data)
    manifest = read_bundle(data).manifest
    facts = {"bundle": str(output), "name": name, "version": version, "manifest": manifest.digest}
    if json_output:
        emit(facts)
    else:
        say(f"Wrote {output}: {name} version {version}, {len(data) / 1e6:.1f} MB, manifest {manifest.digest}")


def run_seal(
    bundle: Path,
    output: Path,
    register: Callable[[ModelRequest], Mapping[str, Any]],
    wishes: Wishes,
    *,
    json_output: bool,
) -> None:
    """Seal a bundle and put its key into a broker's store.

    Args:
        bundle: The bundle.
        output: Where the sealed file goes.
        register: Gives the key to the broker.
        wishes: What its owner wants of the broker.
        json_output: Print JSON.
    """
    from strongroom.broker.admin_requests import ModelRequest
    from strongroom.crypto import agefile
    from strongroom.models.bundle import read_bundle

    data = _read(bundle)
    manifest = read_bundle(data).manifest
    identity = agefile.generate_identity()
    with working(f"Sealing {bundle.name} ..."):
        sealed = agefile.seal(data, agefile.recipient_of(identity))
    # The key comes between writing and naming: it replaces the key of an older file of this name.
    fresh = output.with_name(f"{output.name}.new")
    fresh.write_bytes(sealed)
    try:
        record = register(
            ModelRequest(
                resource=wishes.resource or f"{REPOSITORY}/model/{manifest.name}",
                name=manifest.name,
                version=manifest.version,
                manifest=manifest.digest,
                sealed=hashlib.sha256(sealed).hexdigest(),
                identity=identity,
                policy=wishes.policy,
                version_floor=wishes.version_floor,
                approvers=wishes.approvers,
                approvals=wishes.approvals,
            )
        )
        fresh.replace(output)
    finally:
        fresh.unlink(missing_ok=True)
    facts = {
        "sealed": str(output),
        "name": record["name"],
        "version": record["version"],
        "manifest": record["manifest"],
        "resource": record["resource"],
    }
    if json_output:
        emit(facts)
    else:
        say(
            f"Sealed {output}: {record['name']} version {record['version']}. "
            f"Its key is {record['resource']} in the broker's store, and nowhere else."
        )


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BUNDLE:
            raise ConfigError(
                FILE_UNREADABLE, str(path), found=f"{size} bytes", expected=f"at most {MAX_BUNDLE}"
            )
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(FILE_UNREADABLE, f"{path}: {error.strerror}") from None
