"""Change the verifiers and the release decision, one thing at a time, and see whether a test notices.

    python tools/mutation.py [--seed N] [--per-module N] [--jobs N] [--only TEXT] [--results FILE]

Two operators of our own leave out each check, and each call of a function, in every module: does a case exist
in which that check alone refuses? Cosmic Ray's operators change the rest. Of the release decision
(`broker/decision.py`, `broker/consent.py`) all their changes are tried, of each other module a sample that a
seed fixes. A mutant lives in the memory of a process of its own, never in the working tree: the mirrored test
file runs first, then the conformance kit and tests of the whole way, until one fails. What nobody notices is
listed. docs/reference/mutation.md has the last run.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCE: Final = ROOT / "src"
WHOLE: Final = ("strongroom/broker/decision.py", "strongroom/broker/consent.py")
"""Every mutant of these is tried."""

_ATTESTATION: Final = """
    appraisal azure azure_hcl ccel certificates checks composite dcap dcap_form devices evidence
    evidence_file gpu gpu_checks gpu_report gpu_rim initdata keyset nitro policy reader reference_checks
    reference_values roots runtime_data service_evidence sgx snp snp_json snp_report tdx tpm
    tpm_enrolment tpm_forms tpm_host tpm_keys tpm_reader tpm_structures verify
"""
_BROKER: Final = "envelope hpke_release jwe log log_entry onetime receipt release releasing sessions teekey"
SAMPLED: Final = (
    *(f"strongroom/attestation/{name}.py" for name in _ATTESTATION.split()),
    *(f"strongroom/broker/{name}.py" for name in _BROKER.split()),
)
"""Of these a sample."""

LEFT_OUT: Final = (
    "RemoveDecorator",
    "ReplaceUnaryOperator_Delete",
    "_Is_Eq",
    "_Eq_Is",
    "_IsNot_NotEq",
    "_NotEq_IsNot",
)
"""Operators that change nothing that code does, as `is` for `==` between members of an enumeration."""

MARKS: Final = "not slow and not system and not alone"
MORE: Final = {
    "attestation": ("tests/test_bounds.py", "tests/attestation/test_verify.py", "tests/conformance"),
    "broker": ("tests/test_bounds.py", "tests/conformance", "tests/broker/test_kbs.py"),
    "gpu_checks.py": ("tests/attestation/test_checks.py",),
    "gpu_report.py": ("tests/attestation/test_gpu.py",),
    "log_entry.py": ("tests/broker/test_log.py",),
    "onetime.py": ("tests/broker/test_client.py",),
    "policy.py": ("tests/attestation/test_policy_explain.py", "tests/attestation/test_checks.py"),
    "reader.py": ("tests/attestation/test_ccel.py", "tests/attestation/test_tpm.py"),
    "reference_checks.py": ("tests/attestation/test_reference_values.py", "tests/attestation/test_checks.py"),
    "releasing.py": ("tests/broker/test_admin_secrets.py", "tests/broker/test_witnessing.py"),
    "roots.py": ("tests/attestation/test_dcap.py", "tests/attestation/test_snp.py"),
    "sgx.py": ("tests/attestation/test_dcap.py",),
    "snp_report.py": ("tests/attestation/test_snp.py",),
    "tdx.py": ("tests/attestation/test_dcap.py", "tests/attestation/test_ccel.py"),
    "tpm_enrolment.py": ("tests/attestation/test_tpm.py",),
    "tpm_keys.py": ("tests/attestation/test_tpm.py",),
    "tpm_reader.py": ("tests/attestation/test_tpm.py",),
    "tpm_structures.py": ("tests/attestation/test_tpm.py",),
}
"""By layer and by module, tests besides the mirrored file."""

SECONDS: Final = 240
"""For each set of tests; a mutant that takes longer has been noticed."""


Span = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        module: Path below `src`.
        operator: Cosmic Ray's name of the operator.
        occurrence: Which of the places in the module that the operator can change.
        line: Where.
    """

    module: str
    operator: str
    occurrence: int
    line: int

    @property
    def name(self) -> str:
        """What results are kept under."""
        return f"{self.module}:{self.line} {self.operator.partition('/')[2]} {self.occurrence}"


