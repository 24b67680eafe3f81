"""Tells systemd that the station runs, for units with ``Type=notify`` and ``WatchdogSec``; nothing without systemd."""

from __future__ import annotations

import contextlib
import os
import socket
import sys

READY = "READY=1"
ALIVE = "WATCHDOG=1"
STOPPING = "STOPPING=1"


def notify(state: str) -> bool:
    """Send a state to systemd's socket, see sd_notify(3); never blocks and never fails.

    Returns:
        Whether it was sent; ``False`` where systemd does not listen.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if sys.platform == "win32" or not address.startswith(("/", "@")):
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
        return True
    return False
