"""Database hosts: PostgreSQL behind PgBouncer; a replica is a copy of its primary's cluster that streams.

The cluster of an environment is made once, in whichever of its hosts is provisioned first, and copied to the
others: the same system identifier, so that a replica needs no base backup at its first boot.
"""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

from infra.errors import PermanentError
from infra.lab.plan import HOSTS, LabHost
from infra.lab.roles.credentials import password
from infra.lab.roles.root import Root, run

_CONFIGURATION = """\
listen_addresses = '*'
shared_buffers = 32MB
max_connections = 60
max_wal_size = 256MB
wal_level = replica
wal_log_hints = on            # pg_rewind
wal_keep_size = 64MB
max_slot_wal_keep_size = 512MB
hot_standby = on
password_encryption = scram-sha-256
log_min_duration_statement = 1000
"""
_ACCESS = """\
local  all          postgres                  peer
local  all          all                       scram-sha-256
host   all          all        127.0.0.1/32   scram-sha-256
host   all          all        198.18.0.0/15  scram-sha-256
host   replication  replicator 198.18.0.0/15  scram-sha-256
"""
_POOLER = """\
[databases]
shop = host=/var/run/postgresql port=5432 dbname=shop

[pgbouncer]
logfile = /var/log/postgresql/pgbouncer.log
pidfile = /var/run/postgresql/pgbouncer.pid
listen_addr = *
listen_port = 6432
unix_socket_dir = /var/run/postgresql
auth_type = scram-sha-256
auth_file = /etc/pgbouncer/userlist.txt
admin_users = upkeep
pool_mode = transaction
max_client_conn = 200
default_pool_size = 10
ignore_startup_parameters = extra_float_digits,options
server_connect_timeout = 2
server_login_retry = 1
query_wait_timeout = 5
log_connections = 0
log_disconnections = 0
log_stats = 0
"""
_CONTENT = """\
CREATE ROLE shop LOGIN PASSWORD '{shop}';
CREATE ROLE upkeep LOGIN PASSWORD '{upkeep}' IN ROLE pg_monitor;
CREATE ROLE replicator LOGIN REPLICATION PASSWORD '{replicator}';
CREATE DATABASE shop OWNER shop;
\\connect shop
SET ROLE shop;
CREATE TABLE orders (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item      text NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO orders (item) SELECT 'item ' || n FROM generate_series(1, 500) AS n;
GRANT SELECT ON orders TO upkeep;
RESET ROLE;
ANALYZE orders;
"""
# Started without TCP, and stopped cleanly: what is copied afterwards needs no recovery.
_FILL = """
pg_ctlcluster --skip-systemctl-redirect {major} main start -- -o "-c listen_addresses=''"
runuser -u postgres -- psql --quiet --no-psqlrc --set ON_ERROR_STOP=1
pg_ctlcluster --skip-systemctl-redirect {major} main stop
"""


def provision_database(host: LabHost, root: Root, shared: Path) -> None:
    """Put the environment's cluster into place, as primary or as replica, with a pooler in front."""
    major = major_version(root)
    archive = _cluster(host.environment, major, root, shared)
    _clear(major, root)
    run("tar", "--extract", "--numeric-owner", "--file", str(archive), "--directory", str(root.path))
    if host.role == "replica":
        _follow(host, major, root, shared)
    root.write("/etc/pgbouncer/pgbouncer.ini", _POOLER, mode=0o640, owner="postgres")
    users = "".join(f'"{user}" "{password(shared, user)}"\n' for user in ("shop", "upkeep"))
    root.write("/etc/pgbouncer/userlist.txt", users, mode=0o640, owner="postgres")
    root.enable("postgresql.service", "pgbouncer.service")


def major_version(root: Root) -> str:
    """The PostgreSQL that the root file system has, for example 15.

    Raises:
        PermanentError: it has none, or several.
    """
    found = sorted(p.name for p in root.at("/usr/lib/postgresql").glob("*"))
    if len(found) != 1:
        raise PermanentError(f"{root.path} must have one PostgreSQL, it has {', '.join(found) or 'none'}")
    return found[0]


def slot_name(replica: LabHost) -> str:
    """The replication slot that a replica streams from."""
    return replica.name.replace("-", "_")


def _clear(major: str, root: Root) -> None:
    """Remove the cluster that installing the package made."""
    for directory in (f"/etc/postgresql/{major}/main", f"/var/lib/postgresql/{major}/main"):
        shutil.rmtree(root.at(directory), ignore_errors=True)


def _cluster(environment: str, major: str, root: Root, shared: Path) -> Path:
    """The archive of an environment's cluster; made in `root` when it is not there yet."""
    archive = shared / f"cluster-{environment}.tar"
    with (shared / f"cluster-{environment}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            _clear(major, root)
            _create(environment, major, root, shared)
            half = archive.with_suffix(".half")
            parts = (f"etc/postgresql/{major}/main", f"var/lib/postgresql/{major}/main")
            into = ("--numeric-owner", "--file", str(half), "--directory", str(root.path))
            run("tar", "--create", *into, *parts)
            half.rename(archive)
    return archive


def _create(environment: str, major: str, root: Root, shared: Path) -> None:
    root.run("pg_createcluster", "--locale", "C.UTF-8", major, "main", "--", "--data-checksums")
    etc = f"/etc/postgresql/{major}/main"
    root.write(f"{etc}/conf.d/lab.conf", _CONFIGURATION, mode=0o640, owner="postgres")
    root.write(f"{etc}/pg_hba.conf", _ACCESS, mode=0o640, owner="postgres")
    accounts = {account: password(shared, account) for account in ("shop", "upkeep", "replicator")}
    replicas = [h for h in HOSTS if h.environment == environment and h.role == "replica"]
    slots = "".join(
        f"SELECT FROM pg_create_physical_replication_slot('{slot_name(replica)}', true);\n"
        for replica in replicas
    )
    # A directory of its own: /run is empty here, and the package's tmpfiles make it at boot.
    prepare = "install -d -o postgres -g postgres -m 2775 /run/postgresql"
    script = f"set -e; {prepare}; {_FILL.format(major=major).strip()}"
    root.run("sh", "-c", script, stdin=_CONTENT.format(**accounts) + slots)


def _follow(host: LabHost, major: str, root: Root, shared: Path) -> None:
    """Make the copied cluster a standby of its environment's primary."""
    data = f"/var/lib/postgresql/{major}/main"
    primary = next(h for h in HOSTS if h.environment == host.environment and h.role == "primary")
    root.write(f"{data}/standby.signal", "", mode=0o600, owner="postgres")
    # The copied slots are the primary's: here nobody would ever read from them, and they would keep WAL.
    for slot in root.at(f"{data}/pg_replslot").iterdir():
        shutil.rmtree(slot)
    login = f"user=replicator password={password(shared, 'replicator')}"
    follow = f"host={primary.name} {login} application_name={host.name} connect_timeout=3"
    root.write(
        f"/etc/postgresql/{major}/main/conf.d/replication.conf",
        f"primary_conninfo = '{follow}'\nprimary_slot_name = '{slot_name(host)}'\n",
        mode=0o640,
        owner="postgres",
    )
