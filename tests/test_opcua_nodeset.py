"""The address space in our own namespace is that of the official nodeset, node by node."""

from __future__ import annotations

import asyncio
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("asyncua")

from asyncua import Node, Server, ua

from gonogo.errors import InputError
from gonogo.line.opcua.building import build_space
from gonogo.line.opcua.machine import TRANSITIONS
from gonogo.line.opcua.model import BINARY_IDS, ENUMERATIONS, EVENTS, METHODS, SIMPLE_TYPES, STRUCTURES
from gonogo.line.opcua.space import Space

NODESET = Path(__file__).parents[2] / "shared" / "opcua" / "Opc.Ua.MachineVision.NodeSet2.xml"
needs_nodeset = pytest.mark.skipif(
    not NODESET.exists(), reason="needs the official nodeset of OPC 40100-1 as ../shared/opcua/*.NodeSet2.xml"
)


async def _named(server: Server, node_id: ua.NodeId) -> str:
    if node_id == ua.NodeId():  # a field without a type stands for any value
        return "BaseDataType"
    return str((await server.get_node(node_id).read_browse_name()).Name)


async def _described(space: Space, node: Node) -> tuple[Any, ...]:
    kind = await node.read_node_class()
    if kind is not ua.NodeClass.Variable:
        return (kind.name,)
    value = await node.read_value()
    arguments: list[Any] = []
    if (await node.read_browse_name()).Name.endswith("Arguments"):
        arguments = [(each.Name, await _named(space.server, each.DataType), each.ValueRank) for each in value]
    data_type = await _named(space.server, await node.read_data_type())
    number = value if (await node.read_browse_name()).Name == "StateNumber" else None
    return kind.name, data_type, await node.read_value_rank(), tuple(arguments), number


async def _types(space: Space) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in (*STRUCTURES, *BINARY_IDS):
        definition = await space.server.get_node(space.model_ids[name]).read_data_type_definition()
        found[name] = [
            (each.Name, await _named(space.server, each.DataType), each.ValueRank, each.IsOptional)
            for each in definition.Fields
        ]
    for name in SIMPLE_TYPES:
        [parent] = await space.server.get_node(space.model_ids[name]).get_referenced_nodes(
            ua.ObjectIds.HasSubtype, ua.BrowseDirection.Inverse
        )
        found[name] = (await parent.read_browse_name()).Name
    for name in ENUMERATIONS:
        node = await space.server.get_node(space.model_ids[name]).get_child("0:EnumValues")
        found[name] = [(each.Value, each.DisplayName.Text) for each in await node.read_value()]
    for name, (_, parts) in EVENTS.items():
        node = space.server.get_node(space.model_ids[name])
        there = {(await each.read_browse_name()).Name: each for each in await node.get_properties()}
        found[name] = {
            part.name: (await _named(space.server, await there[part.name].read_data_type())) for part in parts
        }
    for each in TRANSITIONS:
        node = await space.server.get_node(space.transitions[each.number]).get_child("0:TransitionNumber")
        found[each.name] = await node.read_value()
    return found


def in_a_process_of_its_own(nodeset: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Describe one address space: the library keeps the types of one model in a process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run, nodeset).result(timeout=300)


def run(nodeset: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    return asyncio.run(describe(nodeset))


async def describe(nodeset: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    server = Server()
    await server.init()
    space = await build_space(server, nodeset)
    nodes = {path: await _described(space, server.get_node(node)) for path, node in space.nodes.items()}
    return nodes, await _types(space)


@needs_nodeset
@pytest.mark.slow
def test_both_address_spaces_are_the_same() -> None:
    own, official = (in_a_process_of_its_own(each) for each in (None, NODESET))
    assert own[0].keys() == official[0].keys()
    assert {path: (own[0][path], official[0][path]) for path in own[0] if own[0][path] != official[0][path]} == {}
    assert {name: (own[1][name], official[1][name]) for name in own[1] if own[1][name] != official[1][name]} == {}
    assert len(own[0]) > 90


@needs_nodeset
def test_every_method_is_one_of_the_official_nodeset() -> None:
    text = NODESET.read_text()
    for method in METHODS:
        assert f'BrowseName="1:{method.path.rpartition("/")[2]}"' in text
    for each in TRANSITIONS:
        assert f'BrowseName="1:{each.name}"' in text


@pytest.mark.slow
@pytest.mark.parametrize("text", [None, "<UANodeSet/>", "not XML"])
def test_a_file_that_is_not_the_nodeset_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "nodes.xml"
    if text is not None:
        path.write_text(text)

    async def build() -> None:
        server = Server()
        await server.init()
        await build_space(server, path)

    with pytest.raises(InputError, match=r"nodes\.xml"):
        asyncio.run(build())
