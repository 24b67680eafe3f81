"""The peers of the OPC UA campaign: a client of the station's server, or a PLC; one trigger id per line of input.

Each prints one line of JSON for each id: ``verdict`` and ``result_id``, or ``again`` with the reason why not.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

from asyncua import ua

from gonogo.testing.opcua import FakeOpcuaPlc, FakeVisionClient

_PATIENCE_S = 4.0
_VERDICTS = {1: "go", 2: "no_go", 3: "review", 4: "fault"}


def _print(**values: Any) -> None:
    print(json.dumps(values), flush=True)  # noqa: T201  the protocol of this program


async def _client(url: str) -> None:
    """Ask the station's server, and connect again whenever it is gone."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.run_in_executor(None, _read, loop, lines)
    asked = False
    while True:
        try:
            async with FakeVisionClient(url) as client:
                while True:
                    trigger_id, asked = await lines.get(), True
                    await _ask(client, trigger_id)
                    asked = False
        except (ua.UaError, OSError, TimeoutError, StopIteration, RuntimeError) as error:
            if asked:
                _print(again=repr(error))
            asked = False
            await asyncio.sleep(0.1)


def _read(loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[str]) -> None:
    for line in sys.stdin:
        loop.call_soon_threadsafe(lines.put_nowait, line.strip())


async def _ask(client: FakeVisionClient, trigger_id: str) -> None:
    for _ in range(int(_PATIENCE_S / 0.01)):
        if await client.state() == "Ready":
            break
        await asyncio.sleep(0.01)
    job, error = await client.start(trigger_id)
    if error:
        raise TimeoutError(f"error {error}")
    found = await client.result(job, timeout_s=_PATIENCE_S)
    _print(verdict=found.verdict, result_id=found.result_id)


def _plc(port: int) -> None:
    plc = FakeOpcuaPlc(port).start()
    for line in sys.stdin:
        try:
            code, result_id = plc.ask(line.strip(), timeout_s=_PATIENCE_S)
            _print(verdict=_VERDICTS[code], result_id=result_id)
        except (TimeoutError, KeyError) as error:
            _print(again=repr(error))


if __name__ == "__main__":
    logging.getLogger("asyncua").addHandler(logging.NullHandler())
    if sys.argv[1] == "plc":
        _plc(int(sys.argv[2]))
    else:
        asyncio.run(_client(sys.argv[2]))
