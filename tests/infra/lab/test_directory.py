"""A lab's directory knows its name, its claim and who holds it, and says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import GateClosed, LockHeld, ServiceUnavailable
from infra.lab import directory as module
from infra.lab.directory import LabDirectory, locked


def note_holder(directory: LabDirectory, pid: int, later: int = 0) -> None:
    """Write down a process as the holder, as the shell that starts it does."""
    stat = Path("/proc", str(pid), "stat").read_text()
    started = int(stat.rpartition(")")[2].split()[19])
    directory.holder.write_text(f"{pid} {started + later}\n")


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where locks lie, away from those of real labs."""
    monkeypatch.setattr(module, "LOCKS", tmp_path / "locks")
    return tmp_path / "locks"


@pytest.mark.parametrize("name", ["lab", "7", "test-12", "a" * 32])
def test_a_name_that_fits_everywhere_is_taken(name: str) -> None:
    assert LabDirectory.of(name).name == name


@pytest.mark.parametrize("name", ["", "-lab", "Lab", "a/b", "..", "lab\n", "a" * 33])
def test_a_name_that_cannot_be_a_directory_and_a_group_is_refused(name: str) -> None:
    with pytest.raises(GateClosed, match="a lab cannot be called"):
        LabDirectory.of(name)


def test_labs_of_the_same_name_in_different_homes_have_groups_of_their_own() -> None:
    groups = {LabDirectory(Path(home, "lab")).group for home in ("/srv/a", "/srv/b")}
    assert len(groups) == 2
    assert all(group.startswith("lab-") for group in groups)


@pytest.mark.parametrize("content", [None, "", "{"])
def test_without_a_legible_claim_it_says_how_to_start_the_lab(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "lab.json").write_text(content)
    with pytest.raises(ServiceUnavailable, match=f"upkeep lab up --name {tmp_path.name}"):
        LabDirectory(tmp_path).lab()


def test_a_claim_gives_the_lab_its_addresses(tmp_path: Path) -> None:
    (tmp_path / "lab.json").write_text('{"octet": 81, "boot_id": "x"}')
    assert LabDirectory(tmp_path).lab().gateway == "198.18.81.1"


def test_the_holder_is_the_process_that_was_noted_and_not_a_later_one_with_its_pid(tmp_path: Path) -> None:
    directory = LabDirectory(tmp_path)
    assert directory.holder_pid() is None
    note_holder(directory, os.getpid())
    assert directory.holder_pid() == os.getpid()
    note_holder(directory, os.getpid(), later=1)
    assert directory.holder_pid() is None
    directory.holder.write_text("")
    assert directory.holder_pid() is None


def test_a_holder_that_died_holds_nothing_even_before_it_is_collected(tmp_path: Path) -> None:
    directory = LabDirectory(tmp_path)
    with subprocess.Popen(["sleep", "60"]) as child:
        note_holder(directory, child.pid)
        assert directory.holder_pid() == child.pid
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert directory.holder_pid() is None


def test_a_lock_is_refused_while_another_has_it_and_free_afterwards(locks: Path) -> None:
    with locked("one", "the lab 'one'", wait=False):
        with (
            pytest.raises(LockHeld, match="the lab 'one' is being brought up or down"),
            locked("one", "the lab 'one'", wait=False),
        ):
            pytest.fail("two hold one lock")
        with locked("two", "it", wait=False):
            assert sorted(path.name for path in locks.iterdir()) == ["one.lock", "two.lock"]
    with locked("one", "it", wait=False):
        pass


def test_a_lock_ends_with_its_process(locks: Path) -> None:
    script = (
        "import pathlib, sys, time; from infra.lab import directory\n"
        "directory.LOCKS = pathlib.Path(sys.argv[1])\n"
        "with directory.locked('one', 'it', wait=False): print('held', flush=True); time.sleep(60)"
    )
    argv = [sys.executable, "-c", script, str(locks)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(LockHeld), locked("one", "it", wait=False):
            pytest.fail("two hold one lock")
        process.kill()
        process.wait()
        with locked("one", "it", wait=False):
            pass
