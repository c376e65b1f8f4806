"""The bodies of `strongroom model import` and `strongroom model seal`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from strongroom.cli._output import emit, say, working
from strongroom.cli._show import open_store
from strongroom.cli.errors import FILE_UNREADABLE
from strongroom.errors import ConfigError

if TYPE_CHECKING:
    from strongroom.broker.registry import ModelRecord
    from strongroom.models.manifest import Manifest

MAX_BUNDLE = 8 << 30
REPOSITORY = "default"


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
    bundle: Path, output: Path, *, home: Path | None, config: Path | None, json_output: bool
) -> None:
    """Seal a bundle and put its key into the broker's store."""
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
        record = _register(home, config, manifest, hashlib.sha256(sealed).hexdigest(), identity)
        fresh.replace(output)
    finally:
        fresh.unlink(missing_ok=True)
    facts = {
        "sealed": str(output),
        "name": record.name,
        "version": record.version,
        "manifest": record.manifest,
        "resource": record.uri,
    }
    if json_output:
        emit(facts)
    else:
        say(
            f"Sealed {output}: {record.name} version {record.version}. "
            f"Its key is {record.uri} in the broker's store, and nowhere else."
        )


def _register(
    home: Path | None, config: Path | None, manifest: Manifest, sealed_sha256: str, identity: str
) -> ModelRecord:
    from strongroom.broker import admin

    with open_store(home, config) as store:
        return admin.register_model(
            store,
            resource=f"{REPOSITORY}/model/{manifest.name}",
            name=manifest.name,
            version=manifest.version,
            manifest_digest=manifest.digest,
            sealed_sha256=sealed_sha256,
            identity=identity,
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
