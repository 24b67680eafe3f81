"""Protocol buffers from a table of field numbers, without generated code.

The messages live in a descriptor pool of their own, so that another library with messages of the same names can be
imported into the same process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_SCALARS: Final[dict[str, int]] = {
    "bool": 8, "string": 9, "bytes": 12, "int32": 5, "int64": 3, "uint32": 13, "uint64": 4, "float": 2, "double": 1,
}  # fmt: skip
_MESSAGE, _OPTIONAL, _REPEATED = 11, 1, 3


def build_messages(package: str, fields: Mapping[str, str], *, syntax: str = "proto3") -> Callable[[str], Any]:
    """Build the classes of messages.

    Args:
        package: Name of the package.
        fields: For each message, its fields in the form "number name type", separated by commas. ``*type`` repeats,
            ``map type`` goes from a string to the type, and ``choice.name`` belongs to the one-of group ``choice``.
        syntax: ``proto3``, or ``proto2``, whose fields know whether they are present.

    Returns:
        A function that returns the class of a message by its name.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"gonogo/{package}.proto", package=package, syntax=syntax)
    for name, texts in fields.items():
        message = file.message_type.add(name=name)
        for text in filter(None, texts.split(", ")):
            _add_field(message, *text.split(" ", 2), package=package)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))


def _add_field(message: Any, number: str, name: str, kind: str, *, package: str) -> None:
    choice, _, name = name.rpartition(".")
    field = message.field.add(name=name, number=int(number), label=_OPTIONAL)
    if choice:
        known = [each.name for each in message.oneof_decl]
        if choice not in known:
            message.oneof_decl.add(name=choice)
            known.append(choice)
        field.oneof_index = known.index(choice)
    if kind.startswith("map "):
        entry = message.nested_type.add(name="".join(piece.title() for piece in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _add_field(entry, "1", "key", "string", package=package)
        _add_field(entry, "2", "value", kind.removeprefix("map "), package=package)
        kind = f"*{message.name}.{entry.name}"
    if kind.startswith("*"):
        field.label = _REPEATED
        kind = kind[1:]
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _MESSAGE, f".{package}.{kind}"
