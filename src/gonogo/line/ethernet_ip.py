"""EtherNet/IP as a client: the handshake over two INT arrays in a Logix controller, which hold the registers' words.

pycomm3 blocks, so each request runs in a thread with a time limit; a PLC that hangs cannot hold up the station.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pycomm3 import INT, Array, LogixDriver, PycommError

from gonogo.line.adapter import AdapterError, Link
from gonogo.line.plc import Plc, poll
from gonogo.line.plc_image import CONTROL_REGISTERS, STATUS_REGISTERS, Outputs, status_registers
from gonogo.line.plc_settings import EtherNetIp

_Found = TypeVar("_Found")
_BITS = 2
"""Words at the start of each array that hold its bits."""


async def serve(settings: EtherNetIp, link: Link) -> None:
    """Serve one connection until it is lost; see `gonogo.line.adapter`.

    Raises:
        AdapterError: the PLC cannot be reached, does not answer in time, or does not have the tags.
    """
    logging.getLogger("pycomm3").setLevel(logging.CRITICAL)  # the link says why a connection is lost
    connection, plc = _Connection(settings), Plc(settings, link)
    try:
        await connection.open()
        await connection.write(Outputs())
        link.connected()
        await poll(connection, plc, poll_s=settings.poll_s)
    finally:
        plc.lose("the connection to the PLC is lost")
        connection.abandon()


class _Connection:
    """One connection, used by one thread of its own."""

    def __init__(self, settings: EtherNetIp) -> None:
        self._settings = settings
        sizes = {settings.control_tag: CONTROL_REGISTERS, settings.status_tag: STATUS_REGISTERS}
        self._arrays = LogixArrays(settings.path, sizes, timeout_s=settings.timeout_s)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"adapter {settings.name}")

    async def open(self) -> None:
        await self._run(self._arrays.open)

    async def read(self) -> list[int]:
        """Return the control words."""
        return await self._run(lambda: self._arrays.read(self._settings.control_tag))

    async def write(self, outputs: Outputs) -> None:
        """Write the status words."""
        words = status_registers(outputs, order=self._settings.float_order)
        await self._run(lambda: self._arrays.write(self._settings.status_tag, words))

    def abandon(self) -> None:
        """Close the connection without waiting for a call that hangs."""
        self._thread.submit(self._arrays.close)
        self._thread.shutdown(wait=False)

    async def _run(self, call: Callable[[], _Found]) -> _Found:
        """Run a blocking call in the thread, within the time limit."""
        path = self._settings.path
        try:
            async with asyncio.timeout(4 * self._settings.timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except TimeoutError as error:
            raise AdapterError(f"{path}: the PLC does not answer") from error
        except (PycommError, OSError) as error:
            raise AdapterError(f"{path}: {error}. Is it the path of the controller, such as 192.168.0.10/0?") from error


class LogixArrays:
    """INT arrays in a Logix controller, read and written as words from 0 to 65535. Every call blocks."""

    def __init__(self, path: str, sizes: dict[str, int], *, timeout_s: float) -> None:
        """Store the arguments; `open` connects.

        Args:
            path: Address of the controller, and its slot: ``192.168.0.10/0``.
            sizes: Tags, and how many elements each has.
            timeout_s: Longest time to wait for an answer.
        """
        self._sizes = sizes
        self._driver = LogixDriver(path, init_tags=False, init_program_tags=False)
        self._driver.socket_timeout = timeout_s

    def open(self) -> None:
        """Connect. The tags are declared here: uploading all tags of a controller takes seconds.

        Raises:
            PycommError: the controller does not answer.
        """
        self._driver.open()  # type: ignore[no-untyped-call]
        self._driver._cfg["use_instance_ids"] = False  # they come with the upload
        self._driver._tags = {tag: _definition(tag, count) for tag, count in self._sizes.items()}

    def read(self, tag: str) -> list[int]:
        """Return all words of an array.

        Raises:
            AdapterError: the controller has no such array.
            PycommError: the connection is lost.
        """
        count = self._sizes[tag]
        found = self._driver.read(f"{tag}{{{count}}}")
        if found.error or not isinstance(found.value, list) or len(found.value) != count:
            raise _missing(tag, count, found.error)
        return [int(each) & 0xFFFF for each in found.value]

    def write(self, tag: str, words: Sequence[int]) -> None:
        """Write all words of an array: one message, in which the values come before the bits that make them valid.

        Raises:
            AdapterError: the controller has no such array, or the station may not write it.
            PycommError: the connection is lost.
        """
        signed = [word - 0x10000 if word >= 0x8000 else word for word in words]
        values, bits = f"{tag}[{_BITS}]{{{len(words) - _BITS}}}", f"{tag}[0]{{{_BITS}}}"
        for each in self._driver.write((values, signed[_BITS:]), (bits, signed[:_BITS])):
            if each.error:
                raise _missing(tag, len(words), each.error)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(PycommError, OSError):
            self._driver.close()  # type: ignore[no-untyped-call]


def _definition(name: str, count: int) -> dict[str, Any]:
    """Return the definition of an INT array, as pycomm3 uploads it."""
    return {
        "tag_name": name,
        "dim": 1,
        "dimensions": [count, 0, 0],
        "tag_type": "atomic",
        "data_type": "INT",
        "data_type_name": "INT",
        "type_class": Array(count, INT),
        "alias": False,
        "external_access": "Read/Write",
    }


def _missing(tag: str, count: int, error: object) -> AdapterError:
    return AdapterError(f"expected {tag}, an INT array of {count} in the controller, found {error or 'another type'}")
