"""The apt repository is one that gpg and dpkg accept, with an old and a new suite."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from infra.lab.roles.archive import PACKAGES, build_archive

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("dpkg-deb", "gpg", "gpgv"))), reason="needs dpkg-deb, gpg and gpgv"
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("a")
    build_archive(directory / "apt", directory / "gnupg")
    return directory / "apt"


def stanzas(archive: Path, suite: str) -> list[dict[str, str]]:
    (index,) = (archive / "dists" / suite / "main").glob("binary-*/Packages")
    entries = index.read_text().split("\n\n")
    return [dict(line.split(": ", 1) for line in entry.splitlines()) for entry in entries if entry]


@pytest.mark.parametrize("suite", ["stable", "new"])
def test_each_suite_is_signed_with_the_key_that_hosts_are_given(
    archive: Path, suite: str, tmp_path: Path
) -> None:
    keyring, key = tmp_path / "keyring.gpg", archive / "archive.asc"
    subprocess.run(["gpg", "--dearmor", "-o", keyring, key], check=True, capture_output=True)
    signed = archive / "dists" / suite / "InRelease"
    assert subprocess.run(["gpgv", "--keyring", keyring, signed], capture_output=True).returncode == 0
    forged = tmp_path / "forged"
    forged.write_text(signed.read_text().replace("Upkeep lab", "Upkeep lap"))
    assert subprocess.run(["gpgv", "--keyring", keyring, forged], capture_output=True).returncode != 0


def test_what_the_index_says_of_a_file_is_true(archive: Path) -> None:
    for entry in stanzas(archive, "stable") + stanzas(archive, "new"):
        content = (archive / entry["Filename"]).read_bytes()
        assert entry["Size"] == str(len(content))
        assert entry["SHA256"] == hashlib.sha256(content).hexdigest()


def test_the_new_suite_updates_everything_that_the_stable_one_has(archive: Path) -> None:
    old = {entry["Package"]: entry["Version"] for entry in stanzas(archive, "stable")}
    new = {entry["Package"]: entry["Version"] for entry in stanzas(archive, "new")}
    assert set(new) == set(old) | {"upkeep-demo-library"}
    assert all(new[name] > version for name, version in old.items())


def test_a_built_package_contains_what_was_described(archive: Path) -> None:
    for package in PACKAGES:
        file = archive / "pool" / package.file_name
        listing = subprocess.run(["dpkg-deb", "-c", file], check=True, capture_output=True, text=True).stdout
        assert all(name in listing for name in package.files)
        assert "root/root" in listing


def test_no_agent_of_gpg_is_left_running(archive: Path) -> None:
    home = archive.parent / "gnupg"
    commands = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
    assert not any(str(home).encode() in command for command in commands)