class RemoveCheck:
    """Let a condition that guards a `raise` never hold: then the check is not there."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        """The conditions of `if` and `elif` whose block ends with `raise`."""
        for index in _guards(node):
            yield node.children[index].start_pos, node.children[index].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Put `False` in place of the condition."""
        import parso

        node.children[_guards(node)[index]] = parso.parse(" False")
        return node


class RemoveCall:
    """Leave out a statement that only calls something, as checks in functions of their own are."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        """Statements that are one call."""
        if node.type == "simple_stmt" and node.children[0].type == "atom_expr":
            last = node.children[0].children[-1]
            if last.type == "trailer" and last.children[0].value == "(":
                yield node.start_pos, node.children[0].end_pos

    def mutate(self, node: Any, index: int) -> Any:  # noqa: ARG002 -- there is one place
        """Put `None` in place of the call."""
        import parso

        node.children[0] = parso.parse(f"{node.get_first_leaf().prefix}None")
        return node


OWN: Final = {"own/RemoveCheck": RemoveCheck, "own/RemoveCall": RemoveCall}
"""Our operators; all that they can change is tried, in every module."""


def _guards(node: Any) -> list[int]:
    """Where, among the children of an `if`, conditions are whose block ends with `raise`."""
    if node.type != "if_stmt":
        return []
    return [
        place + 1
        for place, child in enumerate(node.children)
        if getattr(child, "value", "") in {"if", "elif"} and _ends_in_raise(node.children[place + 3])
    ]


def _ends_in_raise(block: Any) -> bool:
    last = block.children[-1] if block.type == "suite" else block
    return last.type == "simple_stmt" and last.get_first_leaf().value == "raise"


def _operator(name: str) -> Any:
    """An operator that can be asked and applied.

    Raises:
        TypeError: It wants to be told which names to change.
    """
    from cosmic_ray.plugins import get_operator

    return OWN[name]() if name in OWN else get_operator(name)()


def mutants_of(module: str, source: str) -> list[Mutant]:
    """All mutants of a module, without those that can change nothing but a text or a type."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import operator_names

    tree, lines = get_ast(source), source.splitlines()
    nodes = list(ast_nodes(tree))
    silent = _silent_lines(source)
    found = []
    for operator_name in (*OWN, *sorted(operator_names())):
        if any(operator_name.endswith(each) or each in operator_name for each in LEFT_OUT):
            continue
        try:
            operator = _operator(operator_name)
        except TypeError:
            continue
        places = [place for node in nodes for place in operator.mutation_positions(node)]
        found += [
            Mutant(module, operator_name, number, line)
            for number, ((line, column), _) in enumerate(places)
            if not any(begin <= (line, column) < end for begin, end in silent)
            and lines[line - 1][column : column + 2] != "*,"  # what divides arguments is no product
        ]
    return sorted(found, key=lambda each: (each.line, each.operator, each.occurrence))


