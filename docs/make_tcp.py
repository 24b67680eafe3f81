"""Write the exchanges of docs/tcp-lines.md: what a real adapter on this machine answers, byte for byte."""

from __future__ import annotations

import socket
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from gonogo.line import Answer, Cause, open_adapter
from gonogo.line.plc_settings import TcpServer
from gonogo.schema import State
from gonogo.testing.line import FakeStation, go
from gonogo.testing.station import patiently

PAGE = Path(__file__).with_name("tcp-lines.md")
ASKED = (
    "000123",
    '{"id": "000124", "part": "SN-77", "lot": "L5", "count": 124}',
    "000125",
    "status",
    "product tablet",
    "product none",
    '{"id": "000126", "colour": "red"}',
)


def answer(trigger_id: str) -> Answer:
    """Judge: the second part is a no-go, the third one is too late."""
    if trigger_id == "000124":
        return Answer(
            trigger_id=trigger_id, state=State.NO_GO, reason="score 2.35, above the threshold", score=2.35, row=3
        )
    found = replace(go(trigger_id), product="capsule")
    return found.as_fault(Cause.LATE, "no verdict within 1 s") if trigger_id == "000125" else found


def exchange(answers: Literal["json", "short"]) -> str:
    """Return a conversation with a station: ``>`` marks the lines of the PLC, ``<`` those of the station."""
    lines = []
    with TemporaryDirectory() as folder, closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        token = Path(folder) / "token"
        token.write_text("a-long-secret\n")
        settings = TcpServer(kind="tcp", port=port, token_file=token, answers=answers)
        station = FakeStation(answer=answer, products=("capsule", "tablet"))
        adapter = open_adapter(settings, station, window_s=60.0).start()
        try:
            patiently(lambda: adapter.link.snapshot().connected, "the adapter does not listen")
            with socket.create_connection(("127.0.0.1", port), timeout=60) as peer:
                stream = peer.makefile("rw", newline="")
                for text in ("a-long-secret", *ASKED):
                    lines.append(f"> {text}")
                    stream.write(text + "\n")
                    stream.flush()
                    if len(lines) > 1:
                        lines.append(f"< {stream.readline().rstrip()}")
        finally:
            adapter.stop()
    return "\n".join(lines)


def filled(page: str) -> str:
    """Return the page with its exchanges."""
    for name in ("short", "json"):
        before, _, rest = page.partition(f"<!-- {name} -->\n")
        _, _, after = rest.partition(f"<!-- end of {name} -->")
        text = exchange("short" if name == "short" else "json")
        page = f"{before}<!-- {name} -->\n\n```text\n{text}\n```\n\n<!-- end of {name} -->{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8")), "utf-8")
