"""`strongroom broker`, `worker`, `frontend`: they take a configuration, or say what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

PARTS = ("broker", "worker", "frontend")
CONFIG = """
service = "default"
[queue]
url = "unix:///nonexistent/queue.sock"
[broker]
url = "http://127.0.0.1:1"
key = "ed25519+mldsa65:AAAA"
listen = "nowhere"
[frontend]
listen = "127.0.0.1:70000"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "strongroom.toml"
    path.write_text(CONFIG)
    return path


@pytest.mark.parametrize("part", PARTS)
def test_a_configuration_that_is_not_there_is_2(cli, tmp_path: Path, part: str) -> None:
    result = cli(part, "--config", tmp_path / "none.toml")
    assert result.code == 2
    assert "none.toml" in result.err
    assert "code:     config-unreadable" in result.err


@pytest.mark.parametrize("part", PARTS)
def test_a_configuration_with_an_unknown_key_is_2(cli, config: Path, part: str) -> None:
    config.write_text("colour = 1\n" + CONFIG)
    result = cli(part, "--config", config)
    assert result.code == 2
    assert "colour" in result.err
    assert "code:     config-invalid" in result.err


@pytest.mark.parametrize(
    ("part", "wrong"),
    [("broker", "nowhere"), ("frontend", "127.0.0.1:70000"), ("worker", "[worker] is missing")],
)
def test_what_a_part_cannot_use_is_named(cli, config: Path, part: str, wrong: str) -> None:
    result = cli(part, "--config", config)
    assert result.code == 2
    assert wrong in result.err
    assert "code:     config-invalid" in result.err


def test_a_front_end_whose_policy_is_missing_does_not_start(cli, config: Path) -> None:
    config.write_text(
        CONFIG.replace("127.0.0.1:70000", "127.0.0.1:0") + 'policy = "/nonexistent/policy.toml"\n'
    )
    result = cli("frontend", "--config", config)
    assert result.code == 2
    assert "code:     policy-unreadable" in result.err