def _silent_lines(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Places of annotations and decorators, and of what an error says beside its code."""
    spans = []
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.expr | None] = []
        if isinstance(node, ast.AnnAssign):
            parts = [node.annotation]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            parts = [node.returns, *(each.annotation for each in arguments), *node.decorator_list]
        elif isinstance(node, ast.ClassDef):
            parts = [*node.decorator_list]
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            parts = [*node.exc.args[1:], *(each.value for each in node.exc.keywords)]
        spans += [
            ((part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0))
            for part in parts
            if part is not None
        ]
    return spans


def mutate(mutant: Mutant, source: str) -> str:
    """The module's text with the change."""
    from cosmic_ray.mutating import mutate_code

    changed: str | None = mutate_code(source, _operator(mutant.operator), mutant.occurrence)
    if changed is None:
        raise ValueError(f"{mutant.name} is not there")
    return changed


def select(modules: Sequence[str], seed: int, per_module: int) -> list[Mutant]:
    """The mutants of these modules to try; the same seed and sources give the same."""
    chosen: list[Mutant] = []
    for module in modules:
        found = mutants_of(module, (SOURCE / module).read_text())
        # A seed for each module: a change in one leaves the others' samples as they are.
        rng = random.Random(f"{seed} {module}")
        own = [each for each in found if each.operator in OWN]
        rest = [each for each in found if each.operator not in OWN]
        some = rest if module in WHOLE else _spread(rest, rng)
        most = len(rest) if module in WHOLE else per_module
        usable = itertools.islice((each for each in some if _compiles(each)), most)
        chosen += sorted([*own, *usable], key=lambda each: (each.line, each.operator, each.occurrence))
    return chosen


def _spread(found: list[Mutant], rng: random.Random) -> Iterator[Mutant]:
    """One line after another, by chance; of each a change by chance. A line with many places counts once."""
    lines: dict[int, list[Mutant]] = {}
    for each in found:
        lines.setdefault(each.line, []).append(each)
    for line in rng.sample(sorted(lines), len(lines)):
        yield rng.choice(lines[line])


def _compiles(mutant: Mutant) -> bool:
    """Whether it is a program: a `*` between arguments is no product."""
    try:
        compile(mutate(mutant, (SOURCE / mutant.module).read_text()), mutant.module, "exec")
    except SyntaxError:
        return False
    return True


def stages(module: str) -> list[list[str]]:
    """The sets of tests that may notice a change, in the order in which they are tried."""
    _, layer, *_, name = Path(module).parts
    found = [f"tests/{layer}/test_{name}", *MORE.get(name, ()), *MORE[layer]]
    return [[each] for each in dict.fromkeys(found) if (ROOT / each).exists()]


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module, with another text."""

    def __init__(self, module: str, source: str) -> None:
        self._name = module.removesuffix(".py").replace("/", ".")
        self._path = str(SOURCE / module)
        self._source = source

    def find_spec(
        self,
        fullname: str,
        path: Any,  # noqa: ARG002
        target: Any = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        source, where = self._source, self._path

        class Loader(importlib.machinery.SourceFileLoader):
            def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
                return compile(source, where, "exec", dont_inherit=True)

        return importlib.util.spec_from_loader(fullname, Loader(fullname, where), origin=where)


def _run(module: str, source: str, tests: Sequence[str]) -> int:
    """In a child process: run tests on a changed module. Returns pytest's exit status."""
    import pytest

    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(quiet, stream)
    sys.meta_path.insert(0, _Finder(module, source))
    options = ["-x", "-q", "-m", MARKS, "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0"]
    return int(pytest.main([*options, *(str(ROOT / each) for each in tests)]))


@dataclass
class _Running:
    """A mutant whose tests run in a child."""

    mutant: Mutant
    source: str
    stages: list[list[str]]
    pid: int = 0
    began: float = 0.0

    def start(self) -> None:
        """Run the next set of tests."""
        tests = self.stages.pop(0)
        sys.stdout.flush()
        self.began = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.setpgid(0, 0)
                status = _run(self.mutant.module, self.source, tests)
            finally:
                os._exit(status)


def try_all(mutants: Sequence[Mutant], jobs: int) -> Iterator[tuple[Mutant, str]]:
    """Each mutant with `killed`, `timeout` or `survived`, as they end."""
    waiting, running = list(mutants), []
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop(0)
            text = (SOURCE / mutant.module).read_text()
            one = _Running(mutant, mutate(mutant, text), stages(mutant.module))
            one.start()
            running.append(one)
        for one in list(running):
            if (outcome := _poll(one)) is not None:
                running.remove(one)
                yield one.mutant, outcome
        time.sleep(0.02)


def _poll(one: _Running) -> str | None:
    """How a mutant has ended; None while it runs."""
    pid, status = os.waitpid(one.pid, os.WNOHANG)
    if pid == 0:
        if time.monotonic() - one.began < SECONDS:
            return None
        os.killpg(one.pid, 9)
        os.waitpid(one.pid, 0)
        return "timeout"
    code = os.waitstatus_to_exitcode(status)
    if code != 0:  # be it that the tests could not even be imported: without the change they can
        return "killed"
    if one.stages:
        one.start()
        return None
    return "survived"


def check_unchanged(modules: Sequence[str]) -> None:
    """Refuse to begin where tests fail without any change.

    Raises:
        RuntimeError: They do.
    """
    for tests in {tuple(each): None for module in modules for each in stages(module)}:
        pid = os.fork()
        if pid == 0:
            module = modules[0]
            os._exit(_run(module, (SOURCE / module).read_text(), tests))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code != 0:
            raise RuntimeError(f"{' '.join(tests)} fails on the code as it is: pytest ended with {code}")


def difference(mutant: Mutant) -> str:
    """The lines that a mutant changes."""
    before = (SOURCE / mutant.module).read_text()
    lines = difflib.unified_diff(before.splitlines(), mutate(mutant, before).splitlines(), n=0, lineterm="")
    return "\n".join(f"    {line}" for line in lines if line[:2] not in {"--", "++", "@@"})


def report(outcomes: dict[str, tuple[Mutant, str]]) -> None:
    """A table by module, and those that nobody has noticed."""
    counts: dict[str, Counter[str]] = {}
    for mutant, outcome in outcomes.values():
        counts.setdefault(mutant.module, Counter())[outcome] += 1
    counts["all"] = sum(counts.values(), Counter())
    print(f"\n{'module':<46}{'mutants':>8}{'killed':>8}{'timeout':>8}{'survived':>9}{'rate':>7}")
    for module, found in counts.items():
        whole = sum(found.values())
        noticed = found["killed"] + found["timeout"]
        print(
            f"{module.removeprefix('strongroom/'):<46}{whole:>8}{found['killed']:>8}{found['timeout']:>8}"
            f"{found['survived']:>9}{noticed / whole:>7.1%}"
        )
    for mutant, outcome in outcomes.values():
        if outcome == "survived":
            print(f"\n{mutant.name}\n{difference(mutant)}")


def main() -> int:
    """Try the mutants. Exit status 1 if fewer than 90 % are noticed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-module", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="modules whose path has this text")
    parser.add_argument("--again", action="store_true", help="try those that survived once more")
    parser.add_argument("--results", type=Path, default=ROOT / ".mutation.json", help="where to go on from")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    for heavy in ("pytest", "numpy", "cryptography.x509", "msgspec", "httpx"):
        importlib.import_module(heavy)  # once, for all children
    modules = [each for each in (*WHOLE, *SAMPLED) if options.only in each]
    chosen = select(modules, options.seed, options.per_module)
    known: dict[str, str] = {}
    if options.results.exists():
        known = json.loads(options.results.read_text())
    if options.again:
        known = {name: outcome for name, outcome in known.items() if outcome != "survived"}
    left = [each for each in chosen if each.name not in known]
    print(f"{len(chosen)} mutants, {len(left)} to try")
    if left:
        check_unchanged(sorted({each.module for each in left}))
    for number, (mutant, outcome) in enumerate(try_all(left, options.jobs), 1):
        known[mutant.name] = outcome
        options.results.write_text(json.dumps(known, indent=0))
        print(f"[{number}/{len(left)}] {outcome:<9} {mutant.name}", flush=True)
    report({each.name: (each, known[each.name]) for each in chosen})
    missed = sum(known[each.name] == "survived" for each in chosen)
    return 0 if missed <= 0.1 * len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
