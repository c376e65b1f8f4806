"""Forms of data from outside: msgspec structs that are ready before two threads use them at once."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

_Form = TypeVar("_Form", bound=Any)


def ready(form: _Form) -> _Form:
    """Have msgspec prepare a form now, while one thread imports its module; for use as a decorator.

    msgspec prepares a form at its first use otherwise. Two threads whose first use is the same moment crash
    the process (seen with 0.22): the second reads what the first has not finished.

    Args:
        form: A struct, or a union of structs; all that it refers to must be defined already.
    """
    msgspec.json.Decoder(form)
    return form
