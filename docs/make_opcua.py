"""Print what a client finds below ``VisionSystem``; the tree in ``docs/opc-ua.md``."""

from __future__ import annotations

from gonogo.line.opcua.model import FOLDERS, METHODS, RESULT, VARIABLES
from gonogo.line.opcua.vision import ANSWER


def tree() -> str:
    """Return one line for each node: methods with brackets, variables with their data type."""
    lines = {method.path: "()" for method in METHODS}
    lines |= {path: f": {kind}" for path, kind in VARIABLES.items()}
    lines |= dict.fromkeys(FOLDERS, "/")
    lines |= {f"ResultManagement/Results/LatestResult/{each.name}": f": {each.type}" for each in RESULT}
    lines |= {f"Answer/{each.name}": f": {each.type}" for each in ANSWER}
    shown = list[str]()
    known = set[str]()
    for path in sorted(lines):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            outer = "/".join(parts[:depth])
            if outer not in known and outer not in lines:
                shown.append(f"{'  ' * depth}{parts[depth - 1]}")
            known.add(outer)
        shown.append(f"{'  ' * len(parts)}{parts[-1]}{lines[path]}")
    return "\n".join(["VisionSystem", *shown])


if __name__ == "__main__":
    print(tree())  # noqa: T201
