"""Size and shape of the package, as JSON: ``python benchmarks/house.py [--list]``.

Counts lines, commands, public names defined in several modules, import circles, the longest import chain and long
functions in `src/gonogo`. ``--list`` lists the names.
"""

from __future__ import annotations

import argparse
import ast
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grimp
import networkx as nx
import typer.main

SOURCE = Path(__file__).resolve().parent.parent / "src" / "gonogo"
PAGES = (".html", ".css", ".js")
LONGEST_LINES = 40
"""Functions with more lines are long; decorators are not counted, docstrings are."""


@dataclass(frozen=True, kw_only=True)
class House:
    """The counts, by name."""

    python_lines: int
    page_lines: int
    commands: tuple[str, ...]
    shared_names: Mapping[str, tuple[str, ...]]
    """Public functions and classes by name, with the modules that define them, where these are two or more."""
    import_circles: tuple[tuple[str, ...], ...]
    longest_import_chain: tuple[str, ...]
    """From the uppermost module to the lowest; imports inside functions and for type checking count as well."""
    long_functions: Mapping[str, int]
    """Lines of each long function, by module and name."""

    def to_json(self) -> dict[str, int]:
        """The figures."""
        return {
            "lines": self.python_lines + self.page_lines,
            "lines_without_pages": self.python_lines,
            "top_level_commands": len(self.commands),
            "public_names_in_several_modules": len(self.shared_names),
            "import_circles": len(self.import_circles),
            "longest_import_chain": len(self.longest_import_chain),
            "functions_over_40_lines": len(self.long_functions),
        }


def measure() -> House:
    """Count everything."""
    modules = {_module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in modules.items()}
    imports = _imports()
    return House(
        python_lines=sum(map(_lines, modules.values())),
        page_lines=sum(_lines(path) for path in SOURCE.rglob("*") if path.suffix in PAGES),
        commands=_commands(),
        shared_names=_shared_names(trees),
        import_circles=_circles(imports),
        longest_import_chain=_longest_chain(imports),
        long_functions=dict(Counter(dict(_long_functions(trees))).most_common()),
    )


def _module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _commands() -> tuple[str, ...]:
    from gonogo.cli import app

    group = typer.main.get_group(app)
    return tuple(sorted(name for name, command in group.commands.items() if not command.hidden))


def _shared_names(trees: Mapping[str, ast.Module]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = defaultdict(list)
    for module, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(module)
    return {name: tuple(places) for name, places in sorted(found.items()) if len(places) > 1}


def _long_functions(trees: Mapping[str, ast.Module]) -> Iterator[tuple[str, int]]:
    for module, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_LINES:
                    yield f"{module}.{node.name}", lines


def _imports() -> nx.DiGraph:
    graph = grimp.build_graph("gonogo", cache_dir=None)
    imports = nx.DiGraph()
    imports.add_nodes_from(graph.modules)
    for module in graph.modules:
        imports.add_edges_from((module, imported) for imported in graph.find_modules_directly_imported_by(module))
    return imports


def _circles(imports: nx.DiGraph) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(sorted(each)) for each in nx.strongly_connected_components(imports) if len(each) > 1)


def _longest_chain(imports: nx.DiGraph) -> tuple[str, ...]:
    """With each circle taken as one module."""
    rooms = nx.condensation(imports)
    return tuple(" + ".join(sorted(rooms.nodes[room]["members"])) for room in nx.dag_longest_path(rooms))


def main() -> None:
    """Print the figures, the last line as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="List the names.")
    house = measure()
    if parser.parse_args().list:
        print("top-level commands:", *house.commands)  # noqa: T201
        for title, lines in (
            ("public names in several modules", [f"{name}: {places}" for name, places in house.shared_names.items()]),
            ("import circles", [" <-> ".join(circle) for circle in house.import_circles]),
            ("longest import chain", house.longest_import_chain),
            ("functions over 40 lines", [f"{count} {name}" for name, count in house.long_functions.items()]),
        ):
            print(f"{title}:", *lines, sep="\n  ")  # noqa: T201
    print(json.dumps(house.to_json()))  # noqa: T201


if __name__ == "__main__":
    main()
