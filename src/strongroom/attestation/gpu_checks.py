"""The check of a policy that looks at GPUs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from strongroom.attestation.checks import listed
from strongroom.attestation.claims import Claims
from strongroom.attestation.errors import POLICY_GPU, POLICY_GPU_REFERENCE, POLICY_GPU_VERSION
from strongroom.errors import PolicyRefused

if TYPE_CHECKING:
    from strongroom.attestation.devices import Device


@dataclass(frozen=True, slots=True)
class GpuDemand:
    """What a policy demands of GPUs.

    Attributes:
        min_count: Lowest number of GPUs.
        drivers: Accepted versions of the driver.
        vbioses: Accepted versions of the VBIOS.
        reference_values: Whether the measurements must be shown to be NVIDIA's reference values.
    """

    min_count: int
    drivers: frozenset[str]
    vbioses: frozenset[str]
    reference_values: bool


@dataclass(frozen=True, slots=True)
class GpusAre:
    """The GPUs beside the CPU are as many and as good as the policy demands.

    Attributes:
        demand: None: there must be none.
    """

    demand: GpuDemand | None

    def verify(self, claims: Claims) -> None:
        """Raises `policy-gpu`, `policy-gpu-version` or `policy-gpu-reference`."""
        count = len(claims.devices)
        if self.demand is None:
            if count:
                raise PolicyRefused(POLICY_GPU, found=f"{count} GPUs", expected="none")
            return
        if count < self.demand.min_count:
            raise PolicyRefused(
                POLICY_GPU, found=f"{count} GPUs", expected=f"at least {self.demand.min_count}"
            )
        for device in claims.devices:
            self._verify(device, self.demand)

    def _verify(self, device: Device, demand: GpuDemand) -> None:
        for what, found, accepted in (
            ("driver", device.gpu.driver_version, demand.drivers),
            ("VBIOS", device.gpu.vbios_version, demand.vbioses),
        ):
            if found not in accepted:
                raise PolicyRefused(POLICY_GPU_VERSION, what, found=found, expected=listed(accepted))
        if demand.reference_values and device.differing != ():
            differing = device.differing
            found = "no reference values" if differing is None else f"other measurements {list(differing)}"
            raise PolicyRefused(POLICY_GPU_REFERENCE, found=found)

    def wider(self, other: Self) -> Iterable[str]:
        """What only `other` admits of GPUs."""
        if other.demand is None:
            return ["a guest without GPUs"] if self.demand is not None else []
        if self.demand is None:
            return ["GPUs"]
        own, words = self.demand, []
        if other.demand.min_count < own.min_count:
            words.append(f"a guest with {other.demand.min_count} GPUs")
        words += [f"GPU driver {version}" for version in sorted(other.demand.drivers - own.drivers)]
        words += [f"GPU VBIOS {version}" for version in sorted(other.demand.vbioses - own.vbioses)]
        if own.reference_values and not other.demand.reference_values:
            words.append("GPUs without reference values")
        return words
