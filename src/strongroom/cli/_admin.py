"""The bodies of `strongroom admin`: requests to the store on this machine, or to a broker elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strongroom.cli._output import emit, say
from strongroom.cli._show import open_store
from strongroom.cli.errors import FILE_UNREADABLE, OPTION_INVALID
from strongroom.errors import ConfigError

if TYPE_CHECKING:
    from strongroom.broker.admin_requests import AnyRequest

_MAX_TEXT = 256 * 1024


@dataclass(frozen=True, slots=True)
class Administration:
    """Where requests go, and as whom.

    Attributes:
        home: State folder with the store, on the broker's machine.
        config: The broker's configuration, on its machine.
        broker: `https://...` of a broker elsewhere; then not the two above.
        ca: Authority of its certificate.
        certificate: One's own certificate.
        key: Its key.
        token: File with a bearer token.
    """

    home: Path | None = None
    config: Path | None = None
    broker: str | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token: Path | None = None

    def perform(self, request: AnyRequest) -> Mapping[str, Any]:
        """Do what the request asks.

        Raises:
            BrokerError: A code of the administration.
            ConfigError: `option-invalid` or `file-unreadable`.
            UnreachableError: `admin-unreachable`.
        """
        if self.broker is not None:
            return self._ask(self.broker, request)
        if any((self.ca, self.certificate, self.key, self.token)):
            raise ConfigError(OPTION_INVALID, "certificates and tokens", expected="--broker https://...")
        from strongroom.broker.admin_requests import perform
        from strongroom.broker.principal import OPERATOR

        with open_store(self.home, self.config) as store:
            return perform(store, request, OPERATOR)

    def _ask(self, url: str, request: AnyRequest) -> Mapping[str, Any]:
        from strongroom.broker.admin_client import AdminClient

        if self.home is not None or self.config is not None:
            raise ConfigError(OPTION_INVALID, "--broker", expected="not with --home or --config")
        token = None if self.token is None else read_text(self.token).strip()
        with AdminClient(url, ca=self.ca, certificate=self.certificate, key=self.key, token=token) as client:
            return client.perform(request)


def read_text(path: Path) -> str:
    """A small text file.

    Raises:
        ConfigError: `file-unreadable`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_TEXT + 1)
        if len(data) > _MAX_TEXT:
            raise ConfigError(FILE_UNREADABLE, str(path), expected=f"at most {_MAX_TEXT} bytes")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(FILE_UNREADABLE, f"{path}: {reason}") from None


def show(answer: Mapping[str, Any], text: str, *, json_output: bool) -> None:
    """Print an answer: as JSON, or as a line for people."""
    emit(answer) if json_output else say(text)


def show_list(answer: Mapping[str, Any], *, json_output: bool) -> None:
    """Print who one is, and what one administers."""
    if json_output:
        emit(answer)
        return
    say(f"You are {answer['you']}.")
    for tenant in answer["tenants"]:
        say(f"Tenant {tenant['name']}")
        for each in tenant["administrators"]:
            say(f"  administrator  {each}")
        for each in answer["services"]:
            if each["tenant"] == tenant["name"]:
                state = "revoked" if each["revoked"] else f"epoch {each['epoch']}"
                say(f"  service  {each['service']}  {state}  {' '.join(each['models'])}")
        for each in answer["models"]:
            if each["resource"].startswith(f"kbs:///{tenant['name']}/"):
                what = "model" if each["resource"].split("/")[4] == "model" else "secret"
                say(f"  {what}  {each['resource']}  version {each['version']}{_conditions(each)}")


def show_statement(answer: Mapping[str, Any], *, json_output: bool) -> None:
    """Print what there is to approve, and who does."""
    if json_output:
        emit(answer)
        return
    for name, value in answer["facts"].items():
        say(f"{name:15} {value or 'none'}")
    say(f"{'digest':15} {answer['digest']}")
    say(f"Approved by {len(answer['approved'])} of {len(answer['approvers'])}; {answer['needed']} needed.")
    for each in answer["approvers"]:
        say(f"  {'approved' if each in answer['approved'] else 'open    '}  {each}")


def _conditions(model: Mapping[str, Any]) -> str:
    parts = []
    if model["approvals"]:
        parts.append(f"{model['approvals']} of {len(model['approvers'])} approvals")
    if model["granted"]:
        parts.append(f"granted to {', '.join(model['granted'])}")
    if model["revoked"]:
        parts.append("revoked")
    return "".join(f"  {part}" for part in parts)
