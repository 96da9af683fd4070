"""Web hosts: the shop as a systemd unit, started from a release directory."""

from __future__ import annotations

from pathlib import Path

from infra.lab.roles.archive import PACKAGES, SUITES
from infra.lab.roles.credentials import password
from infra.lab.roles.root import Root

RELEASE = "1.0.0"
_APPLICATION = Path(__file__).with_name("application.py")
_UNIT = """\
[Unit]
Description=Shop
After=network.target

[Service]
User=shop
EnvironmentFile=/etc/shop/shop.env
ExecStart=/usr/bin/python3 -B /srv/shop/current/application.py
LogsDirectory=shop
Restart=on-failure
RestartSec=1

[Install]
WantedBy=multi-user.target
"""


def provision_web(root: Root, shared: Path, environment: str) -> None:
    """Install the first release, its configuration and its unit, and the old version of the demo package."""
    root.run("useradd", "--system", "--user-group", "--home-dir", "/srv/shop", "shop")
    release = f"/srv/shop/releases/{RELEASE}"
    root.copy(_APPLICATION, f"{release}/application.py")
    root.write(f"{release}/VERSION", RELEASE + "\n")
    root.at("/srv/shop/current").symlink_to(f"releases/{RELEASE}")
    dsn = f"host=db.{environment}.lab port=6432 dbname=shop user=shop password={password(shared, 'shop')}"
    root.write(
        "/etc/shop/shop.env",
        "SHOP_LISTEN=0.0.0.0:8080\n"
        "SHOP_ACCESS_LOG=/var/log/shop/access.log\n"
        f'SHOP_DATABASE="{dsn} tcp_user_timeout=3000"\n',
        mode=0o640,
    )
    root.write("/etc/systemd/system/shop.service", _UNIT)
    root.enable("shop.service")
    demo = next(p for p in PACKAGES if p.name == "upkeep-demo" and p.suite == SUITES[0])
    root.install(shared / "apt" / "pool" / demo.file_name)
