"""The root command: help, exit codes, the form of errors, and what it loads."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import typer

from strongroom import __version__
from strongroom.cli import _run
from strongroom.errors import registered

HEAVY = {
    "cryptography",
    "dcap_qvl",
    "httpx",
    "joserfc",
    "numpy",
    "openvino",
    "PIL",
    "prometheus_client",
    "pyrage",
    "starlette",
    "uvicorn",
}


def commands(group: typer.Typer, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command that does something."""
    for each in group.registered_commands:
        assert each.callback is not None
        yield (*path, each.name or each.callback.__name__)
    for each_group in group.registered_groups:
        assert each_group.typer_instance is not None
        yield from commands(each_group.typer_instance, (*path, str(each_group.name)))


COMMANDS = sorted(commands(_run.app))


def test_all_commands_of_the_interface_are_there() -> None:
    assert {" ".join(command) for command in COMMANDS} == {
        "admin approve",
        "admin grant",
        "admin list",
        "admin revoke-model",
        "admin revoke-service",
        "admin rotate",
        "admin seal",
        "admin secret",
        "admin service",
        "admin statement",
        "admin tenant",
        "admin withdraw",
        "broker",
        "evidence collect",
        "evidence conformance",
        "evidence fetch",
        "evidence pack",
        "evidence show",
        "evidence token",
        "evidence verify",
        "frontend",
        "keys backup",
        "keys list",
        "keys restore",
        "keys rotate",
        "keys rotate-root",
        "log export",
        "log follow",
        "log key",
        "log keygen",
        "log receipt",
        "log verify",
        "log witness",
        "measure",
        "model import",
        "model seal",
        "policy diff",
        "policy explain",
        "policy init",
        "policy keygen",
        "policy publish",
        "policy sign-values",
        "policy simulate",
        "policy values",
        "predict",
        "tpm accept",
        "tpm answer",
        "tpm challenge",
        "tpm identify",
        "up",
        "verify",
        "worker",
    }


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_has_help_with_an_example(cli, command: tuple[str, ...], option: str) -> None:
    result = cli(*command, option)
    assert result.code == 0
    assert result.err == ""
    assert f"Example: strongroom {' '.join(command)} " in " ".join(result.out.split())


@pytest.mark.parametrize("group", [(), ("tpm",), ("model",), ("keys",), ("log",), ("evidence",), ("policy",)])
def test_groups_list_their_commands(cli, group: tuple[str, ...]) -> None:
    result = cli(*group, "--help")
    assert result.code == 0
    for command in COMMANDS:
        if command[: len(group)] == group:
            assert f"  {command[len(group)]} " in result.out


def test_the_root_names_the_exit_codes(cli) -> None:
    assert "0 fine, 1 failed, 2 usage, 3 refused by a policy, 4 not reachable" in " ".join(
        cli("--help").out.split()
    )


def test_the_version(cli) -> None:
    assert cli("--version") == type(cli("--version"))(0, f"strongroom {__version__}\n", "")


# What it loads.


def loaded(code: str) -> set[str]:
    """Top-level names of the modules that a program has loaded."""
    listing = "import json, sys\njson.dump([n for n, module in sys.modules.items() if module], sys.stderr)"
    program = f"{code}\n{listing}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return {name.partition(".")[0] for name in json.loads(done.stderr)}


def test_help_loads_nothing_heavy() -> None:
    modules = loaded("from strongroom.cli._run import run\nassert run(['--help']) == 0")
    assert modules & HEAVY == set()
    assert "typer" in modules


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_a_command_loads_nothing_heavy(command: tuple[str, ...]) -> None:
    modules = loaded(f"from strongroom.cli._run import run\nassert run({[*command, '--help']}) == 0")
    assert modules & HEAVY == set()


def test_importing_the_package_loads_nothing_heavy() -> None:
    modules = loaded("import strongroom\nassert strongroom.__version__")
    assert modules & (HEAVY | {"typer", "rich", "msgspec"}) == set()


def test_the_client_is_loaded_on_first_use() -> None:
    assert "httpx" in loaded("import strongroom\nassert strongroom.connect")


