"""The graphs of one bundle, compiled for this machine or taken from the cache."""

from __future__ import annotations

from gonogo import runtime
from gonogo.bundle import Bundle
from gonogo.compiled import CompiledCache
from gonogo.config import Settings
from gonogo.runtime import Graph


class BundleGraphs:
    """The compiled graphs of one bundle on one device, by the name of their ``.xml``."""

    def __init__(self, opened: Bundle, machine: Settings) -> None:
        self._opened, self._machine = opened, machine
        self._cache = CompiledCache(folder=machine.cache_dir / "compiled", key_file=machine.key_file)
        self._kept: list[str] = []

    def __call__(self, name: str, precision: runtime.Precision | None = None) -> Graph:
        """Open a graph.

        Args:
            name: Name of its ``.xml``.
            precision: Precision of its arithmetic; defaults to the bundle's.

        Raises:
            BundleError: See `gonogo.runtime.open_graph`.
        """
        place = runtime.Place(
            name=str(self._opened.root.resolve() / name),
            bundle_sha256=self._opened.sha256,
            sealed=lambda: self._opened.graph(name),
            cache=self._cache,
        )
        graph = runtime.open_graph(
            place,
            device=self._machine.device,
            precision=precision or self._opened.manifest.precision,
            threads=self._machine.threads,
        )
        self._kept += [runtime.cache_key(place, self._machine.device)] * graph.kept
        return graph

    def discard_cached(self) -> bool:
        """Discard the graphs that came from the cache, to compile them again; return whether there were any."""
        for key in self._kept:
            self._cache.discard(key)
        found, self._kept = bool(self._kept), []
        return found
