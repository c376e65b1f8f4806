from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.config import (
    BrokerConfig,
    Config,
    FrontendConfig,
    ModelConfig,
    QueueConfig,
    TlsFiles,
    WorkerConfig,
    home,
    load_config,
    parse_config,
    render_config,
    split_listen,
)
from strongroom.errors import EXIT_USAGE, ConfigError

MINIMAL = """
service = "default"
[queue]
url = "unix:///run/queue.sock"
[broker]
url = "http://127.0.0.1:8471"
key = "ed25519+mldsa65:AAAA"
"""

text = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20)


def test_a_minimal_file_gets_the_documented_defaults() -> None:
    config = parse_config(MINIMAL)
    assert config.queue.max_length == 1024
    assert config.queue.durability == "process"
    assert config.frontend.listen == "127.0.0.1:8470"
    assert config.worker is None


@given(
    service=text,
    path=text,
    resources=st.lists(text, max_size=3),
    tls=st.none() | st.builds(TlsFiles, text, text, text),
    pending=st.integers(0, 2**53),
)
def test_what_is_rendered_reads_back_the_same(
    service: str, path: str, resources: list[str], tls: TlsFiles | None, pending: int
) -> None:
    config = Config(
        service=service,
        queue=QueueConfig(url=path, tls=tls),
        broker=BrokerConfig(url=path, key="ed25519+mldsa65:AAAA"),
        worker=WorkerConfig(
            "sgx",
            path,
            "sha256:0",
            tuple(ModelConfig(path, r) for r in resources) or (ModelConfig("a", "b"),),
        ),
        frontend=FrontendConfig(max_pending=pending),
    )
    assert parse_config(render_config(config)) == config


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t + "\nunknown = 1", "unknown"),
        (lambda t: t.replace('service = "default"', "service = 1"), "service"),
        (lambda t: t.replace("[broker]", "[brokers]"), "broker"),
        (lambda t: t.replace('url = "unix:///run/queue.sock"', ""), "url"),
        (lambda t: t + "[[[", "TOML"),
    ],
)
def test_a_wrong_key_is_named(change, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        parse_config(change(MINIMAL))
    assert caught.value.code == "config-invalid"
    assert caught.value.exit_code == EXIT_USAGE


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml") as caught:
        load_config(tmp_path / "none.toml")
    assert caught.value.code == "config-unreadable"


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    big = tmp_path / "big.toml"
    big.write_bytes(b"#" * (256 * 1024 + 1))
    with pytest.raises(ConfigError, match="262145 bytes"):
        load_config(big)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "strongroom.toml"
    path.write_text(MINIMAL)
    assert load_config(path) == parse_config(MINIMAL)


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        parse_config(MINIMAL).service = "other"  # type: ignore[misc]
    assert msgspec.structs.fields(Config)


@pytest.mark.parametrize(("listen", "want"), [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0))])
def test_listen_addresses_are_split(listen: str, want: tuple[str, int]) -> None:
    assert split_listen(listen) == want


@pytest.mark.parametrize("listen", ["", "localhost", ":80", "host:", "host:65536", "host:-1", "host:8a"])
def test_a_bad_listen_address_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        split_listen(listen)


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRONGROOM_HOME", "/a")
    assert home() == Path("/a")
    monkeypatch.delenv("STRONGROOM_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/b")
    assert home() == Path("/b/strongroom")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/c")
    assert home() == Path("/c/.local/share/strongroom")
