"""docs/reference/configuration.md lists every key of the configuration, with its default."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from strongroom import config
from strongroom.config import parse_config

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "configuration.md"
ROW = re.compile(r"^\| `([a-z_]+)` \| ([a-z]+) \| (needed|`[^`]*`) \| .+ \|$", re.MULTILINE)
TABLES = {
    "Top level": config.Config,
    "`[queue]`": config.QueueConfig,
    "`[queue.tls]`": config.TlsFiles,
    "`[broker]`": config.BrokerConfig,
    "`[[broker.witnesses]]`": config.WitnessConfig,
    "`[broker.root]`": config.RootConfig,
    "`[broker.admin]`": config.AdminConfig,
    "`[[broker.admin.oidc]]`": config.OidcConfig,
    "`[worker]`": config.WorkerConfig,
    "`[[worker.models]]`": config.ModelConfig,
    "`[frontend]`": config.FrontendConfig,
}
STRUCTS = tuple(TABLES.values())


def scalar(field: msgspec.structs.FieldInfo) -> bool:
    """Whether a field is a key of its own table, and not a table itself."""
    return not any(struct.__name__ in str(field.type) for struct in STRUCTS)


@pytest.fixture(scope="module")
def text() -> str:
    return PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("heading", TABLES)
def test_a_table_has_every_key_with_its_default(heading: str, text: str) -> None:
    section = re.split(r"^##+ ", text.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    listed = {name: default.strip("`") for name, _, default in ROW.findall(section)}
    expected = {
        field.name: "needed" if field.required else msgspec.json.encode(field.default).decode()
        for field in msgspec.structs.fields(TABLES[heading])
        if scalar(field)
    }
    assert listed == expected


def test_there_is_no_struct_without_a_section() -> None:
    structs = {
        value
        for value in vars(config).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct)
    }
    assert structs == set(STRUCTS)


def test_the_example_is_a_configuration(text: str) -> None:
    example = re.search(r"<!-- example: configuration -->\n```toml\n(.*?)```", text, re.DOTALL)
    assert example
    parsed = parse_config(example[1])
    assert parsed.queue.tls is not None
    assert parsed.worker is not None
    assert parsed.worker.models[0].resource == "kbs:///default/model/lite0"
