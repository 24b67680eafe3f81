"""The address space: the nodes of a vision system by their paths, their values and events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TypeAlias

from asyncua import Node, Server, ua
from asyncua.common.instantiate_util import instantiate
from asyncua.server.event_generator import EventGenerator

from gonogo.line.opcua.machine import TRANSITIONS, Stage, Transition
from gonogo.line.opcua.model import (
    BINARY_IDS,
    ENUMERATIONS,
    EVENTS,
    FOLDERS,
    LATEST,
    MACHINES,
    METHODS,
    RESULT,
    SIMPLE_TYPES,
    STRUCTURES,
    SYSTEM,
    VARIABLES,
    Field,
)

Called: TypeAlias = Callable[..., Awaitable[Any]]
_OWN = 1
"""Index of the namespace of this application, which holds the instances."""
OUTER, INNER = "VisionStateMachineType", "VisionAutomaticModeStateMachineType"


def variant_type(name: str) -> ua.VariantType:
    """Return the built-in type that carries a data type of the model."""
    if name in STRUCTURES or name in BINARY_IDS:
        return ua.VariantType.ExtensionObject
    if name in ENUMERATIONS:
        return ua.VariantType.Int32
    built_in = {"UtcTime": "DateTime", "Duration": "Double", "BaseDataType": "Variant", "TrimmedString": "String"}
    return ua.VariantType[built_in.get(name, SIMPLE_TYPES.get(name, name))]


def variant(value: Any, field: Field) -> ua.Variant:
    """Return a value as the variant of a field or argument."""
    return ua.Variant(value, variant_type(field.type), is_array=field.array)


def empty(field: Field) -> Any:
    """Return the value of a field or argument that holds nothing."""
    if field.array:
        return []
    kind = variant_type(field.type)
    return None if kind is ua.VariantType.ExtensionObject else ua.get_default_value(kind)


class Space:
    """The nodes of one vision system, by their paths below it."""

    def __init__(self, server: Server, index: int, *, official: bool) -> None:
        """Store the arguments; see `gonogo.line.opcua.building`.

        Args:
            server: The server, not started yet.
            index: Index of the model's namespace.
            official: Whether the types come from the official nodeset.
        """
        self.server, self.index, self.official = server, index, official
        self.nodes: dict[str, ua.NodeId] = {}
        self.states: dict[Stage, ua.NodeId] = {}
        self.transitions: dict[int, ua.NodeId] = {}
        self.model_ids: dict[str, ua.NodeId] = {}
        """The types of the model, by name."""
        self._types: dict[str, type[Any]] = {}
        self._events: dict[str, EventGenerator] = {}
        self._firing = asyncio.Lock()

    @property
    def root(self) -> Node:
        """The vision system."""
        return self.server.get_node(self.nodes[""])

    def make(self, structure: str, **values: Any) -> Any:
        """Return a structure of the model."""
        return self._types[structure](**values)

    def implement(self, path: str, call: Called) -> None:
        """Connect a method with the coroutine function that runs it."""
        self.server.link_method(self.server.get_node(self.nodes[path]), call)

    async def write(self, path: str, value: Any, field: Field) -> None:
        """Write the value of a variable."""
        now = datetime.now(UTC)
        await self.server.write_attribute_value(
            self.nodes[path], ua.DataValue(variant(value, field), SourceTimestamp=now, ServerTimestamp=now)
        )

    async def show_state(self, path: str, stage: Stage | None) -> None:
        """Write the current state of one of the two machines; ``None`` for the inner one while it does not run."""
        text = ua.LocalizedText("" if stage is None else stage.label)
        await self.write(f"{path}/CurrentState", text, Field(name="", type="LocalizedText"))
        state = ua.NodeId() if stage is None else self.states[stage]
        await self.write(f"{path}/CurrentState/Id", state, Field(name="", type="NodeId"))

    async def fire(self, event: str, message: str, severity: int = 100, **values: Any) -> None:
        """Send an event to the subscribers of the vision system and to those of the server."""
        async with self._firing:
            generator = self._events[event]
            for field in EVENTS[event][1]:
                generator.event.add_property(field.name, values.get(field.name), variant_type(field.type))
            await self._send(generator, message, severity)

    async def fire_transition(self, event: str, transition: Transition, source: Stage, target: Stage) -> None:
        """Send the event of a transition."""
        async with self._firing:
            generator = self._events[event]
            named = {"FromState": source.label, "ToState": target.label, "Transition": transition.name}
            ids = {
                "FromState": self.states[source],
                "ToState": self.states[target],
                "Transition": self.transitions[transition.number],
            }
            for name, text in named.items():
                generator.event.add_variable(name, ua.LocalizedText(text), ua.VariantType.LocalizedText)
                generator.event.add_property(f"{name}/Id", ids[name], ua.VariantType.NodeId)
            await self._send(generator, f"{source.label} to {target.label}", 300 if target is Stage.ERROR else 50)

    async def _send(self, generator: EventGenerator, message: str, severity: int) -> None:
        generator.event.Severity = severity
        for node in (self.nodes[""], ua.NodeId(ua.ObjectIds.Server)):
            generator.event.emitting_node = node
            await generator.trigger(message=message)

    # --- called once, by `gonogo.line.opcua.building`

    def type_id(self, name: str) -> ua.NodeId:
        """Return the id of a data type."""
        known = name in STRUCTURES or name in BINARY_IDS or name in SIMPLE_TYPES or name in ENUMERATIONS
        return self.model_ids[name] if known else ua.NodeId(getattr(ua.ObjectIds, name))

    async def read_types(self) -> None:
        """Find the types of the model in the address space, and their Python classes."""
        for base in (ua.ObjectIds.BaseDataType, ua.ObjectIds.BaseObjectType, ua.ObjectIds.BaseVariableType):
            await self._collect(self.server.get_node(ua.NodeId(base)))
        # Two servers of one process have classes of the same names; each keeps its own.
        for name in (*STRUCTURES, *BINARY_IDS):
            self._types[name] = ua.extension_objects_by_datatype[self.model_ids[name]]
        for kind, inner in ((OUTER, False), (INNER, True)):
            machine = self.server.get_node(self.model_ids[kind])
            for stage in Stage:
                if (stage.number > Stage.OPERATIONAL.number) is inner:
                    self.states[stage] = (await machine.get_child([f"{self.index}:{stage.label}"])).nodeid
            for each in TRANSITIONS:
                if each.inner is inner:
                    self.transitions[each.number] = (await machine.get_child([f"{self.index}:{each.name}"])).nodeid

    async def _collect(self, node: Node) -> None:
        for child in await node.get_referenced_nodes(ua.ObjectIds.HasSubtype, ua.BrowseDirection.Forward):
            if child.nodeid.NamespaceIndex == self.index:
                self.model_ids[(await child.read_browse_name()).Name] = child.nodeid
            if child.nodeid.NamespaceIndex == self.index or child.nodeid.Identifier in _HOLDERS:
                await self._collect(child)

    async def connect_events(self) -> None:
        """Prepare the events, and make the server a notifier of the vision system."""
        source = self.nodes[""]
        for name in EVENTS:
            generator = EventGenerator(self.server.iserver.isession)
            await generator.init(self.model_ids[name], emitting_node=source)
            self._events[name] = generator
        await self.server.nodes.server.add_reference(self.root, ua.ObjectIds.HasNotifier, forward=True)

    async def add_instance(self) -> None:
        """Add the vision system itself."""
        name = ua.QualifiedName(SYSTEM, _OWN)
        kind = self.model_ids["VisionSystemType"]
        system = await self.server.nodes.objects.add_object(ua.NodeId(SYSTEM, _OWN), name, objecttype=kind)
        wanted = {each.path for each in METHODS} | set(VARIABLES) | set(MACHINES) | set(FOLDERS)
        if self.official:
            await self._prune(system, "", wanted)
        else:
            await self._fill(system)
        results = await system.get_child([f"{self.index}:{part}" for part in FOLDERS[1].split("/")])
        label = ua.QualifiedName("LatestResult", _OWN)
        await instantiate(
            results,
            self.server.get_node(self.model_ids["ResultType"]),
            ua.NodeId(f"{SYSTEM}.{LATEST.replace('/', '.')}", _OWN),
            label,
        )
        latest = await results.get_child([f"{_OWN}:LatestResult"])
        for attribute in (ua.AttributeIds.AccessLevel, ua.AttributeIds.UserAccessLevel):
            await latest.write_attribute(attribute, ua.DataValue(ua.Variant(1, ua.VariantType.Byte)))
        await latest.write_value_rank(ua.ValueRank.Scalar)
        await self._prune(latest, "", {each.name for each in RESULT})
        await self._remember(system, "")

    async def _prune(self, node: Node, path: str, wanted: set[str]) -> None:
        """Delete the optional nodes that the station does not serve."""
        for child in await node.get_children():
            name = await child.read_browse_name()
            below = f"{path}/{name.Name}" if path else name.Name
            leads = any(each == below or each.startswith(below + "/") for each in wanted)
            if name.NamespaceIndex != 0 and name.Name not in _STATES and not leads:
                await self.server.delete_nodes([child], recursive=True)
            elif (leads and below not in wanted) or below in (*MACHINES, *FOLDERS):
                await self._prune(child, below, wanted)

    async def _remember(self, node: Node, path: str) -> None:
        self.nodes[path] = node.nodeid
        for child in await node.get_children():
            name = (await child.read_browse_name()).Name
            await self._remember(child, f"{path}/{name}" if path else name)

    async def _fill(self, system: Node) -> None:
        """Add what the official type would bring, below an instance without children."""
        places: dict[str, Node] = {"": system}
        kinds = {
            MACHINES[0]: self.model_ids[OUTER],
            MACHINES[1]: self.model_ids[INNER],
            **dict.fromkeys(FOLDERS, ua.NodeId(ua.ObjectIds.FolderType)),
        }

        async def place(path: str) -> Node:
            if path not in places:
                over, _, name = path.rpartition("/")
                parent = await place(over)
                kind = kinds.get(path, ua.NodeId(ua.ObjectIds.BaseObjectType))
                places[path] = await parent.add_object(
                    self._below(parent, name), ua.QualifiedName(name, self.index), kind, instantiate_optional=False
                )
            return places[path]

        for stage in (each for each in Stage if each.number <= Stage.OPERATIONAL.number):
            await self.add_state(await place(MACHINES[0]), stage, _OWN)
        for path, kind in VARIABLES.items():
            over, _, name = path.rpartition("/")
            await self.add_variable(await place(over), Field(name=name, type=kind))
        for method in METHODS:
            over, _, name = method.path.rpartition("/")
            parent = await place(over)
            arguments = [[self._argument(each) for each in group] for group in (method.inputs, method.outputs)]
            added = await parent.add_method(
                self._below(parent, name), ua.QualifiedName(name, self.index), _unlinked, *arguments
            )
            for each in await added.get_properties():
                await each.write_value_rank(ua.ValueRank.OneDimension)
        for path in FOLDERS:
            await place(path)

    def _below(self, parent: Node, name: str) -> ua.NodeId:
        return ua.NodeId(f"{parent.nodeid.Identifier}.{name}", parent.nodeid.NamespaceIndex)

    async def add_variable(self, parent: Node, field: Field, *, own: int | None = None) -> Node:
        """Add a variable below a node, in the model's namespace or another one."""
        name = ua.QualifiedName(field.name, self.index if own is None else own)
        added = await parent.add_variable(
            self._below(parent, field.name), name, empty(field), variant_type(field.type), self.type_id(field.type)
        )
        if field.array:
            await added.write_value_rank(ua.ValueRank.OneDimension)
        return added

    async def add_state(self, parent: Node, stage: Stage, index: int) -> Node:
        """Add the object of a state below a machine or its type."""
        where = self._below(parent, stage.label) if index == _OWN else ua.NodeId(f"{stage.label}State", index)
        state = await parent.add_object(where, ua.QualifiedName(stage.label, self.index), ua.NodeId(2307))
        await (await state.get_child("0:StateNumber")).write_value(stage.number, ua.VariantType.UInt32)
        return state

    def _argument(self, field: Field) -> ua.Argument:
        rank = ua.ValueRank.OneDimension if field.array else ua.ValueRank.Scalar
        return ua.Argument(Name=field.name, DataType=self.type_id(field.type), ValueRank=rank)

    async def add_answer(self, fields: Iterable[Field]) -> None:
        """Add the object ``Answer``, which is not part of the model: the answer to the last job, for simple clients."""
        place = await self.root.add_object(ua.NodeId(f"{SYSTEM}.Answer", _OWN), ua.QualifiedName("Answer", _OWN))
        for field in fields:
            added = await self.add_variable(place, field, own=_OWN)
            self.nodes[f"Answer/{field.name}"] = added.nodeid

    async def add_product(self, name: str) -> None:
        """Add a product to the folder of products."""
        folder = self.server.get_node(self.nodes[FOLDERS[0]])
        field = Field(name=name, type="ProductDataType")
        added = await self.add_variable(folder, field, own=_OWN)
        product = self.make("ProductDataType", ExternalId=self.make("ProductIdDataType", Id=name))
        await added.write_value(variant(product, field))


_STATES = {stage.label for stage in Stage}
_HOLDERS = {
    getattr(ua.ObjectIds, name)
    for name in (
        *("Enumeration", "Number", "Integer", "UInteger", "Int32", "UInt32", "String", "Structure"),
        *("BaseEventType", "TransitionEventType", "BaseDataVariableType", "StateMachineType", "FiniteStateMachineType"),
    )
}
"""The standard types below which the types of the model stand."""


async def _unlinked(*_: Any) -> ua.StatusCode:
    return ua.StatusCode(ua.StatusCodes.BadNotImplemented)
