"""The graph of a flow: which step waits for which. Pure; it knows only the names of steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError as _GraphlibCycleError
from graphlib import TopologicalSorter

_NONE: tuple[str, ...] = ()


class Graph:
    """A directed graph of named steps, immutable.

    Args:
        upstreams: For each step, in the order of declaration, the steps that it waits for.

    Attributes:
        upstreams: For each step, the steps that it waits for, each once.
        dependants: For each step that has any, the steps that wait for it, in the order of
            declaration.
    """

    __slots__ = ("dependants", "upstreams")

    def __init__(self, upstreams: Mapping[str, Iterable[str]]) -> None:
        self.upstreams = {
            name: tuple(dict.fromkeys(ups)) if ups else _NONE for name, ups in upstreams.items()
        }
        dependants: dict[str, list[str]] = {}
        for name, ups in self.upstreams.items():
            for upstream in ups:
                dependants.setdefault(upstream, []).append(name)
        self.dependants = {name: tuple(downs) for name, downs in dependants.items()}

    def dependants_of(self, name: str) -> tuple[str, ...]:
        """Return the steps that wait for `name`."""
        return self.dependants.get(name, _NONE)

    def roots(self) -> list[str]:
        """Return the steps that wait for none."""
        return [name for name, ups in self.upstreams.items() if not ups]

    def reach(self, names: Iterable[str]) -> set[str]:
        """Return these steps, and all that wait for one of them, directly or not."""
        reached = dict.fromkeys(names)
        for name in (queue := list(reached)):  # it grows while it is walked
            for dependant in self.dependants_of(name):
                if dependant not in reached:
                    reached[dependant] = None
                    queue.append(dependant)
        return set(reached)

    def before(self, names: Iterable[str]) -> set[str]:
        """Return these steps, and all that one of them waits for, directly or not."""
        found = dict.fromkeys(names)
        for name in (queue := list(found)):  # it grows while it is walked
            for upstream in self.upstreams[name]:
                if upstream not in found:
                    found[upstream] = None
                    queue.append(upstream)
        return set(found)

    def find_cycle(self) -> list[str] | None:
        """Return the names along a cycle, first one repeated at the end, or None if acyclic.

        Each name is an upstream of the next.
        """
        if self._is_acyclic():
            return None
        try:
            TopologicalSorter(self.upstreams).prepare()
        except _GraphlibCycleError as error:
            return list(error.args[1])
        return None

    def _is_acyclic(self) -> bool:
        """Whether all steps can be taken one by one, each after its upstreams.

        `TopologicalSorter` would do, but searches for the cycle at once: 8 % of the time of a flow
        of steps that do nothing.

        Source: A. B. Kahn, "Topological sorting of large networks", 1962.
        """
        waiting = {name: len(ups) for name, ups in self.upstreams.items() if ups}
        free = self.roots()
        for name in free:  # it grows while it is walked
            for dependant in self.dependants_of(name):
                waiting[dependant] -= 1
                if not waiting[dependant]:
                    free.append(dependant)
        return len(free) == len(self.upstreams)

    def differences(self, now: Graph) -> list[str]:
        """Return the differences of the graph `now`, a clause for each step; empty if equal."""
        if self.upstreams == now.upstreams:  # as nearly always, of ten thousand that are recovered
            return []
        told = []
        for name, upstreams in self.upstreams.items():
            if name not in now.upstreams:
                told.append(f"step '{name}' is gone")
                continue
            then, today = set(upstreams), set(now.upstreams[name])
            told += [f"'{name}' no longer waits for '{each}'" for each in sorted(then - today)]
            told += [f"'{name}' now waits for '{each}'" for each in sorted(today - then)]
        return told + [f"step '{name}' is new" for name in now.upstreams if name not in self]

    def __contains__(self, name: object) -> bool:
        """Whether there is a step of this name."""
        return name in self.upstreams

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change whenever a step or an edge does.

        The order of declaration does not matter.
        """
        import hashlib  # noqa: PLC0415 - loads OpenSSL, which few programs need for this alone

        digest = hashlib.sha256()
        for name in sorted(self.upstreams):
            for part in (name, *sorted(self.upstreams[name])):
                encoded = part.encode()
                digest.update(b"%d:%b," % (len(encoded), encoded))
            digest.update(b";")
        return digest.hexdigest()[:16]
