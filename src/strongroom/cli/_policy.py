"""What `strongroom policy` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
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
from strongroom.cli.errors import FILE_UNREADABLE, POLICY_CHANGES, POLICY_UNMET
from strongroom.errors import ConfigError, EvidenceError, PolicyRefused

MAX_FILES: Final = 10_000
_ACCEPTED: Final = "accepted"
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


def run_explain(policy: Path, evidence: Path, *, at: str, json_output: bool) -> None:
    """Say why a policy accepts or refuses."""
    demanded = Policy.load(policy)
    claims = _claims(evidence, demanded.roots, at)
    found = explain(demanded, claims)
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
    if not found.accepted:
        demanded.appraise(claims, now=0)  # raises what the first check says


def run_diff(before: Path, after: Path, folder: Path, *, at: str, json_output: bool) -> None:
    """Compare two policies, in words and over a folder of evidence."""
    old, new = Policy.load(before), Policy.load(after)
    wider, narrower = old.differences(new), new.differences(old)
    verdicts = [(path, _verdict(path, old, at), _verdict(path, new, at)) for path in _files(folder)]
    changed = [(path, was, now) for path, was, now in verdicts if (was == _ACCEPTED) != (now == _ACCEPTED)]
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


def run_simulate(policy: Path, folder: Path, *, expect: str | None, at: str, json_output: bool) -> None:
    """Run a policy over a folder of evidence."""
    demanded = Policy.load(policy)
    verdicts = {path: _verdict(path, demanded, at) for path in _files(folder)}
    counts = Counter(verdicts.values())
    missed = [
        path.name
        for path, verdict in verdicts.items()
        if expect is not None and (verdict == _ACCEPTED) != (expect == "accept")
    ]
    if json_output:
        emit(
            {
                "policy": demanded.digest,
                "counts": dict(sorted(counts.items())),
                "missed": missed,
                "verdicts": {path.name: verdict for path, verdict in verdicts.items()},
            }
        )
    else:
        for verdict, count in sorted(counts.items()):
            say(f"  {count:>6}  {verdict}")
        say(f"{len(verdicts)} pieces of evidence.")
    if missed:
        raise PolicyRefused(
            POLICY_UNMET, ", ".join(missed[:10]), found=f"{len(missed)} others", expected=expect
        )


def _trusted(path: Path, at: str, permissions: Permissions) -> Claims:
    """Claims up to a vendor's root; or, where that is permitted, up to roots that come along."""
    file = _read_file(path)
    tpm = file.evidence.kind is EvidenceKind.TPM
    roots: frozenset[str] = frozenset()
    for _ in range(_MOST_ROOTS):
        try:
            return _verify(file, TrustRoots(tpm_keys=roots) if tpm else TrustRoots(simulated=roots), at)
        except EvidenceError as error:
            if error.kind is not EVIDENCE_UNTRUSTED_ROOT or error.found is None:
                raise
            if not (permissions.pin_tpm if tpm else permissions.simulated):
                option = "--pin-tpm" if tpm else "--allow-simulated"
                raise ConfigError(POLICY_INIT, f"{path}: {option}", found=error.found) from error
            roots |= {error.found.removeprefix("sha256:")}
    raise ConfigError(POLICY_INIT, f"{path}: more roots than a CPU and its GPUs have")


def _claims(path: Path, roots: TrustRoots, at: str) -> Claims:
    return _verify(_read_file(path), roots, at)


def _read_file(path: Path) -> EvidenceFile:
    return EvidenceFile.parse(read(path, MAX_FILE))


def _verify(file: EvidenceFile, roots: TrustRoots, at: str) -> Claims:
    now = file.collected if at == "collected" else moment(at, "--at")
    bound = None if file.runtime_data is None else RuntimeData.parse(file.runtime_data)
    return verify_composite(file.evidence, bound, roots, now, rims=file.rims)


def _verdict(path: Path, policy: Policy, at: str) -> str:
    """The code with which evidence is refused, or `accepted`."""
    try:
        file = _read_file(path)
        now = file.collected if at == "collected" else moment(at, "--at")
        policy.appraise(_verify(file, policy.roots, at), now=now)
    except (EvidenceError, PolicyRefused) as error:
        return error.code
    return _ACCEPTED


def _files(folder: Path) -> Iterator[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except OSError as error:
        raise ConfigError(FILE_UNREADABLE, f"{folder}: {error.strerror}") from None
    if not found or len(found) > MAX_FILES:
        raise ConfigError(
            FILE_UNREADABLE, f"{folder}: evidence files", found=len(found), expected=f"1 to {MAX_FILES}"
        )
    return iter(found)
