"""`strongroom admin`: tenants, services, models and approvals, on the broker's machine or over TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli._admin import Administration
from strongroom.cli._options import HomeOption, JsonOption, StoreOption

app = typer.Typer(
    help="Administer a key broker: tenants, services, models, secrets, approvals, revocations.",
    no_args_is_help=True,
)

ResourceArgument = Annotated[str, typer.Argument(help="The resource: TENANT/model/TAG, or a secret's.")]
ServiceArgument = Annotated[str, typer.Argument(help="Name of the service.")]
OwnPolicyOption = Annotated[
    Path | None, typer.Option("--policy", help="A policy besides that of the service (TOML).")
]
ApproverOption = Annotated[
    list[str] | None, typer.Option("--approver", help="Who can approve a release; repeatable.")
]
ApprovalsOption = Annotated[int, typer.Option("--approvals", min=0, help="How many of them have to.")]
TenantOption = Annotated[str, typer.Option("--tenant", help="Name of the tenant.")]


@app.callback()
def connection(
    context: typer.Context,
    home: HomeOption = None,
    config: StoreOption = None,
    broker: Annotated[
        str | None,
        typer.Option("--broker", envvar="STRONGROOM_ADMIN", help="Administration of a broker: https://..."),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", envvar="STRONGROOM_ADMIN_CA", help="Authority of its certificate (PEM)."),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", envvar="STRONGROOM_ADMIN_CERTIFICATE", help="Your certificate (PEM)."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", envvar="STRONGROOM_ADMIN_KEY", help="Its key (PEM).")
    ] = None,
    token: Annotated[
        Path | None,
        typer.Option("--token", envvar="STRONGROOM_ADMIN_TOKEN", help="File with a bearer token (OIDC)."),
    ] = None,
) -> None:
    """Where requests go: the store on this machine, as its operator, or a broker elsewhere."""
    context.obj = Administration(home, config, broker, ca, certificate, key, token)


@app.command("list", epilog="Example: strongroom admin list --json")
def list_all(context: typer.Context, json_output: JsonOption = False) -> None:
    """Show who you are for the broker, and what you administer."""
    from strongroom.broker.admin_requests import ListRequest
    from strongroom.cli._admin import show_list

    show_list(context.obj.perform(ListRequest()), json_output=json_output)


@app.command(epilog="Example: strongroom admin tenant bank --administrator oidc:https://login.example#alice")
def tenant(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the tenant.")],
    administrator: Annotated[
        list[str] | None,
        typer.Option("--administrator", help="mtls:SHA256 or oidc:ISSUER#SUBJECT; repeatable."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Make a tenant, or put others in place of its administrators. Only on the broker's machine."""
    from strongroom.broker.admin_requests import TenantRequest
    from strongroom.cli._admin import show

    answer = context.obj.perform(TenantRequest(name, tuple(administrator or ())))
    count = len(answer["administrators"])
    show(answer, f"Tenant {name} has {count} administrators.", json_output=json_output)


@app.command(
    epilog="Example: strongroom admin seal credit.model -o credit.sealed --resource bank/model/credit"
    " --approver mtls:... --approver mtls:... --approvals 2"
)
def seal(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Bundle of `strongroom model import`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Sealed file to write.")],
    resource: Annotated[str, typer.Option("--resource", help="TENANT/model/TAG.")],
    policy: OwnPolicyOption = None,
    version_floor: Annotated[
        int, typer.Option("--version-floor", min=0, help="Refuse lower versions from now on.")
    ] = 0,
    approver: ApproverOption = None,
    approvals: ApprovalsOption = 0,
    json_output: JsonOption = False,
) -> None:
    """Seal a bundle with a fresh key. The key goes to the broker, and nowhere else."""
    from strongroom.cli._admin import read_text
    from strongroom.cli._model import Wishes, run_seal

    text = None if policy is None else read_text(policy)
    wishes = Wishes(resource, text, version_floor, tuple(approver or ()), approvals)
    run_seal(bundle, output, context.obj.perform, wishes, json_output=json_output)


@app.command(
    epilog="Example: strongroom admin secret bank/credential/database --from password.txt"
    " --approver mtls:... --approvals 1"
)
def secret(
    context: typer.Context,
    resource: Annotated[
        str, typer.Argument(help="TENANT/TYPE/TAG, of another type than `model` and `service-key`.")
    ],
    source: Annotated[
        Path, typer.Option("--from", help="File with its bytes, at most 64 KiB; `/dev/stdin` for a pipe.")
    ],
    policy: OwnPolicyOption = None,
    approver: ApproverOption = None,
    approvals: ApprovalsOption = 0,
    json_output: JsonOption = False,
) -> None:
    """Register a secret: attesters of services that have it get its bytes, as a model's key."""
    from strongroom.broker.admin_requests import SecretRequest
    from strongroom.broker.admin_secrets import MAX_SECRET
    from strongroom.cli._admin import read_text, show
    from strongroom.cli._evidence import read
    from strongroom.codec import b64

    text = None if policy is None else read_text(policy)
    content = b64.encode_url(read(source, MAX_SECRET))
    request = SecretRequest(resource, content, text, tuple(approver or ()), approvals)
    answer = context.obj.perform(request)
    show(answer, f"Registered {answer['resource']}.", json_output=json_output)


