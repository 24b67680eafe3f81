"""Decoding pictures of strangers in processes of their own, with a bound on memory and on time.

Headers are held against the limits first, as everywhere. What a header does not show, a decoder that runs in circles or
asks for all memory, then costs one small process instead of the program: each has so much memory, so much processor
time for one picture, and may not write files. A station decodes without this hop: its pictures come from its own
camera, and its supervisor ends a worker that does not answer.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

from gonogo.config import PictureLimits
from gonogo.errors import ImageError
from gonogo.images.codec import decode, mask_of, read_bytes
from gonogo.schema import Frame, Mask

MEMORY_BYTES = 1 << 30
"""Of one picture, besides what the process needs by itself."""
CPU_S = 10
"""Processor time for one picture; 64 megapixels of any format within the limits take less than half of it here."""
WALL_S = 90.0
"""How long to wait for one picture: only a machine that does nothing for minutes takes that long."""
MOST_PROCESSES = 4
_PROGRAM = "from gonogo.images.confined import serve_decoder; serve_decoder()"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_PIPE_BYTES = 1 << 20


class CostlyImageError(ImageError):
    """Decoding a picture took more time or memory than one may cost."""


def decode_confined(data: bytes, *, name: str = "picture") -> Frame:
    """As `gonogo.images.decode`, in a process with bounded memory and time.

    Raises:
        ImageError: as `gonogo.images.decode`.
        CostlyImageError: it took more time or memory than one picture may.
    """
    return _pool.ask(data, name)


def load_confined(path: str | os.PathLike[str]) -> Frame:
    """As `gonogo.images.load`, in a process with bounded memory and time; see `decode_confined`."""
    return decode_confined(read_bytes(path), name=str(path))


def load_mask_confined(path: str | os.PathLike[str], *, shape_hw: tuple[int, int] | None = None) -> Mask:
    """As `gonogo.images.load_mask`, in a process with bounded memory and time; see `decode_confined`."""
    return mask_of(load_confined(path), path, shape_hw=shape_hw)


class _Worker:
    """One decoding process: asked for one picture at a time."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ONE_THREAD},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._to, self._from = self.process.stdin, self.process.stdout
        for pipe in (self._to, self._from):
            _widen(pipe.fileno())

    def ask(self, data: bytes, name: str) -> tuple[dict[str, Any], bytearray]:
        """The answer and the frame's bytes.

        Raises:
            EOFError: the process ended.
            TimeoutError: it did not answer in time.
        """
        deadline = time.monotonic() + WALL_S
        try:
            _send(self._to, {"name": name, "bytes": len(data)}, data)
        except OSError as error:  # it ended while it was idle, or on this picture
            raise EOFError from error
        told = json.loads(self._read(int.from_bytes(self._read(4, deadline), "big"), deadline))
        return told, self._read(told.get("bytes", 0), deadline)

    def end(self) -> int:
        """End the process; its exit status."""
        self.process.kill()
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError):
                pipe.close()
        return self.process.wait()

    def _read(self, size: int, deadline: float) -> bytearray:
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < size:
            if not select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            count = os.readv(self._from.fileno(), [view[at:]])
            if not count:
                raise EOFError
            at += count
        return data


class _Pool:
    """Processes that wait for pictures; started when first needed, one per thread that asks at once."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(min(MOST_PROCESSES, os.cpu_count() or 1))

    def ask(self, data: bytes, name: str) -> Frame:
        with self._free:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            if worker is None or worker.process.poll() is not None:
                worker = _started()
            try:
                told, pixels = worker.ask(data, name)
            except BaseException as error:  # raised again below, an interruption too
                status = _status_of(worker)
                if isinstance(error, EOFError):
                    raise _ended(name, status) from None
                if isinstance(error, TimeoutError):
                    raise CostlyImageError(f"{name}: decoding did not end within {WALL_S:.0f} s.") from None
                raise  # whatever broke in, the process may be in the middle of a picture: it is gone
            with self._lock:
                self._idle.append(worker)
        if "error" in told:
            raise (CostlyImageError if told["costly"] else ImageError)(told["error"])
        return np.frombuffer(pixels, np.uint8).reshape(told["shape"])

    def close(self) -> None:
        """End every process that waits."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()


def serve_decoder() -> None:
    """What a decoding process does: read a picture, answer with its frame or the reason why there is none."""
    import cv2

    cv2.setNumThreads(1)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a decoder prints must not be taken for an answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that asked
    decode(_TINY_PNG)  # what is loaded on first use is loaded before memory is bounded
    sys.dont_write_bytecode = True
    _confine()
    while head := sys.stdin.buffer.read(4):
        asked = json.loads(sys.stdin.buffer.read(int.from_bytes(head, "big")))
        data = sys.stdin.buffer.read(asked["bytes"])
        _allow_cpu()
        _answer(answers, data, asked["name"])


def _answer(answers: IO[bytes], data: bytes, name: str) -> None:
    try:
        frame = decode(data, name=name, limits=PictureLimits())
    except MemoryError:
        _send(answers, {"error": _needs_memory(name), "costly": True})
    except ImageError as error:
        costly = "Insufficient memory" in str(error)  # OpenCV's words
        _send(answers, {"error": _needs_memory(name) if costly else str(error), "costly": costly})
    else:
        _send(answers, {"shape": frame.shape, "bytes": frame.nbytes}, frame.tobytes())


def _send(to: IO[bytes], told: dict[str, Any], data: bytes | memoryview = b"") -> None:
    head = json.dumps(told).encode()
    for piece in (len(head).to_bytes(4, "big") + head, data):
        view = memoryview(piece)
        while view:
            view = view[os.write(to.fileno(), view[:_PIPE_BYTES]) :]


def _confine() -> None:
    import resource

    pages = Path("/proc/self/statm")
    if pages.exists():  # Linux
        most = int(pages.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _allow_cpu() -> None:
    """Processor time for one more picture; past it the kernel ends the process."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime) + 1 + CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _started() -> _Worker:
    try:
        return _Worker()
    except OSError as error:
        raise ImageError(f"cannot start a process that decodes pictures ({error}). Free some memory.") from error


def _status_of(worker: _Worker) -> int:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return worker.process.wait(0.5)  # one that ended by itself says why
    return worker.end()


def _ended(name: str, status: int) -> ImageError:
    if status == -signal.SIGXCPU:
        return CostlyImageError(
            f"{name}: decoding took more than {CPU_S} s of processor time, more than one picture may. Save it again."
        )
    return CostlyImageError(f"{name}: its decoder ended unexpectedly (status {status}). The file may be damaged.")


def _needs_memory(name: str) -> str:
    return f"{name}: decoding needs more than the {MEMORY_BYTES:,} bytes of memory that one picture may."


def _widen(pipe: int) -> None:
    import fcntl

    with contextlib.suppress(OSError, AttributeError):  # a system that allows less is only slower
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _renew() -> None:
    """A forked process must not share the pipes of its parent."""
    global _pool
    _pool = _Pool()


_TINY_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001f61738550000"
    "000049454e44ae426082"
)
_pool = _Pool()
os.register_at_fork(after_in_child=_renew)
atexit.register(lambda: _pool.close())
