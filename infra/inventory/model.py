"""The inventory's shape. Field descriptions are its reference documentation (`upkeep inventory schema`).

Everything that belongs to an environment stands inside it; host names are unique over the whole file. What a
file says less often than everywhere (user, port, thresholds) is inherited: file, then environment, then host.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic.json_schema import SkipJsonSchema

from infra.errors import BadInventory
from infra.inventory.document import listed
from infra.inventory.thresholds import DEFAULTS, Frozen, Thresholds
from infra.inventory.values import (
    AbsolutePath,
    Address,
    CacheUrl,
    EndpointUrl,
    IpAddress,
    Name,
    PublicKey,
    Regex,
    Resolver,
    SecretName,
    Unit,
)

Status = Annotated[int, Field(ge=100, le=599)]


class Floors(Frozen):
    """The least that a change in this environment must meet; parameters may only tighten it (A10)."""

    approvals: Literal["required", "unverified", "none"] = Field(
        "required",
        description="required: listed approvers prove who they are. unverified: any answer counts, "
        "reports say so; never in production. none: changes need no approval (the environment `local` only).",
    )
    approvers_needed: int = Field(1, ge=1, le=9, description="How many different approvers must approve.")
    proof: Literal["any", "signature"] = Field("any", description="signature: only a signed approval counts.")
    requester_may_approve: bool = Field(False, description="A team of one; reports say so in the first line.")
    window_required: bool = Field(True, description="Changes happen only inside a maintenance window.")
    max_failures: int | None = Field(
        None, ge=0, description="Failed hosts that stop a change; default: rule A7."
    )


class Host(Frozen):
    """One machine."""

    name: SkipJsonSchema[str] = Field(description="The key it stands under.")
    environment: SkipJsonSchema[str] = Field(description="The environment it stands in.")
    address: Address = Field(description="IP address or name to connect to.")
    other_addresses: tuple[Address, ...] = Field(
        (), description="Further addresses that it answers on: a virtual address, a second resolver."
    )
    connection: Literal["ssh", "local"] = Field("ssh", description="local: this very machine, without SSH.")
    port: int = Field(22, ge=1, le=65535)
    user: str | None = Field(None, description="Login; default: ssh_config, then the current user.")
    identity_file: str | None = Field(
        None, description="Private key; default: ssh_config, then the agent's and ~/.ssh's."
    )
    jump: str | None = Field(
        None,
        description='Name of the inventory host to connect through; "": directly, whatever [defaults] says.',
    )
    os: Literal["linux", "windows"] = "linux"
    role: str = Field("", description="What it does in its service: web, lb, primary, replica, cache ...")
    service: str | None = Field(None, description="The service (of the same environment) it belongs to.")
    redundancy_group: str | None = Field(None, description="Hosts that stand in for each other.")
    data_paths: tuple[AbsolutePath, ...] = Field(
        (), description="Directories with data that no rollback may take back."
    )
    critical_units: tuple[Unit, ...] = Field((), description="systemd units that must be active here.")
    ignored_units: tuple[str, ...] = Field(
        (), description="Units whose failure is no finding (shell patterns)."
    )
    ignored_mounts: tuple[str, ...] = Field(
        (), description="Mount points that are not judged (shell patterns)."
    )
    tags: tuple[str, ...] = ()
    thresholds: Thresholds = Field(default_factory=Thresholds)

    @field_validator("jump")
    @classmethod
    def _no_jump(cls, jump: str | None) -> str | None:
        return jump or None


class RedundancyGroup(Frozen):
    """Hosts that stand in for each other."""

    max_unavailable: int = Field(1, ge=1, description="How many of them a change may take out at once.")


class Endpoint(Frozen):
    """Something that answers: ``http://``, ``https://`` or ``tcp://host:port``."""

    url: EndpointUrl = Field(description="http://..., https://... or tcp://host:port")
    address: Address | None = Field(
        None, description="Connect to this address instead of resolving the name."
    )
    expect_status: tuple[Status, ...] = Field(
        (200,), min_length=1, description="HTTP status codes that are good."
    )
    expect_body: Regex | None = Field(None, description="Regular expression that the body must match.")
    expect_headers: Mapping[str, Regex] = Field(
        default_factory=dict, description="Header -> regular expression."
    )
    latency_objective_ms: float | None = Field(
        None, gt=0, description="95 % of answers are no slower than this."
    )
    timeout_s: float = Field(5, gt=0, le=60)
    probed_from: tuple[str, ...] = Field(
        ("control",), description="`control` (where Upkeep runs) or host names."
    )
    host: str | None = Field(
        None, description="The one host behind it; not given: the service's hosts together."
    )
    ca_file: str | None = Field(None, description="PEM file to trust instead of the system's authorities.")


