"""All targets: what is fuzzed in one process, by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final

from fuzz.target import Target

TARGETS: Final[Mapping[str, tuple[str, ...]]] = {
    "broker": ("kbs", "admin"),
    "codec": ("codec",),
    "collateral": ("collateral",),
    "dcap": ("dcap",),
    "evidence": ("evidence",),
    "gpu": ("gpu",),
    "inference": ("bhttp", "tensors"),
    "keyset": ("keyset",),
    "log": ("log",),
    "model": ("model",),
    "policy": ("policy",),
    "queue": ("queue",),
    "release": ("release",),
    "reports": ("reports",),
    "sealed": ("sealed",),
    "tpm": ("tpm",),
}
"""By name, the modules of this package whose `PARSERS` it has."""


def named(name: str) -> Target:
    """A target by its name. Only its own modules are imported: instrumenting them takes seconds.

    Raises:
        KeyError: There is none.
    """
    modules = [importlib.import_module(f"fuzz.targets.{module}") for module in TARGETS[name]]
    return Target(name, tuple(parser for module in modules for parser in module.PARSERS))
