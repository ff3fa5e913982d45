"""Overlaps: which items wrote the same file while both were at work."""

from __future__ import annotations

from dataclasses import dataclass, field

from .model import NodeId


@dataclass(slots=True)
class Overlaps:
    """Remembers who wrote what, as long as somebody who overlapped may still tell of the same file."""

    remedy: str = "--cwd item"
    """What gives each item a folder of its own."""
    _active: dict[NodeId, set[NodeId]] = field(default_factory=dict)
    """For each item at work, the items that ended while it was."""
    _wrote: dict[NodeId, tuple[str, frozenset[str]]] = field(default_factory=dict)
    """Label and files of ended items that somebody at work overlapped with."""
    _told: set[str] = field(default_factory=set)

    def started(self, node: NodeId) -> None:
        """Learn that an item is at work."""
        self._active[node] = set()

    def finished(self, node: NodeId, label: str, files: tuple[str, ...]) -> list[str]:
        """Learn what an item wrote, and give a warning for each file that another one wrote at the same time.

        Parameters
        ----------
        node : NodeId
            The item that ended.
        label : str
            What people call it.
        files : tuple of str
            Files beside the notebook, relative to its directory.

        Examples
        --------
        >>> overlaps = Overlaps()
        >>> overlaps.started(("a",)), overlaps.started(("b",))
        (None, None)
        >>> overlaps.finished(("a",), "city=Oslo", ("model.pkl",))
        []
        >>> overlaps.finished(("b",), "city=Lima", ("model.pkl",))
        ['city=Oslo and city=Lima both wrote model.pkl: --cwd item gives each its own folder']
        """
        warnings = []
        for other in self._active.pop(node, set()):
            name, theirs = self._wrote[other]
            for file in sorted(theirs.intersection(files) - self._told):
                self._told.add(file)
                warnings.append(f"{name} and {label} both wrote {file}: {self.remedy} gives each its own folder")
        if files and self._active:
            self._wrote[node] = (label, frozenset(files))
            for ended in self._active.values():
                ended.add(node)
        needed = set().union(*self._active.values()) if self._active else set()
        for other in [other for other in self._wrote if other not in needed]:
            del self._wrote[other]
        return warnings
