"""A CPU and its GPUs in one verdict: neither can come from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from strongroom.attestation.claims import Anchor, Claims
from strongroom.attestation.composite import add_devices, verify_composite
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.gpu_checks import GpuDemand
from strongroom.attestation.policy import Policy
from strongroom.attestation.policy_text import render_policy
from strongroom.attestation.roots import NVIDIA_ROOT_SHA256, TrustRoots
from strongroom.attestation.runtime_data import RuntimeData
from strongroom.errors import EvidenceError, PolicyRefused
from strongroom_simulator.gpu import DRIVER, VBIOS, GpuPlatform, devices_text
from strongroom_simulator.snp import TCB, Guest, SnpPlatform

pytest.importorskip("lxml.etree")

NOW = 1_800_000_000
ASKED = RuntimeData("bm9uY2U=", {"kty": "EC"})
CodeOf = Callable[..., str | None]


@pytest.fixture(scope="module")
def cpu() -> SnpPlatform:
    return SnpPlatform.create(NOW, b"\x44" * 64, rsa_bits=2048)


@pytest.fixture(scope="module")
def gpu() -> GpuPlatform:
    return GpuPlatform.create(NOW)


@pytest.fixture(scope="module")
def bound(gpu: GpuPlatform) -> RuntimeData:
    """What the CPU binds: the question, and the GPU's answer to it."""
    return replace(
        ASKED, additional_evidence=devices_text([(gpu.report(ASKED.device_nonce()), gpu.chain_pem)])
    )


def _evidence(cpu: SnpPlatform, report_data: bytes) -> Evidence:
    return Evidence(EvidenceKind.SNP, cpu.report(Guest(b"\x11" * 48, report_data)), cpu.collateral())


def _roots(cpu: SnpPlatform, gpu: GpuPlatform) -> TrustRoots:
    return TrustRoots(frozenset({cpu.root_sha256, gpu.root_sha256}))


def test_both_verify_together(cpu: SnpPlatform, gpu: GpuPlatform, bound: RuntimeData) -> None:
    evidence = _evidence(cpu, bound.report_data())
    claims = verify_composite(evidence, bound, _roots(cpu, gpu), NOW, rims=gpu.rims())
    (device,) = claims.devices
    assert device.differing == ()
    assert claims.simulated_roots == {cpu.root_sha256, gpu.root_sha256}
    assert claims.expires <= device.gpu.expires
    assert claims.to_json()["devices"][0]["driver_version"] == DRIVER
    assert verify_composite(evidence, None, _roots(cpu, gpu), NOW).devices == ()


def test_without_devices_the_binding_is_checked_all_the_same(
    cpu: SnpPlatform, gpu: GpuPlatform, code_of: CodeOf
) -> None:
    evidence = _evidence(cpu, ASKED.report_data())
    assert verify_composite(evidence, ASKED, _roots(cpu, gpu), NOW).devices == ()
    other = replace(ASKED, nonce="x")
    assert code_of(verify_composite, evidence, other, _roots(cpu, gpu), NOW) == "evidence-binding"


def test_gpus_that_the_cpu_did_not_bind_are_refused(
    cpu: SnpPlatform, gpu: GpuPlatform, bound: RuntimeData, code_of: CodeOf
) -> None:
    """The GPU's report is good and answers this very question; the CPU knows nothing of it."""
    evidence = _evidence(cpu, ASKED.report_data())
    assert code_of(verify_composite, evidence, bound, _roots(cpu, gpu), NOW) == "evidence-binding"


def test_gpus_of_another_occasion_are_refused(cpu: SnpPlatform, gpu: GpuPlatform, code_of: CodeOf) -> None:
    """The CPU binds a good report that was made for an earlier question."""
    earlier = replace(ASKED, nonce="ZWFybGllcg==")
    old = devices_text([(gpu.report(earlier.device_nonce()), gpu.chain_pem)])
    bound = replace(ASKED, additional_evidence=old)
    evidence = _evidence(cpu, bound.report_data())
    assert code_of(verify_composite, evidence, bound, _roots(cpu, gpu), NOW) == "evidence-nonce"


def test_reference_values_of_nobody_are_refused(
    cpu: SnpPlatform, gpu: GpuPlatform, bound: RuntimeData, code_of: CodeOf
) -> None:
    evidence = _evidence(cpu, bound.report_data())
    rims = GpuPlatform.create(NOW).rims()
    code = code_of(verify_composite, evidence, bound, _roots(cpu, gpu), NOW, rims=rims)
    assert code == "evidence-untrusted-root"


def _claims(cpu: SnpPlatform, gpu: GpuPlatform, bound: RuntimeData, *, rims: bool = True) -> Claims:
    evidence = _evidence(cpu, bound.report_data())
    return verify_composite(evidence, bound, _roots(cpu, gpu), NOW, rims=gpu.rims() if rims else ())


