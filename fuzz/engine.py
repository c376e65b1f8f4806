"""One target under atheris, in a process of its own; `fuzz.runner` starts it.

python -m fuzz.engine TARGET FINDINGS STATE LIBFUZZER-ARGUMENT...
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import Final

import atheris

INSTRUMENTED: Final = ["strongroom", "tomllib", "joserfc"]
"""Packages whose branches guide the mutation. Libraries in C and Rust are fuzzed without it."""


def main(arguments: list[str]) -> None:
    """Fuzz until libFuzzer ends the process."""
    name, findings, state, *options = arguments
    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        from fuzz.targets import named

        _import_late_ones()
    from fuzz.watch import Watch, stretched

    watch = Watch(named(name), Path(findings), Path(state))

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        longer = stretched(data, most, seed)
        return atheris.Mutate(data, most) if longer is None else longer

    atheris.Setup([name, *options], watch, custom_mutator=mutate)
    atheris.Fuzz()


def _import_late_ones() -> None:
    """Verifiers are imported at their first use, which would be too late to be instrumented."""
    import strongroom.attestation as layer

    for module in pkgutil.walk_packages(layer.__path__, f"{layer.__name__}."):
        importlib.import_module(module.name)


if __name__ == "__main__":
    main(sys.argv[1:])