def test_a_name_that_the_package_does_not_have() -> None:
    import strongroom

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = strongroom.nothing
    assert all(getattr(strongroom, name) is not None for name in strongroom.__all__)


@pytest.mark.slow
def test_help_costs_little_more_than_the_library_of_the_command_line() -> None:
    """In one run, turn by turn: a machine that is slow is slow for both. 0.16 s of 0.10 s when idle."""

    def seconds(*arguments: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-P", *arguments], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started

    rounds = [(seconds("-m", "strongroom", "--help"), seconds("-c", "import typer")) for _ in range(10)]
    ours, bare = (min(column) for column in zip(*rounds, strict=True))
    assert ours <= 4 * bare


# Exit codes and errors.


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["--nothing"],
        ["model"],
        ["model", "nothing"],
        ["predict"],
        ["predict", "cat.jpg"],
        ["predict", "cat.jpg", "--model", "lite0", "--top", "6"],
        ["predict", "cat.jpg", "--model", "lite0", "--timeout", "0"],
        ["verify", "extra"],
        ["verify", "--timeout", "soon"],
        ["up"],
        ["up", "x.sealed", "--port", "0"],
        ["up", "x.sealed", "--broker-port", "65536"],
        ["up", "x.sealed", "--tee", "sev"],
        ["up", "x.sealed", "--workers", "0"],
        ["up", "x.sealed", "--durability", "everysec"],
        ["keys", "rotate", "--grace", "-1"],
        ["model", "import", "x.onnx", "-o", "x.model"],
        ["model", "seal", "x.model"],
        ["broker"],
        ["worker"],
        ["frontend"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2_and_says_where_help_is(cli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Usage: ")
    assert "-h" in result.err
    assert "Traceback" not in result.err


def test_wrong_usage_as_json(cli) -> None:
    result = cli("verify", "--nothing", "--json")
    assert result.code == 2
    assert result.error["code"] == "usage-invalid"
    assert result.error["detail"].startswith("No such option: --nothing")


def test_an_error_for_people_says_what_was_found_and_what_to_do(cli) -> None:
    result = cli("predict", "x", "--model", "m", "--suite", "odd")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines() == [
        "Error: An option has a value that is not known: --suite",
        "  found:    odd",
        "  expected: default, classical",
        "  to do:    Choose one of the values that are named.",
        "  code:     option-invalid",
    ]


def test_an_error_for_machines_is_one_json_document(cli) -> None:
    result = cli("predict", "x", "--model", "m", "--suite", "odd", "--json")
    assert (result.code, result.out) == (2, "")
    assert json.loads(result.err) == {
        "error": {
            "type": "urn:strongroom:error:option-invalid",
            "title": "An option has a value that is not known",
            "status": 400,
            "code": "option-invalid",
            "remedy": "Choose one of the values that are named.",
            "detail": "--suite",
            "found": "odd",
            "expected": "default, classical",
        }
    }


def test_one_run_with_json_does_not_change_the_next(cli) -> None:
    assert cli("verify", "--json").err.startswith("{")
    assert cli("verify").err.startswith("Error: ")


def test_every_exit_code_of_an_error_is_one_of_the_four() -> None:
    assert {kind.exit_code for kind in registered().values()} <= {1, 2, 3, 4}


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell starts its background jobs with interrupts ignored, and all their children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_a_command_with_130(loopback) -> None:
    """A front end that is silent: the command waits until it is interrupted."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        command = [
            sys.executable,
            "-P",
            "-m",
            "strongroom",
            "verify",
            "--url",
            url,
            "--policy",
            loopback.policy,
        ]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
            listener.settimeout(60)
            connection, _ = listener.accept()
            connection.recv(1)
            # Python loses an interrupt that meets it in a destructor; whoever waits then presses it again.
            for _ in range(5):
                running.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.wait(timeout=10)
                    break
            _, err = running.communicate(timeout=1)
            connection.close()
    assert running.returncode == 130
    assert "Traceback" not in err
