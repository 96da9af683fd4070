"""A lab claims a network that nobody has, and the last one gives the machine's inotify limit back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra.errors import GateClosed
from infra.lab import cgroups, claims, directory, network
from infra.lab.directory import LabDirectory
from infra.lab.plan import Lab


@dataclass
class Machine:
    """What labs share, without a machine: files for its limit, sets for its routes and control groups."""

    limit: Path
    before: Path
    routes: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    removed_legs: list[int] = field(default_factory=list)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    here = Machine(tmp_path / "max_user_instances", tmp_path / "before")
    here.limit.write_text("128\n")
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("this boot\n")
    for owner, name, value in (
        (directory, "LOCKS", tmp_path / "locks"),
        (claims, "INOTIFY", here.limit),
        (claims, "INOTIFY_BEFORE", here.before),
        (claims, "_BOOT_ID", boot_id),
        (claims, "sh", lambda *_: "".join(f"blackhole 198.18.{net}.0/24\n" for net in here.routes)),
        (cgroups, "create", here.groups.add),
        (cgroups, "clear", here.groups.discard),
        (cgroups, "any_lab", lambda: bool(here.groups)),
        (network, "add_blackhole", lambda lab: here.routes.add(str(lab.octet))),
        (network, "remove_blackhole", lambda lab: here.routes.discard(str(lab.octet))),
        (network, "remove_leg", lambda lab: here.removed_legs.append(lab.octet)),
    ):
        monkeypatch.setattr(owner, name, value)
    return here


def test_each_lab_gets_a_network_that_has_no_route_yet(machine: Machine, tmp_path: Path) -> None:
    machine.routes |= {"77", "79"}
    one, two = LabDirectory(tmp_path / "one"), LabDirectory(tmp_path / "two")
    assert claims.claim(one) == Lab("one", 78)
    assert claims.claim(two) == Lab("two", 80)
    assert two.lab() == Lab("two", 80)
    assert machine.routes == {"77", "78", "79", "80"}


def test_when_every_network_is_taken_nothing_is_claimed(machine: Machine, tmp_path: Path) -> None:
    machine.routes |= {str(octet) for octet in range(256)}
    with pytest.raises(GateClosed, match="take a lab down first"):
        claims.claim(LabDirectory(tmp_path / "one"))
    assert not (tmp_path / "one").exists()
    assert machine.groups == set()


def test_the_search_for_a_network_goes_round(machine: Machine, tmp_path: Path) -> None:
    machine.routes |= {str(octet) for octet in range(77, 256)}
    assert claims.claim(LabDirectory(tmp_path / "one")).octet == 0


def test_the_inotify_limit_is_back_when_the_last_lab_is_down(machine: Machine, tmp_path: Path) -> None:
    one, two = LabDirectory(tmp_path / "one"), LabDirectory(tmp_path / "two")
    claims.claim(one)
    claims.claim(two)
    assert machine.limit.read_text() == str(claims.INOTIFY_WANTED)
    claims.release(one)
    assert machine.limit.read_text() == str(claims.INOTIFY_WANTED)
    claims.release(two)
    assert machine.limit.read_text() == "128"
    assert not machine.before.exists()
    assert machine.routes == set()


def test_a_limit_that_is_high_enough_is_left_alone(machine: Machine, tmp_path: Path) -> None:
    machine.limit.write_text("65536\n")
    claims.claim(LabDirectory(tmp_path / "one"))
    claims.release(LabDirectory(tmp_path / "one"))
    assert machine.limit.read_text() == "65536\n"


def test_a_claim_of_an_earlier_boot_takes_no_network_from_who_has_it_now(
    machine: Machine, tmp_path: Path
) -> None:
    old = LabDirectory(tmp_path / "old")
    claims.claim(old)
    claims._BOOT_ID.write_text("another boot\n")
    claims.release(old)
    assert machine.routes == {"77"}
    assert machine.removed_legs == []


def test_what_has_no_claim_is_released_without_a_complaint(machine: Machine, tmp_path: Path) -> None:
    claims.release(LabDirectory(tmp_path / "never"))
    assert machine.removed_legs == []
