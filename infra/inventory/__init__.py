"""The estate on paper: one TOML file, validated whole before anything is touched."""

from infra.inventory.model import (
    Approver,
    Database,
    DnsName,
    Endpoint,
    Environment,
    Floors,
    Host,
    Inventory,
    Level,
    LoadBalancer,
    Notification,
    RedundancyGroup,
    Service,
    Thresholds,
    TlsName,
)
from infra.inventory.load import load_inventory

__all__ = [
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
