"""Types of printed JSON, and their JSON Schemas."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from typing_extensions import TypedDict, is_typeddict

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Document(TypedDict):
    """Base of the objects that commands print; the text below a field becomes its description."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Printed:
    """What ``--json`` of one command prints, or one line of a file that it writes."""

    type: Any
    lines: bool = False
    """Whether each line is a JSON document of its own."""
    stored: bool = False
    """Whether fields with a default may be missing, for example because an earlier version wrote what is printed."""


def combined(name: str, *parts: Any, without: tuple[str, ...] = ()) -> Any:
    """Return the type of an object with the fields of all parts.

    Args:
        name: Name of the type.
        parts: Dataclasses, models, typed dictionaries, or mappings of names to types.
        without: Names of fields that are left out.
    """
    found: dict[str, Any] = {}
    for part in parts:
        found |= _fields(part)
    kept = {field: kind for field, kind in found.items() if field not in without}
    return TypedDict(name, kept)  # type: ignore[operator]


def rate(*names: str) -> dict[str, Any]:
    """Return the fields of rates with exact intervals, see `gonogo.evaluate.Rate.to_json`."""
    return {f"{name}{end}": float | None for name in names for end in ("", "_low", "_high")}


def schema_of(command: str, printed: Printed) -> dict[str, Any]:
    """Return the JSON Schema of what a command prints."""
    made = TypeAdapter(printed.type).json_schema(
        mode="serialization", schema_generator=_Stored if printed.stored else _Complete
    )
    what = "One line of what" if printed.lines else "What"
    text = f"{what} `{command}` gives. {made.pop('description', '')}".strip()
    made.pop("title", None)
    return {"$schema": DIALECT, "title": command, "description": text, **made}


def _fields(part: Any) -> dict[str, Any]:
    if isinstance(part, Mapping):
        return dict(part)
    if isinstance(part, type) and issubclass(part, BaseModel):
        kinds = {name: info.rebuild_annotation() for name, info in part.model_fields.items()}
    else:
        kinds = get_type_hints(part, include_extras=True)
    if dataclasses.is_dataclass(part):
        kinds = {each.name: kinds[each.name] for each in dataclasses.fields(part)}
    texts = _texts(part)
    return {name: Annotated[kind, Field(description=texts.get(name))] for name, kind in kinds.items()}


@cache
def _texts(kind: type) -> dict[str, str]:
    """The texts below the fields of a class and of its bases."""
    found: dict[str, str] = {}
    for each in _bases(kind):
        defined = _classes(each.__module__).get(each.__name__)
        for field, text in pairwise([] if defined is None else defined.body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                    words = said.replace("``None``", "``null``").replace("``", "`").split()
                    found.setdefault(name, " ".join(words))
    return found


@cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module by name; empty without its source."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):
        return {}
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def _bases(kind: type) -> Iterator[type]:
    if not is_typeddict(kind):
        yield from kind.__mro__[:-1]
        return
    yield kind
    for each in getattr(kind, "__orig_bases__", ()):
        if is_typeddict(each):
            yield from _bases(each)


class _Stored(GenerateJsonSchema):
    """Objects have no other fields than those declared; fields with a default may be missing."""

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        return _described(schema["cls"], super().model_schema(schema))

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:
        return _described(schema["cls"], super().dataclass_schema(schema))

    def typed_dict_schema(self, schema: Any) -> JsonSchemaValue:
        return _described(schema["cls"], super().typed_dict_schema(schema))

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class _Complete(_Stored):
    """Every field is there, also those with a default."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        required = field["type"] != "typed-dict-field" or field.get("required", total)
        return bool(required)


def _described(kind: type, made: JsonSchemaValue) -> JsonSchemaValue:
    """Close an object, and add the texts below its fields."""
    if made.get("type") != "object":
        return made
    texts = _texts(kind)
    for name, field in made.get("properties", {}).items():
        if name in texts:
            field.setdefault("description", texts[name])
    return {**made, "additionalProperties": made.get("additionalProperties", False)}
