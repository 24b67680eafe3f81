"""The PLC of the TCP campaign that listens, in a process of its own: ``PORT``."""

from __future__ import annotations

import json
import secrets
import socket
import sys
from io import TextIOWrapper
from pathlib import Path

from gonogo.line.plc_image import ResultCode
from gonogo.testing.plc_program import Taken
from protocols.kit import WINDOW_S
from protocols.plc import ask_all

_CODES = {"go": ResultCode.GO, "no_go": ResultCode.NO_GO, "review": ResultCode.REVIEW, "fault": ResultCode.FAULT}


class _Plc:
    """Listens, and asks whichever station has connected last."""

    def __init__(self, port: int) -> None:
        self._server = socket.create_server(("127.0.0.1", port))
        self._server.settimeout(60.0)
        self._stream: TextIOWrapper | None = None

    def ask(self, part: str) -> Taken:
        """Ask for the verdict of a part; a lost connection raises `OSError`."""
        try:
            stream = self._connected()
            stream.write(f"{part}\n")
            stream.flush()
            found = json.loads(stream.readline() or "{}")
            if found.get("trigger_id") != part:
                raise OSError(f"expected the answer to {part}, found {found or 'the end'}")
        except (OSError, ValueError) as error:
            self._stream = None
            raise OSError(str(error)) from error
        row = found["row"] or -secrets.randbelow(2**31)  # a fault without a row has no number of its own
        return Taken(part=part, inspection_id=row, verdict=_CODES[found["state"]])

    def _connected(self) -> TextIOWrapper:
        if self._stream is None:
            peer, _ = self._server.accept()
            peer.settimeout(WINDOW_S + 1.0)
            self._stream = peer.makefile("rw", newline="\n")
            peer.close()  # the stream keeps it open
        return self._stream


def main() -> None:
    """Ask for all parts."""
    ask_all(_Plc(int(sys.argv[2])), Path(sys.argv[1]))


if __name__ == "__main__":
    main()
