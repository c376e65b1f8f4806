"""What a worker of this installation may import: the folders, and their measurement."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

from strongroom.attestation.measurement import Measurement, measure


def base_interpreter() -> Path:
    """The program file of the interpreter under a virtual environment, links resolved."""
    return Path(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))


def default_roots() -> tuple[Path, ...]:
    """The folder that holds this package, and the site folders of this environment, each once.

    In an ordinary installation that is one folder; in an editable one the package's source folder comes
    first.
    """
    package = Path(__file__).parents[2]
    sites = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    return tuple({root.resolve(): root for root in (package, *sites)}.values())


def measure_default() -> Measurement:
    """Measure the worker as this installation would start it.

    Raises:
        MeasurementError: Something cannot be measured.
    """
    return measure(base_interpreter(), default_roots())
