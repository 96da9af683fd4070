"""The lab's signed apt repository: small packages of our own, an old and a new version of each.

Suite ``stable`` has the old versions only, so that a host at rest has no update pending; suite ``new`` has
the new ones, each with something that happens in real updates. Hosts have it as a source, switched off.
"""

from __future__ import annotations

import gzip
import hashlib
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from infra.lab.roles.root import run

SUITES = ("stable", "new")
_SIGNER = "Upkeep lab archive"


@dataclass(frozen=True, slots=True)
class Package:
    """A package to build: `files` by path, maintainer `scripts` by name, and the `suite` that has it."""

    name: str
    version: str
    suite: str
    depends: str = ""
    files: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        return f"{self.name}_{self.version}_all.deb"


def _unit(command: str) -> dict[str, str]:
    text = f"[Unit]\nDescription=Upkeep's demo service\n\n[Service]\nExecStart={command}\n"
    text += "\n[Install]\nWantedBy=multi-user.target\n"
    return {"/lib/systemd/system/upkeep-demo-service.service": text}


_START_UNIT = {
    "postinst": "if [ -d /run/systemd/system ]; then systemctl daemon-reload; systemctl enable --quiet "
    "upkeep-demo-service; systemctl restart upkeep-demo-service; fi",
    "prerm": "if [ -d /run/systemd/system ]; then systemctl disable --quiet --now upkeep-demo-service; fi",
}
_ASK_FOR_REBOOT = (
    "echo '*** System restart required ***' > /run/reboot-required\n"
    "echo upkeep-demo-kernel >> /run/reboot-required.pkgs"
)

PACKAGES = (
    # A conffile that changes, and a new dependency.
    Package("upkeep-demo", "1.0", "stable", files={"/etc/upkeep-demo.conf": "greeting = hello\n"}),
    Package(
        "upkeep-demo",
        "1.1",
        "new",
        depends="upkeep-demo-library (>= 1.1)",
        files={"/etc/upkeep-demo.conf": "greeting = hello\ncolour = blue\n"},
    ),
    Package("upkeep-demo-library", "1.1", "new"),
    # A service that no longer starts.
    Package("upkeep-demo-service", "1.0", "stable", files=_unit("/bin/sleep infinity"), scripts=_START_UNIT),
    Package("upkeep-demo-service", "1.1", "new", files=_unit("/bin/false"), scripts=_START_UNIT),
    # An update that needs a reboot.
    Package("upkeep-demo-kernel", "1.0", "stable"),
    Package("upkeep-demo-kernel", "1.1", "new", scripts={"postinst": _ASK_FOR_REBOOT}),
    # An update whose maintainer script fails.
    Package("upkeep-demo-broken", "1.0", "stable"),
    Package("upkeep-demo-broken", "1.1", "new", scripts={"postinst": "echo 'it does not fit' >&2; exit 1"}),
)


def build_archive(directory: Path, gnupg: Path) -> None:
    """Build all packages and publish both suites.

    Args:
        directory: root of the repository, to be served over HTTP; ``archive.asc`` there is its public key.
        gnupg: GnuPG home to make the signing key in.
    """
    pool = directory / "pool"
    pool.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        build_package(package, pool)
    gnupg.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        _gpg(gnupg, "--passphrase", "", "--quick-generate-key", _SIGNER, "ed25519", "sign", "never")
        (directory / "archive.asc").write_text(_gpg(gnupg, "--armor", "--export", _SIGNER))
        for suite in SUITES:
            publish(suite, directory, gnupg)
    finally:
        run("gpgconf", "--homedir", str(gnupg), "--kill", "gpg-agent")


def build_package(package: Package, pool: Path) -> Path:
    """Build one .deb file into `pool`."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        documented = {f"/usr/share/{package.name}/version": package.version + "\n"}
        for name, text in {**package.files, **documented}.items():
            file = root / name.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        control = root / "DEBIAN"
        control.mkdir()
        (control / "control").write_text(_control(package))
        (control / "conffiles").write_text("".join(f"{n}\n" for n in package.files if n.startswith("/etc/")))
        for name, text in package.scripts.items():
            (control / name).write_text(f"#!/bin/sh\nset -e\n{text}\n")
            (control / name).chmod(0o755)
        root.chmod(0o755)
        run("dpkg-deb", "--root-owner-group", "-Zxz", "--build", scratch, str(pool / package.file_name))
    return pool / package.file_name


def publish(suite: str, directory: Path, gnupg: Path) -> None:
    """Write and sign the indexes of one suite."""
    dists = directory / "dists" / suite
    binary = dists / "main" / f"binary-{_architecture()}"
    binary.mkdir(parents=True, exist_ok=True)
    index = "\n".join(_entry(package, directory) for package in PACKAGES if package.suite == suite)
    (binary / "Packages").write_text(index)
    (binary / "Packages.gz").write_bytes(gzip.compress(index.encode(), mtime=0))
    release = [
        "Origin: Upkeep lab",
        "Label: Upkeep lab",
        f"Suite: {suite}",
        f"Codename: {suite}",
        f"Date: {datetime.now(UTC):%a, %d %b %Y %H:%M:%S} UTC",
        f"Architectures: {_architecture()} all",
        "Components: main",
        "SHA256:",
        *(f" {_sha256(f)} {f.stat().st_size} {f.relative_to(dists)}" for f in sorted(binary.iterdir())),
    ]
    (dists / "Release").write_text("\n".join(release) + "\n")
    (dists / "InRelease").unlink(missing_ok=True)
    _gpg(gnupg, "--clearsign", "--output", str(dists / "InRelease"), str(dists / "Release"))


def _control(package: Package) -> str:
    lines = [
        f"Package: {package.name}",
        f"Version: {package.version}",
        "Architecture: all",
        "Maintainer: Upkeep lab <lab@upkeep.invalid>",
        "Priority: optional",
        "Section: admin",
        *([f"Depends: {package.depends}"] if package.depends else []),
        f"Description: demo package {package.name} of the Upkeep lab",
    ]
    return "\n".join(lines) + "\n"


def _entry(package: Package, directory: Path) -> str:
    file = directory / "pool" / package.file_name
    where = f"Filename: {file.relative_to(directory)}\nSize: {file.stat().st_size}\nSHA256: {_sha256(file)}\n"
    return _control(package) + where


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _architecture() -> str:
    return run("dpkg", "--print-architecture").strip()


def _gpg(home: Path, *arguments: str) -> str:
    quiet = ("--batch", "--yes", "--quiet", "--pinentry-mode", "loopback")
    return run("gpg", "--homedir", str(home), *quiet, *arguments)
