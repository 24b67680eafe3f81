"""Build the address space: types from the official nodeset or from `gonogo.line.opcua.model`, and one vision system."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path

from asyncua import Node, Server, ua
from asyncua.common.manage_nodes import create_data_type, create_encoding

from gonogo.errors import InputError
from gonogo.line.opcua.machine import TRANSITIONS, Stage
from gonogo.line.opcua.model import (
    BASE_EVENT,
    BINARY_IDS,
    ENUMERATIONS,
    EVENTS,
    OFFICIAL_NAMESPACE,
    OWN_NAMESPACE,
    RESULT,
    SIMPLE_TYPES,
    STRUCTURES,
    Field,
)
from gonogo.line.opcua.space import INNER, OUTER, Space, empty, variant_type


async def build_space(server: Server, nodeset: Path | None) -> Space:
    """Add the model's types and one vision system to a server that is initialized and not started yet.

    Args:
        server: The server.
        nodeset: The official nodeset; without, the types come from `gonogo.line.opcua.model`.

    Raises:
        InputError: the file is missing, or is not the nodeset.
    """
    if nodeset is None:
        space = Space(server, await server.register_namespace(OWN_NAMESPACE), official=False)
        await _add_types(space)
        await server.load_data_type_definitions()
    else:
        advice = "Download Opc.Ua.MachineVision.NodeSet2.xml of OPC 40100-1, or leave nodeset out."
        try:
            await server.import_xml(nodeset)
            space = Space(server, await server.get_namespace_index(OFFICIAL_NAMESPACE), official=True)
        except (OSError, SyntaxError, ValueError, ua.UaError) as error:
            raise InputError(f"{nodeset}: expected the official nodeset, found {error}. {advice}") from error
        await _define_binary_ids(space)
    await space.read_types()
    await space.add_instance()
    await space.connect_events()
    return space


async def _define_binary_ids(space: Space) -> None:
    """Repeat the inherited fields in the official subtypes, so that clients that expect them there can read values."""
    base = None
    for node in await space.server.nodes.base_structure_type.get_children(ua.ObjectIds.HasSubtype):
        if (await node.read_browse_name()).Name == "BinaryIdBaseDataType":
            base = node
    if base is None:
        raise ValueError("a nodeset without BinaryIdBaseDataType")
    for node in await base.get_children(ua.ObjectIds.HasSubtype):
        inherited = await base.read_data_type_definition()
        [encoding] = [
            each
            for each in await node.get_referenced_nodes(ua.ObjectIds.HasEncoding, ua.BrowseDirection.Forward)
            if (await each.read_browse_name()).Name == "Default Binary"
        ]
        definition = copy.copy(inherited)
        definition.DefaultEncodingId, definition.BaseDataType = encoding.nodeid, base.nodeid
        await node.write_data_type_definition(definition)
    await space.server.load_data_type_definitions()


async def _add_types(space: Space) -> None:
    """Add the types of the model in a namespace of their own."""
    server, index = space.server, space.index

    async def data_type(name: str, base: Node) -> Node:
        added = await create_data_type(base, ua.NodeId(name, index), ua.QualifiedName(name, index))
        space.model_ids[name] = added.nodeid
        return added

    for name, base in SIMPLE_TYPES.items():
        added = await data_type(name, server.get_node(ua.NodeId(getattr(ua.ObjectIds, base))))
        ua.register_basetype(name, added.nodeid, getattr(ua, base))
    for name, members in ENUMERATIONS.items():
        added = await data_type(name, server.nodes.enum_data_type)
        listed = [ua.EnumField(Name=member, Value=number) for member, number in members.items()]
        await added.write_data_type_definition(ua.EnumDefinition(Fields=listed))
        values = [ua.EnumValueType(Value=number, DisplayName=ua.LocalizedText(key)) for key, number in members.items()]
        await added.add_property(0, "EnumValues", values)
    for name, parts in STRUCTURES.items():
        added = await data_type(name, server.nodes.base_structure_type)
        for each in (added, *[await data_type(alias, added) for alias in BINARY_IDS if name == "BinaryIdBaseDataType"]):
            await _define(space, each, parts)
    await _add_object_types(space)


async def _define(space: Space, node: Node, parts: Iterable[Field]) -> None:
    encoding = ua.NodeId(f"{node.nodeid.Identifier}.Binary", space.index)
    await create_encoding(node, encoding, ua.QualifiedName("Default Binary", 0))
    members = [
        ua.StructureField(
            Name=each.name,
            DataType=space.type_id(each.type),
            ValueRank=ua.ValueRank.OneDimension if each.array else ua.ValueRank.Scalar,
            ArrayDimensions=[0] if each.array else None,
            IsOptional=each.optional,
        )
        for each in parts
    ]
    optional = any(each.optional for each in parts)
    kind = ua.StructureType.StructureWithOptionalFields if optional else ua.StructureType.Structure
    base = ua.NodeId(ua.ObjectIds.Structure)
    await node.write_data_type_definition(
        ua.StructureDefinition(DefaultEncodingId=encoding, BaseDataType=base, StructureType=kind, Fields=members)
    )


async def _add_object_types(space: Space) -> None:
    server, index = space.server, space.index

    async def object_type(name: str, base: int) -> Node:
        return await server.get_node(ua.NodeId(base)).add_object_type(
            ua.NodeId(name, index), ua.QualifiedName(name, index)
        )

    await object_type("VisionSystemType", ua.ObjectIds.BaseObjectType)
    kind = await server.get_node(ua.NodeId(ua.ObjectIds.BaseDataVariableType)).add_variable_type(
        ua.NodeId("ResultType", index), ua.QualifiedName("ResultType", index), space.type_id("ResultDataType")
    )
    for each in RESULT:
        part = await space.add_variable(kind, each)
        await part.set_modelling_rule(True)
    for name, (base, parts) in EVENTS.items():
        event = await object_type(name, base)
        for each in parts if base == BASE_EVENT else ():
            await event.add_property(
                ua.NodeId(f"{name}.{each.name}", index),
                ua.QualifiedName(each.name, index),
                empty(each),
                variant_type(each.type),
                space.type_id(each.type),
            )
    for name, inner in ((OUTER, False), (INNER, True)):
        machine = await object_type(name, ua.ObjectIds.FiniteStateMachineType)
        for stage in Stage:
            if (stage.number > Stage.OPERATIONAL.number) is inner:
                await space.add_state(machine, stage, index)
        for step in (one for one in TRANSITIONS if one.inner is inner):
            where = ua.QualifiedName(step.name, index)
            added = await machine.add_object(ua.NodeId(step.name, index), where, ua.NodeId(2310))
            await (await added.get_child("0:TransitionNumber")).write_value(step.number, ua.VariantType.UInt32)