@app.command(
    epilog="Example: strongroom admin service loans --tenant bank --policy policy.toml"
    ' --model bank/model/credit --custodian "Example Bank"'
)
def service(
    context: typer.Context,
    name: ServiceArgument,
    policy: Annotated[Path, typer.Option("--policy", help="The release policy (TOML).")],
    model: Annotated[
        list[str],
        typer.Option("--model", "--secret", help="Resource of a model or a secret; repeatable."),
    ],
    custodian: Annotated[str, typer.Option("--custodian", help="Who runs the broker, in words for people.")],
    tenant: TenantOption = "default",
    lifetime: Annotated[
        int, typer.Option("--lifetime", min=60, help="Seconds for which a keyset is valid.")
    ] = 30 * 86400,
    grace: Annotated[
        int, typer.Option("--grace", min=0, help="Seconds for which an older epoch is honoured.")
    ] = 3600,
    json_output: JsonOption = False,
) -> None:
    """Register a service or change it. A change of the policy ends its older epochs at once."""
    from strongroom.broker.admin_requests import ServiceRequest
    from strongroom.cli._admin import read_text, show

    request = ServiceRequest(name, read_text(policy), tuple(model), custodian, tenant, lifetime, grace)
    answer = context.obj.perform(request)
    text = f"Service {name} is in epoch {answer['epoch']}. Broker key: {answer['broker_key']}"
    show(answer, text, json_output=json_output)


@app.command(epilog="Example: strongroom admin rotate loans --grace 600")
def rotate(
    context: typer.Context,
    name: ServiceArgument,
    grace: Annotated[
        int | None, typer.Option("--grace", min=0, help="Seconds that older epochs are honoured.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Begin a new epoch of a service."""
    from strongroom.broker.admin_requests import RotateRequest
    from strongroom.cli._admin import show

    answer = context.obj.perform(RotateRequest(name, grace))
    show(answer, f"Service {name} is in epoch {answer['epoch']}.", json_output=json_output)


@app.command(epilog="Example: strongroom admin grant bank/model/credit --tenant hospital")
def grant(
    context: typer.Context,
    resource: ResourceArgument,
    tenant: TenantOption,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Take the grant back.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Let services of another tenant have a model."""
    from strongroom.broker.admin_requests import GrantRequest
    from strongroom.cli._admin import show

    answer = context.obj.perform(GrantRequest(resource, tenant, granted=not withdraw))
    text = f"{resource} is granted to {', '.join(answer['granted']) or 'nobody'}."
    show(answer, text, json_output=json_output)


@app.command(epilog="Example: strongroom admin statement bank/model/credit loans")
def statement(
    context: typer.Context,
    resource: ResourceArgument,
    service: ServiceArgument,
    json_output: JsonOption = False,
) -> None:
    """Show what there is to approve, and who has approved it."""
    from strongroom.broker.admin_requests import StatementRequest
    from strongroom.cli._admin import show_statement

    show_statement(context.obj.perform(StatementRequest(resource, service)), json_output=json_output)


@app.command(
    epilog="Example: strongroom admin approve bank/model/credit loans --statement sha256:... --days 30"
)
def approve(
    context: typer.Context,
    resource: ResourceArgument,
    service: ServiceArgument,
    statement: Annotated[
        str, typer.Option("--statement", help="Digest of the statement that you have read.")
    ],
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="For how long.")] = 90,
    json_output: JsonOption = False,
) -> None:
    """Approve the release of a model's key, as a statement has it. Only its approvers can."""
    from strongroom.broker.admin_requests import ApproveRequest
    from strongroom.cli._admin import show_statement

    answer = context.obj.perform(ApproveRequest(resource, service, statement, days * 86400))
    show_statement(answer, json_output=json_output)


@app.command(epilog="Example: strongroom admin withdraw bank/model/credit loans")
def withdraw(
    context: typer.Context,
    resource: ResourceArgument,
    service: ServiceArgument,
    json_output: JsonOption = False,
) -> None:
    """Take your own approval back."""
    from strongroom.broker.admin_requests import WithdrawRequest
    from strongroom.cli._admin import show_statement

    show_statement(context.obj.perform(WithdrawRequest(resource, service)), json_output=json_output)


@app.command("revoke-model", epilog="Example: strongroom admin revoke-model bank/model/credit")
def revoke_model(context: typer.Context, resource: ResourceArgument, json_output: JsonOption = False) -> None:
    """Never release a model's key again. This is final; workers that have it keep it while they run."""
    from strongroom.broker.admin_requests import RevokeModelRequest
    from strongroom.cli._admin import show

    answer = context.obj.perform(RevokeModelRequest(resource))
    show(answer, f"{resource} is revoked.", json_output=json_output)


@app.command("revoke-service", epilog="Example: strongroom admin revoke-service loans")
def revoke_service(context: typer.Context, name: ServiceArgument, json_output: JsonOption = False) -> None:
    """End a service: its keys are deleted at once. This is final."""
    from strongroom.broker.admin_requests import RevokeServiceRequest
    from strongroom.cli._admin import show

    answer = context.obj.perform(RevokeServiceRequest(name))
    show(answer, f"Service {name} is revoked, and its keys are deleted.", json_output=json_output)
