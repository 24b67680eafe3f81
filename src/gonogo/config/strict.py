"""Strict models of files, and reading them from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from gonogo.errors import InputError
from gonogo.files import MOST_SETTINGS_BYTES, parse_toml, read_text


class Strict(BaseModel):
    """Base of all models that are read from a file: frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)  # built on first use


Model = TypeVar("Model", bound=Strict)


def read_toml(path: Path, model: type[Model], *, example: str) -> Model:
    """Read a TOML file into a strict model.

    Args:
        path: The file.
        model: The model to validate against.
        example: The command that prints an example file, for the error message when the file is missing.

    Raises:
        InputError: The file is missing or not TOML, a key is unknown, a type is wrong, or a value is out of range;
            the message names the file, the key, what was expected and what was found.
    """
    try:
        return model.model_validate(parse_toml(read_text(path, most_bytes=MOST_SETTINGS_BYTES)))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: expected TOML ({error}). Correct the line.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}). Start from: {example}") from error
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error, model)}. Correct the file.") from error


def first_problem(error: ValidationError, model: type[Strict]) -> str:
    """Describe the first problem: the key, what was expected and what was found."""
    first = error.errors()[0]
    where = [str(each) for each in first["loc"]]
    if first["type"] == "extra_forbidden":
        known = _known_keys(model, where[:-1])
        return f"{'.'.join(where)}: unknown key{f', expected one of {known}' if known else ''}"
    if first["type"] == "model_type":
        return f"{'.'.join(where)}: expected a table, found {first['input']!r}"
    expected = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return f"{'.'.join(where)}: {expected}, found {first['input']!r}"


def _known_keys(model: type[BaseModel], where: list[str]) -> str:
    """The keys of a section, or of one entry of a list whose kind is named last; empty if that is not known."""
    sections = [model]
    for name in where:
        if fields := [each.model_fields[name] for each in sections if name in each.model_fields]:
            sections = [found for field in fields for found in _models_in(field.annotation)]
        elif kinds := [each for each in sections if name in _kinds_of(each)]:
            sections = kinds  # otherwise it is the place in a list
    return ", ".join(sections[0].model_fields) if len(sections) == 1 else ""


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """The models that an annotation names, such as those of a union or a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _kinds_of(model: type[BaseModel]) -> tuple[object, ...]:
    """The values of a model's ``kind``, by which it is chosen among others."""
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()
