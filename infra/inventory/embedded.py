"""The inventory that needs no file: this machine, reached without SSH, in the environment `local`."""

from __future__ import annotations

import socket

from infra.inventory.model import Environment, Floors, Host, Inventory


def embedded_inventory() -> Inventory:
    """This machine as the host `localhost`; nothing is assumed that a container might not have."""
    host = Host(name="localhost", environment="local", address=socket.gethostname(), connection="local")
    floors = Floors(approvals="none", window_required=False)
    return Inventory(environments={"local": Environment(floors=floors, hosts={host.name: host})})
