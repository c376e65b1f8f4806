"""One target under atheris, in a process of its own; `fuzz.runner` starts it.

python -m fuzz.engine TARGET FINDINGS STATE LIBFUZZER-ARGUMENT...
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Final

import atheris

INSTRUMENTED: Final = ["strongroom", "tomllib", "joserfc"]
"""Packages whose branches guide the mutation. Libraries in C and Rust are fuzzed without it."""


LATE: Final = ("azure", "devices", "nitro", "sgx", "snp", "tdx", "tpm_host")
"""Verifiers that are imported at their first use, which would be too late to be instrumented."""


def main(arguments: list[str]) -> None:
    """Fuzz until libFuzzer ends the process."""
    name, findings, state, *options = arguments
    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        from fuzz.targets import named

        target = named(name)
        if "strongroom.attestation.verify" in sys.modules:
            for module in LATE:
                importlib.import_module(f"strongroom.attestation.{module}")
    from fuzz.watch import Watch, stretched

    watch = Watch(target, Path(findings), Path(state))

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        longer = stretched(data, most, seed)
        return atheris.Mutate(data, most) if longer is None else longer

    atheris.Setup([name, *options], watch, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
