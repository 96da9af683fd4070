"""Load balancers: HAProxy with TLS for the shop, and a TCP way to the database's poolers."""

from __future__ import annotations

from pathlib import Path

from infra.lab.plan import HOSTS
from infra.lab.roles.authority import issue
from infra.lab.roles.root import Root

CERTIFICATE = "/etc/haproxy/certs/shop.pem"
_CONFIGURATION = """\
global
    log /dev/log local0 notice
    chroot /var/lib/haproxy
    stats socket /run/haproxy/admin.sock mode 660 level admin
    stats timeout 30s
    server-state-file /var/lib/haproxy/server-state
    user haproxy
    group haproxy
    maxconn 2000
    ssl-default-bind-options ssl-min-ver TLSv1.2

defaults
    log global
    mode http
    option httplog
    option dontlog-normal
    option redispatch
    retries 3
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    timeout check 4s
    load-server-state-from-file global
    default-server init-addr last,libc,none inter 2s fastinter 500ms downinter 1s fall 3 rise 2

frontend shop
    bind :80
    bind :443 ssl crt {certificate} alpn h2,http/1.1
    option forwardfor
    default_backend shop

frontend postgres
    mode tcp
    option tcplog
    bind :5432
    default_backend postgres

frontend metrics
    bind :8404
    http-request use-service prometheus-exporter if {{ path /metrics }}
    http-request return status 404

backend shop
    balance roundrobin
    option httpchk GET /healthz
{web}

backend postgres
    mode tcp
    balance first
    option tcp-check
{database}
"""
# What was set at run time (drained, weights) outlives a reload and a restart in the server state file.
_SAVE_STATE = """\
#!/bin/sh
# Written beside and renamed: a half-written file would lose who is drained.
set -e
state=/var/lib/haproxy/server-state
echo "show servers state" | nc -N -U /run/haproxy/admin.sock > $state.new
mv $state.new $state
"""
_DROP_IN = """\
[Service]
ExecReload=
ExecReload=/usr/sbin/haproxy -Ws -f $CONFIG -c -q $EXTRAOPTS
ExecReload=-/usr/local/sbin/haproxy-save-state
ExecReload=/bin/kill -USR2 $MAINPID
ExecStop=-/usr/local/sbin/haproxy-save-state
"""


def provision_balancer(root: Root, shared: Path, environment: str) -> None:
    """Configure the environment's balancer; the database's standby is a server in maintenance."""
    root.write("/etc/haproxy/haproxy.cfg", haproxy_configuration(environment))
    root.write(CERTIFICATE, issue(shared, f"shop.{environment}.lab").combined, mode=0o600)
    root.write("/usr/local/sbin/haproxy-save-state", _SAVE_STATE, mode=0o755)
    root.write("/etc/systemd/system/haproxy.service.d/server-state.conf", _DROP_IN)
    root.enable("haproxy.service")


def haproxy_configuration(environment: str) -> str:
    """The configuration for the hosts that the plan puts into an environment."""
    web = [h.name for h in HOSTS if h.environment == environment and h.role == "web"]
    database = [h for h in HOSTS if h.environment == environment and h.role in ("primary", "replica")]
    return _CONFIGURATION.format(
        certificate=CERTIFICATE,
        web="\n".join(f"    server {name} {name}:8080 check" for name in web),
        database="\n".join(
            f"    server {h.name} {h.name}:6432 check" + (" disabled" if h.role == "replica" else "")
            for h in database
        ),
    )
