"""What `strongroom policy` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.attestation.claims import Claims
from strongroom.attestation.composite import verify_composite
from strongroom.attestation.errors import EVIDENCE_UNTRUSTED_ROOT, POLICY_INIT
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.evidence_file import MAX_FILE, EvidenceFile
from strongroom.attestation.policy import Policy
from strongroom.attestation.policy_explain import explain, initial
from strongroom.attestation.roots import TrustRoots
from strongroom.attestation.runtime_data import RuntimeData
from strongroom.cli._evidence import moment, read
from strongroom.cli._output import emit, say
from strongroom.cli._values import load_policies, load_policy
from strongroom.cli.errors import FILE_UNREADABLE, POLICY_CHANGES
from strongroom.errors import ConfigError, EvidenceError, PolicyRefused

MAX_FILES: Final = 10_000
ACCEPTED: Final = "accepted"
_MOST_ROOTS: Final = 4
"""Of a CPU, its GPUs and their reference values, and one to see that it is enough."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """What `init` may accept that weakens a policy."""

    simulated: bool = False
    debug: bool = False
    migration: bool = False
    without_revocation: bool = False
    pin_tpm: bool = False
    statuses: tuple[str, ...] = ()

    def consent(self) -> set[str]:
        """The keys that may be given up."""
        given = {
            "allow_simulated": self.simulated,
            "allow_debug": self.debug,
            "allow_migration": self.migration,
            "require_revocation": self.without_revocation,
        }
        return {key for key, allowed in given.items() if allowed}


def run_init(
    evidence: Sequence[Path], output: Path, *, at: str, permissions: Permissions, json_output: bool
) -> None:
    """Write the strictest policy that accepts pieces of evidence."""
    claims = [_trusted(path, at, permissions) for path in evidence]
    text = initial(claims, consent=permissions.consent(), statuses=permissions.statuses).to_toml()
    policy = Policy.parse(text)
    for each in claims:
        policy.appraise(each, now=min(each.expires - 1, 2**62))
    output.write_bytes(text.encode())
    simulated = any(each.simulated for each in claims)
    if json_output:
        emit({"file": str(output), "digest": policy.digest, "simulated": simulated})
        return
    say(f"{output}: accepts {len(claims)} piece(s) of evidence and nothing else. Read it before you use it.")
    if simulated:
        say("SIMULATED evidence is accepted. It is not protection.")


def run_explain(policy: Path, evidence: Path, *, values: Path | None, at: str, json_output: bool) -> None:
    """Say why a policy accepts or refuses."""
    demanded = load_policy(policy, values)
    file = _read_file(evidence)
    now = _time(file, at)
    try:
        claims = _verify(file, demanded.roots, now)
    except EvidenceError as error:
        _say_unverified(error, json_output=json_output)
        raise
    found = explain(demanded, claims, now=now)
    if json_output:
        emit({"policy": demanded.digest, "evidence": str(evidence), **found.to_json()})
    else:
        for finding in found.findings:
            mark = (
                "holds"
                if not finding.code
                else f"{finding.code}: found {finding.found}, expected {finding.expected}"
            )
            say(f"  {finding.key:<20} {mark}")
        say(
            "It is accepted. It could not do without:"
            if found.accepted
            else "It is refused. All of this must change:"
        )
        for change in found.deciding:
            say(f"  {change.key:<20} {change.value}")
    demanded.appraise(claims, now=now)  # raises what the first check says


def run_diff(
    before: Path, after: Path, folder: Path, *, values: Path | None, at: str, json_output: bool
) -> None:
    """Compare two policies, in words and over a folder of evidence."""
    old, new = load_policies((before, after), values)
    wider, narrower = old.differences(new), new.differences(old)
    verdicts = [
        (path, verdict_of(path, old, at), verdict_of(path, new, at)) for path in evidence_files(folder)
    ]
    changed = [(path, was, now) for path, was, now in verdicts if (was == ACCEPTED) != (now == ACCEPTED)]
    if json_output:
        emit(
            {
                "admits_more": list(wider),
                "admits_less": list(narrower),
                "evidence": len(verdicts),
                "changed": [{"file": str(path), "before": was, "after": now} for path, was, now in changed],
            }
        )
    else:
        for words, title in ((wider, "admits, and"), (narrower, "no longer admits, as")):
            for each in words:
                say(f"{after} {title} {before} does{' not' if words is wider else ''}: {each}")
        for path, was, now in changed:
            say(f"  {path.name}: {was} -> {now}")
        say(f"{len(changed)} of {len(verdicts)} verdicts change.")
    if changed:
        raise PolicyRefused(POLICY_CHANGES, found=f"{len(changed)} of {len(verdicts)}", expected="none")


def verdict_of(path: Path, policy: Policy, at: str) -> str:
    """The code with which evidence is refused, or `accepted`."""
    try:
        file = _read_file(path)
        now = _time(file, at)
        policy.appraise(_verify(file, policy.roots, now), now=now)
    except (EvidenceError, PolicyRefused) as error:
        return error.code
    return ACCEPTED


def evidence_files(folder: Path) -> list[Path]:
    """The evidence files of a folder, by name.

    Raises:
        ConfigError: `file-unreadable`: it cannot be read, has none, or more than `MAX_FILES`.
    """
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except OSError as error:
        raise ConfigError(FILE_UNREADABLE, f"{folder}: {error.strerror}") from None
    if not found or len(found) > MAX_FILES:
        raise ConfigError(
            FILE_UNREADABLE, f"{folder}: evidence files", found=len(found), expected=f"1 to {MAX_FILES}"
        )
    return found


def _trusted(path: Path, at: str, permissions: Permissions) -> Claims:
    """Claims up to a vendor's root; or, where that is permitted, up to roots that come along."""
    file = _read_file(path)
    tpm = file.evidence.kind is EvidenceKind.TPM
    roots: frozenset[str] = frozenset()
    for _ in range(_MOST_ROOTS):
        try:
            trusted = TrustRoots(tpm_keys=roots) if tpm else TrustRoots(simulated=roots)
            return _verify(file, trusted, _time(file, at))
        except EvidenceError as error:
            if error.kind is not EVIDENCE_UNTRUSTED_ROOT or error.found is None:
                raise
            if not (permissions.pin_tpm if tpm else permissions.simulated):
                option = "--pin-tpm" if tpm else "--allow-simulated"
                raise ConfigError(POLICY_INIT, f"{path}: {option}", found=error.found) from error
            roots |= {error.found.removeprefix("sha256:")}
    raise ConfigError(POLICY_INIT, f"{path}: more roots than a CPU and its GPUs have")


def _read_file(path: Path) -> EvidenceFile:
    return EvidenceFile.parse(read(path, MAX_FILE))


def _time(file: EvidenceFile, at: str) -> int:
    return file.collected if at == "collected" else moment(at, "--at")


def _verify(file: EvidenceFile, roots: TrustRoots, now: int) -> Claims:
    bound = None if file.runtime_data is None else RuntimeData.parse(file.runtime_data)
    return verify_composite(file.evidence, bound, roots, now, rims=file.rims)


def _say_unverified(error: EvidenceError, *, json_output: bool) -> None:
    """That no policy decides here; or, for a root of nobody known, only one that pins it."""
    pinned = error.kind is EVIDENCE_UNTRUSTED_ROOT
    if json_output:
        deciding = [{"key": "simulated_roots", "value": f"add {error.found}"}] if pinned else []
        emit({"accepted": False, "checks": [], "deciding": deciding, "code": error.code})
    elif pinned:
        say("It ends in a root that is no vendor's. Only a policy that pins this root would ask further.")
    else:
        say("It does not verify. No policy can accept it.")
