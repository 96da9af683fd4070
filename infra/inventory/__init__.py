"""The estate on paper: one TOML file, validated whole before anything is touched."""

from infra.inventory.load import load_inventory
from infra.inventory.model import (
    Approver,
    Database,
    DnsName,
    Endpoint,
    Environment,
    Floors,
    Host,
    Inventory,
    LoadBalancer,
    Notification,
    RedundancyGroup,
    Service,
    TlsName,
)
from infra.inventory.thresholds import DEFAULTS, Level, Thresholds

__all__ = [
    "DEFAULTS",
    "Approver",
    "Database",
    "DnsName",
    "Endpoint",
    "Environment",
    "Floors",
    "Host",
    "Inventory",
    "Level",
    "LoadBalancer",
    "Notification",
    "RedundancyGroup",
    "Service",
    "Thresholds",
    "TlsName",
    "load_inventory",
]
