"""An accepted appraisal, from which cases are made by changing one property."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from strongroom.attestation.evidence import Evidence
from strongroom.attestation.policy_text import render_policy
from strongroom.codec import b64
from strongroom.conformance.case import ACCEPTED, Case


@dataclass(frozen=True, slots=True)
class Subject:
    """Evidence with the policy that accepts it.

    Attributes:
        group: First part of the names of its cases.
        evidence: The evidence.
        settings: Of the policy, see `render_policy`.
        at: Unix time of the appraisal.
        report_data: What the evidence must bind, 64 bytes.
        runtime_data: What the report data is made of, with the evidence of devices in it.
        rims: Reference values of devices.
        values: A publisher's signed reference values, the file's bytes; empty: none.
    """

    group: str
    evidence: Evidence
    settings: Mapping[str, Any] = field(repr=False)
    at: int
    report_data: bytes
    runtime_data: bytes | None = None
    rims: tuple[bytes, ...] = ()
    values: bytes = b""

    def accepted(self) -> Case:
        """The case that passes."""
        return self._case("accepted", "nothing", ACCEPTED)

    def case(self, name: str, changes: str, expected: str, **changed: Any) -> Case:
        """A case in which some attributes have other values."""
        return replace(self, **changed)._case(name, changes, expected)

    def policy(self, name: str, changes: str, expected: str, **settings: Any) -> Case:
        """A case in which the policy has other settings."""
        return self.case(name, changes, expected, settings={**self.settings, **settings})

    def quote(self, name: str, changes: str, expected: str, quote: bytes) -> Case:
        """A case with another quote, report or document."""
        return self.case(name, changes, expected, evidence=replace(self.evidence, quote=quote))

    def collateral(self, name: str, changes: str, expected: str, **parts: str | None) -> Case:
        """A case in which parts of the collateral are others, or are not there."""
        found = {**(self.evidence.collateral or {}), **parts}
        left = {part: text for part, text in found.items() if text is not None}
        return self.case(name, changes, expected, evidence=replace(self.evidence, collateral=left))

    def flips(self, places: Iterable[int], expected: str, what: str) -> Iterator[Case]:
        """A case for each of some bytes of the quote, with one bit changed."""
        for place in places:
            quote = bytearray(self.evidence.quote)
            quote[place] ^= 1 << place % 8
            name = f"flip-{what}-{place}"
            yield self.quote(name, f"a bit of byte {place} of the quote, in {what}", expected, bytes(quote))

    def lengths(self, lengths: Iterable[int], expected: str) -> Iterator[Case]:
        """A case for each of some lengths to which the quote is cut or filled up."""
        for length in lengths:
            quote = self.evidence.quote[:length].ljust(length, b"\x01")
            yield self.quote(f"length-{length}", f"the quote has {length} bytes", expected, quote)

    def _case(self, name: str, changes: str, expected: str) -> Case:
        members: dict[str, Any] = {
            "at": self.at,
            "policy": render_policy(**self.settings),
            "evidence": self.evidence.to_json(),
            "report_data": self.report_data.hex(),
        }
        if self.runtime_data is not None:
            members["runtime_data"] = b64.encode_url(self.runtime_data)
        if self.rims:
            members["rims"] = [b64.encode_url(each) for each in self.rims]
        if self.values:
            members["reference_values"] = b64.encode_url(self.values)
        return Case(f"{self.group}/{name}", changes, expected, "appraisal", members)