class TlsName(Frozen):
    """A name whose certificate is watched on every address that it resolves to."""

    name: Address
    port: int = Field(443, ge=1, le=65535)
    addresses: tuple[IpAddress, ...] = Field(
        (), description="Default: every address that the name resolves to."
    )
    ca_file: str | None = Field(None, description="PEM file to trust instead of the system's authorities.")


class DnsName(Frozen):
    """A name that must resolve, the same everywhere."""

    name: Address
    type: Literal["A", "AAAA", "CNAME", "MX", "TXT", "NS", "SRV"] = "A"
    expect: tuple[str, ...] = Field((), description="The exact set of answers; not given: any answer.")
    resolvers: tuple[Resolver, ...] = Field((), description="ADDRESS or ADDRESS:PORT; default: the system's.")


class Service(Frozen):
    """What hosts serve together."""

    criticality: Literal["critical", "high", "normal", "low"] = "normal"
    critical_units: Mapping[str, tuple[Unit, ...]] = Field(
        default_factory=dict, description="Role -> systemd units that must be active on its hosts."
    )
    endpoints: tuple[Endpoint, ...] = ()
    tls: tuple[TlsName, ...] = ()
    dns: tuple[DnsName, ...] = ()
    depends_on: tuple[str, ...] = Field((), description="Services of the same environment that it calls.")
    databases: tuple[str, ...] = Field((), description="Databases of the same environment that it uses.")
    caches: tuple[CacheUrl, ...] = Field((), description="Caches, redis://host:port.")
    log_files: tuple[AbsolutePath, ...] = Field((), description="Log files on its hosts.")
    tests: tuple[str, ...] = Field((), description="Automated tests: a command, a URL or a pytest directory.")


class DatabaseMember(Frozen):
    """One instance of a replicated database."""

    host: str
    role: Literal["primary", "standby"]
    dsn_secret: SecretName = Field(description="Name of the secret that holds the DSN; never the DSN itself.")


class Pool(Frozen):
    """A connection pooler in front of a database."""

    host: str
    kind: Literal["pgbouncer"] = "pgbouncer"
    dsn_secret: SecretName = Field(description="Name of the secret that holds the admin console's DSN.")


class Database(Frozen):
    """One PostgreSQL database and its standbys."""

    engine: Literal["postgresql"] = "postgresql"
    members: tuple[DatabaseMember, ...] = Field(min_length=1)
    standbys_expected: int = Field(0, ge=0, description="Standbys that must stream from the primary.")
    max_lag_bytes: int | None = Field(None, ge=0, description="Replication lag that is still good, bytes.")
    max_lag_s: float | None = Field(None, ge=0, description="Replication lag that is still good, seconds.")
    pools: tuple[Pool, ...] = ()
    rpo_objective_s: float | None = Field(None, gt=0, description="Most data that may be lost, seconds.")
    rto_objective_s: float | None = Field(None, gt=0, description="Longest time to recover, seconds.")


class LoadBalancer(Frozen):
    """A HAProxy and the backends that Upkeep may drain."""

    kind: Literal["haproxy"] = "haproxy"
    host: str
    socket: AbsolutePath = Field("/run/haproxy/admin.sock", description="Admin socket on that host.")
    backends: Mapping[str, str] = Field(
        default_factory=dict, description="Backend -> the service it carries."
    )


