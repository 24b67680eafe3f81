"""What a model file may not hold: reading one must never run code that came with it.

A ``.pt2`` file is a ZIP archive. Its reader would unpickle some members and load libraries from others. Only the
members of a plain exported program are accepted, and what torch reads as a pickle goes through its restricted reader,
which builds tensors only.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gonogo.errors import InputError

_MOST_JSON_BYTES = 256_000_000
_FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_MEMBER = re.compile(
    r"archive_format|archive_version|byteorder|\.data/[\w.]+|extra/[\w./-]+|models/[\w.-]+\.json"
    r"|data/(weights|constants)/[\w.-]+_config\.json|data/weights/weight_\d+|data/constants/tensor_\d+"
    r"|data/sample_inputs/[\w.-]+\.pt"
)
_EXPRESSION = re.compile(r"(?!.*__)[\w+\-*/%(), <>=.&|~]*")
"""An expression over sizes; torch evaluates it."""


def require_plain_program(path: Path) -> None:
    """Refuse a ``.pt2`` file that holds more than a graph and its tensors.

    Raises:
        InputError: it is no such archive, or has pickles, libraries, or expressions that are not about sizes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                _, _, name = member.filename.partition("/")
                if not _MEMBER.fullmatch(name) or ".." in name:
                    raise _refused(path, f"the member {member.filename!r}, which may run code when it is read")
                if name.endswith(".json") and not name.startswith("extra/"):
                    if member.file_size > _MOST_JSON_BYTES:
                        raise _refused(path, f"{member.file_size:,} bytes in {member.filename!r}")
                    _require_harmless(path, json.loads(archive.read(member)))
    except (zipfile.BadZipFile, ValueError, RecursionError, NotImplementedError, RuntimeError, EOFError) as error:
        raise InputError(
            f"{path}: expected a program of torch.export.save, which gonogo cannot read ({error}). Export it again."
        ) from error


@contextlib.contextmanager
def tensors_only() -> Iterator[None]:
    """Let `torch.load` build nothing but tensors, whatever its caller asks for."""
    before = os.environ.get(_FORCED)
    os.environ[_FORCED] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FORCED]
        else:
            os.environ[_FORCED] = before


def _require_harmless(path: Path, found: Any) -> None:
    if isinstance(found, dict):
        if found.get("use_pickle"):
            raise _refused(path, "a tensor stored as a pickle")
        expression = found.get("expr_str", "")
        if not (isinstance(expression, str) and _EXPRESSION.fullmatch(expression)):
            raise _refused(path, f"the expression {str(expression)[:60]!r}")
        found = found.values()
    elif not isinstance(found, list):
        return
    for each in found:
        _require_harmless(path, each)


def _refused(path: Path, what: str) -> InputError:
    return InputError(
        f"{path}: expected a graph and its tensors, found {what}. Export the plain classifier with torch.export.save, "
        "or as ONNX."
    )
