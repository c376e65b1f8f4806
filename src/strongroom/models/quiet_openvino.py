"""OpenVINO without the part of it that reports its use. Import it from here, and from nowhere else.

`import openvino` imports its model converter, which writes a client id into the home folder and sends an
event over the network. A worker must do neither, and nothing here needs the converter.

Use `CORE` and make no other: the CPU plug-in (openvino 2026.4) gives the thread that first compiles with a
core a stack for signals, and puts the thread's former one back when that core is freed. Cores that are freed
in another order than they were made leave the thread with a stack that is no longer there, and the next
signal, SIGTERM say, kills the process. `CORE` is never freed.
"""

from __future__ import annotations

import sys
from typing import Final

_CONVERTER: Final = "openvino.tools.ovc"

_absent = _CONVERTER not in sys.modules
if _absent:
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # forbids the import; OpenVINO allows for that

import openvino as ov  # noqa: E402 -- after the ban
from openvino import opset13 as op  # noqa: E402
from openvino.preprocess import ColorFormat, PrePostProcessor  # noqa: E402

if _absent:
    del sys.modules[_CONVERTER]  # who wants the converter may still import it by its name

CORE: Final = ov.Core()
"""The process's only core."""

__all__ = ["CORE", "ColorFormat", "PrePostProcessor", "op", "ov"]