class Environment(Frozen):
    """Hosts that are changed, approved and watched together."""

    floors: Floors = Field(default_factory=Floors)
    thresholds: Thresholds = Field(default_factory=Thresholds)
    hosts: Mapping[Name, Host] = Field(default_factory=dict)
    redundancy_groups: Mapping[Name, RedundancyGroup] = Field(default_factory=dict)
    services: Mapping[Name, Service] = Field(default_factory=dict)
    databases: Mapping[Name, Database] = Field(default_factory=dict)
    load_balancers: Mapping[Name, LoadBalancer] = Field(default_factory=dict)


class Approver(Frozen):
    """A person who may approve changes."""

    name: str = Field(description="As shown in reports.")
    ssh_public_keys: tuple[PublicKey, ...] = Field(
        (), description="OpenSSH public keys; a signed approval is checked with them."
    )
    environments: tuple[str, ...] = Field((), description="Where they may approve; not given: everywhere.")
    notify_secret: SecretName | None = Field(
        None, description="Secret with the Apprise URL that reaches them."
    )


class Severity(StrEnum):
    """The three routes of F2."""

    NOTIFY = "notify"
    CRITICAL = "critical"
    PAGE = "page"


class Notification(Frozen):
    """Where notices go."""

    url_secrets: tuple[SecretName, ...] = Field(description="Secrets that hold Apprise URLs.", min_length=1)
    severities: tuple[Severity, ...] = tuple(Severity)
    environments: tuple[str, ...] = Field((), description="Not given: all.")


class HostDefaults(Frozen):
    """What a host inherits when it does not say it."""

    port: int | None = Field(None, ge=1, le=65535)
    user: str | None = None
    identity_file: str | None = None
    jump: str | None = None


class Inventory(Frozen):
    """The whole file."""

    version: Literal[1] = Field(1, description="Version of this format.")
    defaults: HostDefaults = Field(default_factory=HostDefaults)
    thresholds: Thresholds = Field(default_factory=Thresholds)
    environments: Mapping[Name, Environment] = Field(min_length=1)
    approvers: Mapping[Name, Approver] = Field(default_factory=dict)
    notifications: Mapping[Name, Notification] = Field(default_factory=dict)

    def fleet(self, environment: str | None = None, hosts: tuple[str, ...] = ()) -> tuple[Host, ...]:
        """The hosts that a run concerns, in the file's order.

        Args:
            environment: None for all of them.
            hosts: names to keep; empty for all.

        Raises:
            BadInventory: the environment or a host is not in the file; the message lists what is.
        """
        if environment is not None and environment not in self.environments:
            raise BadInventory((f"environment = {environment!r}: accepted: {listed(self.environments)}",))
        chosen = self.environments if environment is None else {environment: self.environments[environment]}
        found = {host.name: host for table in chosen.values() for host in table.hosts.values()}
        where = "" if environment is None else f" (environment {environment})"
        missing = tuple(f"host = {n!r}: accepted{where}: {listed(found)}" for n in hosts if n not in found)
        if missing:
            raise BadInventory(missing)
        return tuple(host for host in found.values() if not hosts or host.name in hosts)

    def critical_units(self, host: Host) -> tuple[str, ...]:
        """The host's own critical units and those that its service names for its role, sorted, once each."""
        service = self.environments[host.environment].services.get(host.service or "")
        of_role = service.critical_units.get(host.role, ()) if service else ()
        return tuple(sorted({*host.critical_units, *of_role}))

    def thresholds_for(
        self, host: Host | None, environment: str, override: Thresholds | None = None
    ) -> Thresholds:
        """Every limit: override, host, environment, file, built-in defaults; None is only tls_days."""
        limits = self.environments[environment].thresholds.over(self.thresholds.over(DEFAULTS))
        limits = host.thresholds.over(limits) if host else limits
        return override.over(limits) if override else limits