def _policy(cpu: SnpPlatform, *roots: str, demand: GpuDemand | None) -> Policy:
    text = render_policy(
        kinds=[EvidenceKind.SNP],
        measurements={EvidenceKind.SNP: ["11" * 48]},
        tcb_floor={"Milan": dict(TCB)},
        require_revocation=False,
        allow_simulated=True,
        simulated_roots=[cpu.root_sha256, *roots],
        gpu=demand,
    )
    policy = Policy.parse(text)
    assert policy.gpu == demand
    return policy


def _refusal(policy: Policy, claims: Claims) -> str | None:
    try:
        policy.appraise(claims, now=NOW)
    except PolicyRefused as error:
        return error.code
    return None


def test_a_policy_demands_gpus_or_accepts_none(
    cpu: SnpPlatform, gpu: GpuPlatform, bound: RuntimeData
) -> None:
    demand = GpuDemand(1, frozenset({DRIVER}), frozenset({VBIOS}), reference_values=True)
    good = _claims(cpu, gpu, bound)
    alone = replace(good, devices=())
    root = gpu.root_sha256
    assert _refusal(_policy(cpu, root, demand=demand), good) is None
    assert _refusal(_policy(cpu, root, demand=None), alone) is None
    assert _refusal(_policy(cpu, root, demand=None), good) == "policy-gpu"
    assert _refusal(_policy(cpu, root, demand=demand), alone) == "policy-gpu"
    assert _refusal(_policy(cpu, root, demand=replace(demand, min_count=2)), good) == "policy-gpu"
    for changed in (
        replace(demand, drivers=frozenset({"550.90.08"})),
        replace(demand, vbioses=frozenset({"96.00.9F.00.02"})),
    ):
        assert _refusal(_policy(cpu, root, demand=changed), good) == "policy-gpu-version"
    unknown = _claims(cpu, gpu, bound, rims=False)
    assert _refusal(_policy(cpu, root, demand=demand), unknown) == "policy-gpu-reference"
    other = replace(good, devices=(replace(good.devices[0], differing=(2,)),))
    assert _refusal(_policy(cpu, root, demand=demand), other) == "policy-gpu-reference"
    lax = replace(demand, reference_values=False)
    assert _refusal(_policy(cpu, root, demand=lax), unknown) is None


def test_a_simulated_gpu_is_simulated_evidence(
    cpu: SnpPlatform, gpu: GpuPlatform, bound: RuntimeData
) -> None:
    """Even beside a genuine CPU."""
    demand = GpuDemand(1, frozenset({DRIVER}), frozenset({VBIOS}), reference_values=True)
    good = _claims(cpu, gpu, bound)
    assert _refusal(_policy(cpu, demand=demand), good) == "policy-simulated-root"
    genuine = replace(good, anchor=Anchor.AMD)
    assert genuine.simulated
    strict = replace(_policy(cpu, gpu.root_sha256, demand=demand), allow_simulated=False)
    assert _refusal(strict, genuine) == "policy-simulated"
    device = good.devices[0]
    real = replace(device, gpu=replace(device.gpu, root_sha256=NVIDIA_ROOT_SHA256))
    assert _refusal(strict, replace(genuine, devices=(real,))) is None


def test_one_policy_is_wider_than_another() -> None:
    from strongroom.attestation.gpu_checks import GpusAre

    own = GpuDemand(2, frozenset({"1"}), frozenset({"a"}), reference_values=True)
    wide = GpuDemand(1, frozenset({"1", "2"}), frozenset({"a", "b"}), reference_values=False)
    assert list(GpusAre(own).wider(GpusAre(wide))) == [
        "a guest with 1 GPUs",
        "GPU driver 2",
        "GPU VBIOS b",
        "GPUs without reference values",
    ]
    assert list(GpusAre(wide).wider(GpusAre(own))) == []
    assert list(GpusAre(None).wider(GpusAre(own))) == ["GPUs"]
    assert list(GpusAre(own).wider(GpusAre(None))) == ["a guest without GPUs"]
    assert list(GpusAre(None).wider(GpusAre(None))) == []


def test_devices_that_are_not_there_change_nothing(cpu: SnpPlatform, gpu: GpuPlatform) -> None:
    claims = verify_composite(_evidence(cpu, bytes(64)), None, _roots(cpu, gpu), NOW)
    assert add_devices(claims, ASKED, _roots(cpu, gpu), NOW) is claims


def test_a_cpu_that_does_not_verify_is_refused_first(
    cpu: SnpPlatform, gpu: GpuPlatform, bound: RuntimeData
) -> None:
    with pytest.raises(EvidenceError, match="evidence-untrusted-root"):
        verify_composite(_evidence(cpu, bound.report_data()), bound, TrustRoots(), NOW)
