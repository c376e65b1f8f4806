"""Where the commands on evidence find collateral, and what `strongroom evidence fetch` does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from strongroom.attestation.collateral import validity
from strongroom.attestation.collateral.complete import renew_all
from strongroom.attestation.collateral.kds import AMD_KDS
from strongroom.attestation.collateral.pccs import INTEL_PCS
from strongroom.attestation.collateral.source import CollateralSource, open_source
from strongroom.attestation.evidence_file import MAX_FILE, EvidenceFile
from strongroom.cli._evidence import read, shown
from strongroom.cli._output import emit, say
from strongroom.cli.errors import OPTION_INVALID
from strongroom.config import home
from strongroom.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Sources:
    """The options that say where collateral is. None stands for the default."""

    cache: Path | None
    pccs: str | None
    kds: str | None

    def open(self) -> CollateralSource:
        """The folder and the services.

        Raises:
            ConfigError: `collateral-source-invalid`.
        """
        folder = home() / "collateral" if self.cache is None else self.cache
        pccs = INTEL_PCS if self.pccs is None else self.pccs
        return open_source(folder, pccs=pccs, kds=AMD_KDS if self.kds is None else self.kds)

    def only_if(self, fetch: bool) -> Sources | None:  # noqa: FBT001 -- an option, as it was given
        """These where something is fetched; else None, and options for it are refused, not ignored.

        Raises:
            ConfigError: `option-invalid`.
        """
        if fetch:
            return self
        for option, value in (("--cache", self.cache), ("--pccs", self.pccs), ("--kds", self.kds)):
            if value is not None:
                raise ConfigError(OPTION_INVALID, f"{option} has no meaning without --fetch")
        return None


def run_fetch(files: Sequence[Path], sources: Sources, *, json_output: bool) -> None:
    """Fetch what the vendors state for evidence files, and print what there is now."""
    source = sources.open()
    now = int(time.time())
    evidence = [EvidenceFile.parse(read(path, MAX_FILE)).evidence for path in files]
    items = {item: parts for each in evidence for item, parts in renew_all(each, source, now).items()}
    expires = {item: validity.period(parts).expires for item, parts in items.items()}
    if json_output:
        rows = [
            {"item": item.name, "file": str(source.folder.path_of(item)), "expires": expires[item]}
            for item in items
        ]
        emit({"folder": str(source.folder.path), "items": rows})
        return
    number = f"{len(items)} item" + ("" if len(items) == 1 else "s")
    say(f"{source.folder.path}: {number} fetched. Nothing was verified; every appraisal does that.")
    for item in items:
        say(f"  {item.name}  holds until {shown(expires[item])}")
