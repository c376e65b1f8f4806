"""What seeds are made of: the conformance kit, made on the spot, and recorded evidence if it is there."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from strongroom.conformance.case import Case


NOW: Final = 1_800_000_000
"""Unix time at which simulated evidence is made."""

_ROOT: Final = Path(__file__).resolve().parent.parent


@dataclass
class Material:
    """The sources of seeds.

    Attributes:
        testdata: The folder with `vectors`, or None: then there are fewer seeds.
    """

    testdata: Path | None

    @classmethod
    def find(cls) -> Material:
        """The folder that `STRONGROOM_TESTDATA` names, else `../shared`, if it is there."""
        folder = Path(os.environ.get("STRONGROOM_TESTDATA", _ROOT.parent / "shared"))
        return cls(folder if (folder / "vectors").is_dir() else None)

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The whole conformance kit. All evidence in it is simulated."""
        from strongroom.conformance.kit import generate  # for seeds only; targets need none of it

        return tuple(generate(NOW))

    def accepted(self, group: str) -> dict[str, Any]:
        """The members of the case of a group that is accepted."""
        return dict(next(each for each in self.cases if each.name == f"{group}/accepted").members)

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """The members of all cases of a type."""
        return [dict(each.members) for each in self.cases if each.type == kind]

    def files(self, pattern: str) -> list[bytes]:
        """Recorded files below `vectors`, by a pattern; none without the folder."""
        if self.testdata is None:
            return []
        return [path.read_bytes() for path in sorted((self.testdata / "vectors").glob(pattern))]

    def vectors(self, pattern: str) -> list[dict[str, Any]]:
        """Recorded evidence as the JSON objects in which it is kept."""
        return [json.loads(data) for data in self.files(f"evidence/{pattern}")]

    def documented(self, name: str) -> bytes:
        """A test vector of the reference documentation."""
        return (_ROOT / "docs/reference/vectors" / name).read_bytes()
