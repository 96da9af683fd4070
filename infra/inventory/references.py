"""What one table says about another: names that must exist, loops, and rules that no single table can keep.

Everything here reads the document as it was written, so that a mistake in one table hides none in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from infra.inventory.document import ABSENT, Document, Path, listed, look_up, spell_path, walk
from infra.inventory.mistakes import Mistake

NAMED_TABLES = frozenset({"environments", "approvers", "notifications"})

# Shape of a path -> the table of its environment where the name must stand. * is a name, # a place in a list.
OF_ITS_ENVIRONMENT: Mapping[Path, str] = {
    ("environments", "*", "hosts", "*", "service"): "services",
    ("environments", "*", "hosts", "*", "redundancy_group"): "redundancy_groups",
    ("environments", "*", "services", "*", "depends_on", "#"): "services",
    ("environments", "*", "services", "*", "databases", "#"): "databases",
    ("environments", "*", "services", "*", "endpoints", "#", "host"): "hosts",
    ("environments", "*", "databases", "*", "members", "#", "host"): "hosts",
    ("environments", "*", "databases", "*", "pools", "#", "host"): "hosts",
    ("environments", "*", "load_balancers", "*", "host"): "hosts",
    ("environments", "*", "load_balancers", "*", "backends", "*"): "services",
}
JUMPS: frozenset[Path] = frozenset({("defaults", "jump"), ("environments", "*", "hosts", "*", "jump")})
PROBES: Path = ("environments", "*", "services", "*", "endpoints", "#", "probed_from", "#")
ENVIRONMENTS: frozenset[Path] = frozenset({(table, "*", "environments", "#") for table in NAMED_TABLES})


def find_broken_references(document: Document) -> Iterator[Mistake]:
    """Every name that stands for something which is not in the file, or not in the same environment."""
    environments = tables(document, ("environments",))
    hosts = {name for environment in environments for name in tables(document, (*_env(environment), "hosts"))}
    for path, value in walk(document):
        shape = _shape(path)
        if not isinstance(value, str):
            continue
        if shape in JUMPS and value and value not in hosts:
            yield Mistake(path, f'a host of this file, or "": {listed(hosts)}')
        elif shape == PROBES and value != "control" and value not in hosts:
            yield Mistake(path, f"control, or a host of this file: {listed(hosts)}")
        elif shape in ENVIRONMENTS and value not in environments:
            yield Mistake(path, f"an environment of this file: {listed(environments)}")
        elif table := OF_ITS_ENVIRONMENT.get(shape):
            names = tables(document, (*_env(path[1]), table))
            if value not in names:
                yield Mistake(path, f"a name in {spell_path((*_env(path[1]), table))}: {listed(names)}")


def find_loops(document: Document) -> Iterator[Mistake]:
    """Hosts that jump through each other, and services that depend on each other, in circles."""
    jumps: dict[str, list[str]] = {}
    places: dict[str, Path] = {}
    default = look_up(document, ("defaults", "jump"))
    for environment in tables(document, ("environments",)):
        for name, host in tables(document, (*_env(environment), "hosts")).items():
            places.setdefault(name, (*_env(environment), "hosts", name, "jump"))
            jump = (
                host.get("jump", default if name != default else ABSENT) if isinstance(host, dict) else ABSENT
            )
            jumps[name] = [jump] if isinstance(jump, str) else []
        services = tables(document, (*_env(environment), "services"))
        needs = {n: s.get("depends_on", []) for n, s in services.items() if isinstance(s, dict)}
        for loop in _loops(
            {n: [x for x in d if isinstance(x, str)] for n, d in needs.items() if isinstance(d, list)}
        ):
            path = (*_env(environment), "services", loop[0], "depends_on")
            yield Mistake(path, "services that do not depend on it", f"a loop, {' -> '.join(loop)}")
    for loop in _loops(jumps):
        yield Mistake(
            places[loop[0]], "a host that is reached without this one", f"a loop, {' -> '.join(loop)}"
        )


def find_broken_rules(document: Document) -> Iterator[Mistake]:
    """What must hold over several keys: unique hosts, safe floors, one primary, ways to reach a host."""
    seen: dict[str, str] = {}
    for environment in tables(document, ("environments",)):
        yield from _broken_floors(document, environment)
        for name, host in tables(document, (*_env(environment), "hosts")).items():
            path = (*_env(environment), "hosts", name)
            if name in seen:
                yield Mistake(path, "a name of its own", f"this host stands in {seen[name]} already")
            seen.setdefault(name, environment)
            if name == "control" and host.get("connection") != "local":
                accepted = 'another name, or connection = "local"; control is where Upkeep runs'
                yield Mistake(path, accepted, "reserved")
            yield from _broken_host(path, host)
        for name, database in tables(document, (*_env(environment), "databases")).items():
            yield from _broken_database((*_env(environment), "databases", name), database)


def _broken_floors(document: Document, environment: str) -> Iterator[Mistake]:
    path = (*_env(environment), "floors", "approvals")
    approvals = look_up(document, path)
    if environment == "production" and approvals in ("unverified", "none"):
        yield Mistake(path, '"required", always, in the environment production')
    elif approvals == "none" and environment != "local":
        yield Mistake(path, '"required" or "unverified"; "none" only in the environment local')


def _broken_host(path: Path, host: Any) -> Iterator[Mistake]:
    if not isinstance(host, dict):
        return
    for key in ("name", "environment"):
        if key in host:
            yield Mistake((*path, key), "nothing: it is said by the table's own name", "not to be repeated")
    if host.get("connection") == "local" and host.get("jump"):
        yield Mistake((*path, "jump"), 'no jump with connection = "local"')


def _broken_database(path: Path, database: Any) -> Iterator[Mistake]:
    members = database.get("members") if isinstance(database, dict) else None
    if not isinstance(members, list) or not members:
        return
    primaries = sum(isinstance(member, dict) and member.get("role") == "primary" for member in members)
    if primaries != 1:
        yield Mistake(
            (*path, "members"), 'exactly one member with role = "primary"', f"{primaries} primaries"
        )


def tables(document: Document, path: Path) -> dict[str, Any]:
    """The tables by name that stand at the path; none where there is something else."""
    found = look_up(document, path)
    return found if isinstance(found, dict) else {}


def _loops(edges: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Each circle once, closed: ``[a, b, a]``; depth first, without recursion, linear in the edges."""
    loops: list[list[str]] = []
    done: set[str] = set()
    for start in edges:
        trail: list[tuple[str, Iterator[str]]] = [] if start in done else [(start, iter(edges[start]))]
        while trail:
            following = next(trail[-1][1], None)
            on_trail = [name for name, _ in trail]
            if following is None:
                done.add(trail.pop()[0])
            elif following in on_trail:
                loops.append([*on_trail[on_trail.index(following) :], following])
            elif following in edges and following not in done:
                trail.append((following, iter(edges[following])))
    return loops


def _env(environment: str | int) -> tuple[str, str]:
    return ("environments", str(environment))


def _shape(path: Path) -> Path:
    """The path with # for places in lists and * for names that the user chose."""

    def is_name(index: int) -> bool:
        in_environment = index == 3 and path[0] == "environments"
        return in_environment or (index == 1 and path[0] in NAMED_TABLES) or path[index - 1] == "backends"

    return tuple(
        "#" if isinstance(step, int) else "*" if index and is_name(index) else step
        for index, step in enumerate(path)
    )
