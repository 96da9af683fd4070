"""Golden images: one sealed disk per host, all on one btrfs filesystem in a file, cached by their making.

The cache has ``rootfs-KEY.tar.zst`` and ``images-KEY/`` with ``pool.img`` (``golden/HOST.img``, and
``golden/HOST.data.img`` where a host has a data disk) and ``shared/`` (keys and certificates that the images
were made with). A lab copies the pool and clones its hosts' disks from the golden ones by reflink.

Run as ``python -m infra.lab.images DIRECTORY`` in a mount namespace of its own; every step is one line on
stdout.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
import uuid
from pathlib import Path

from infra.errors import UpkeepError
from infra.lab import plan, roles, rootfs
from infra.lab.disks import SUBVOLUMES, clone, format_disk, mount_disk, mount_root
from infra.lab.machine import sh
from infra.lab.plan import HOSTS, LabHost

POOL_SIZE = "64G"
DISK_SIZE = "4G"
DATA_SIZE = "64M"
DATA_INODES = 512
KEPT = 2


def images_key() -> str:
    """What the images are cached under: it changes with the archive, the plan, the roles and this recipe."""
    digest = hashlib.sha256(rootfs.recipe_key(roles.PACKAGES).encode())
    modules = [Path(rootfs.__file__), Path(plan.__file__), Path(__file__)]
    sources = [*modules, *Path(roles.__file__).parent.rglob("*")]
    for source in sorted(s for s in sources if s.is_file() and "__pycache__" not in s.parts):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def images_directory(cache: Path) -> Path:
    """Where the images of the present recipe are, or will be."""
    return cache / f"images-{images_key()}"


def build(directory: Path) -> None:
    """Make archive and images, unless they are there; what another recipe left is thinned out.

    Args:
        directory: as `images_directory` named it.

    A build that was interrupted leaves only directories called ``partial-...``, which the next one removes.
    """
    cache = directory.parent
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if directory.is_dir():
            return
        for stale in cache.glob("partial-*"):
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        archive = cache / f"rootfs-{rootfs.recipe_key(roles.PACKAGES)}.tar.zst"
        if not archive.exists():
            say("installing Debian into a root filesystem (once, about a minute)")
            rootfs.build_archive(archive, roles.PACKAGES)
        partial = cache / f"partial-{directory.name}"
        _build_images(archive, partial)
        partial.rename(directory)
        _thin_out(cache)


def _build_images(archive: Path, directory: Path) -> None:
    """Fill a new directory with ``pool.img`` and ``shared/``."""
    shared, pool = directory / "shared", directory / "pool"
    shared.mkdir(parents=True, mode=0o700)
    pool.mkdir()
    format_disk(directory / "pool.img", POOL_SIZE)
    sh("mount", "-o", "loop,noatime,nobarrier,compress-force=zstd:1", directory / "pool.img", pool)
    golden = pool / "golden"
    golden.mkdir()
    say("unpacking it")
    _build_base(archive, golden / "base.img", directory)
    say("making keys, certificates and packages")
    sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ops@upkeep-lab", "-f", shared / "id_ed25519")
    (shared / "hostkeys").mkdir()
    roles.prepare(shared)
    for host in HOSTS:
        say(f"provisioning {host.name}")
        _build_golden(host, golden, directory, shared)
    (golden / "base.img").unlink()
    sh("fstrim", pool)  # what was cloned and removed would be copied into every lab
    sh("umount", pool, timeout_s=300)
    pool.rmdir()


def _build_base(archive: Path, image: Path, directory: Path) -> None:
    """The disk that all golden ones are cloned from: the archive unpacked, without role, name and keys."""
    top, root = directory / "top", directory / "root"
    format_disk(image, DISK_SIZE)
    device = mount_disk(image, top)
    for subvolume in ("@root", *SUBVOLUMES):
        sh("btrfs", "subvolume", "create", top / subvolume)
    sh("btrfs", "subvolume", "set-default", top / "@root")
    mount_root(device, top, root)
    rootfs.unpack(archive, root)
    rootfs.finish(root)
    _unmount(top, root)


def _build_golden(host: LabHost, golden: Path, directory: Path, shared: Path) -> None:
    """Give one host its name, its keys and its role, and seal its disk."""
    top, root = directory / "top", directory / "root"
    image = golden / f"{host.name}.img"
    clone(golden / "base.img", image)
    mount_root(mount_disk(image, top), top, root)
    (root / "etc/hostname").write_text(f"{host.name}\n", encoding="ascii")
    (root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n", encoding="ascii")
    (root / ".btrfs").mkdir()
    if host.data_image:
        (root / "srv/data").mkdir(parents=True)
        _format_data(golden / f"{host.name}.data.img")
    _install_keys(host, root, shared)
    roles.provision(host, root, shared)
    (root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
    _unmount(top, root)


def _install_keys(host: LabHost, root: Path, shared: Path) -> None:
    """The host's own SSH key, and the one that opens it."""
    private = root / "etc/ssh/ssh_host_ed25519_key"
    sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", private)
    shutil.copy(private.with_suffix(".pub"), shared / "hostkeys" / host.name)
    keys = root / "home/ops/.ssh"
    keys.mkdir(mode=0o700)
    shutil.copy(shared / "id_ed25519.pub", keys / "authorized_keys")
    sh("chroot", root, "chown", "-R", "ops:ops", "/home/ops/.ssh")


def _format_data(image: Path) -> None:
    sh("truncate", "-s", DATA_SIZE, image)
    sh("mkfs.ext4", "-q", "-N", str(DATA_INODES), "-m", "0", image)


def _unmount(top: Path, root: Path) -> None:
    sh("umount", "--recursive", root)
    sh("umount", top)
    root.rmdir()
    top.rmdir()


def _thin_out(cache: Path) -> None:
    """Keep the newest few of each kind: a recipe changes often while it is worked on, and each takes 1 GB."""
    for pattern in ("rootfs-*", "images-*"):
        for old in sorted(cache.glob(pattern), key=lambda p: p.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(old) if old.is_dir() else old.unlink()


def say(step: str) -> None:
    """Report a step to `upkeep lab up`."""
    sys.stdout.write(f"{step}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]))
    except UpkeepError as problem:
        sys.exit(str(problem))
