"""A TCP proxy between a client and a server on this machine that can be cut at chosen moments."""

from __future__ import annotations

import contextlib
import socket
import threading


class Proxy:
    """Forwards a port to another one until it is cut. Use it as a context manager."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._dead = False
        self._closing = False
        self.lose_reply_to: tuple[bytes, ...] = ()
        """What the client says, in this order, before the next reply is lost and the network is cut."""
        self.lost = 0
        """Number of replies that were lost."""
        self._doomed: socket.socket | None = None

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self.cut()
        self._listening.close()

    def cut(self) -> None:
        """Cut all connections, and refuse new ones until `mend`."""
        self._dead = True
        self._hang_up()

    def mend(self) -> None:
        """Let connections through again."""
        self._dead = False

    def _hang_up(self) -> None:
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self._dead:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 10)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if from_client:
                    while self.lose_reply_to and self.lose_reply_to[0] in data:
                        self.lose_reply_to = self.lose_reply_to[1:]
                        self._doomed = None if self.lose_reply_to else sink
                elif source is self._doomed:
                    self._doomed = None
                    self.lost += 1
                    self._hang_up()
                    return
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
