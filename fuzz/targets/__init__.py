"""All targets, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fuzz.target import Target
from fuzz.targets import (
    admin,
    bhttp,
    codec,
    collateral,
    dcap,
    evidence,
    gpu,
    kbs,
    keyset,
    log,
    model,
    policy,
    queue,
    release,
    reports,
    sealed,
    tensors,
    tpm,
)

TARGETS: Final[Mapping[str, Target]] = {
    module.TARGET.name: module.TARGET
    for module in (
        admin,
        bhttp,
        codec,
        collateral,
        dcap,
        evidence,
        gpu,
        kbs,
        keyset,
        log,
        model,
        policy,
        queue,
        release,
        reports,
        sealed,
        tensors,
        tpm,
    )
}


def named(name: str) -> Target:
    """A target by its name.

    Raises:
        KeyError: There is none.
    """
    return TARGETS[name]
