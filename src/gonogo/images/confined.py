"""Decoding of untrusted pictures in separate processes with limited memory and time.

Headers are checked against the limits first, as everywhere. A decoder that still loops forever or exhausts the memory
then ends one small process instead of the program: each process has a memory limit and a limit on processor time per
picture, and cannot write files. A station decodes in its worker instead, because its pictures come from its own camera
and its supervisor restarts a worker that does not answer.
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

from gonogo.array_types import UInt16
from gonogo.config import Depth, PictureLimits
from gonogo.errors import ImageError
from gonogo.images.codec import decode, decode_raw, mask_of, read_bytes
from gonogo.images.headers import read_header
from gonogo.schema import Frame, Mask

MEMORY_BYTES = 1 << 30
"""Memory for one picture, on top of the memory of the idle process."""
CPU_S = 10
"""Processor time for one picture; 64 megapixels in any supported format took less than half of it when measured."""
WALL_S = 90.0
"""Longest wait for one picture, in seconds; exceeded only if the machine is stalled."""
MOST_PROCESSES = 4
_PROGRAM = "from gonogo.images.confined import serve_decoder; serve_decoder()"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_PIPE_BYTES = 1 << 20


class CostlyImageError(ImageError):
    """Decoding a picture exceeded the limit on time or memory."""


def decode_confined(data: bytes, *, name: str = "picture", depth: Depth | None = None) -> Frame:
    """Decode like `gonogo.images.decode`, in a process with limited memory and time.

    Raises:
        ImageError: See `gonogo.images.decode`.
        CostlyImageError: Decoding exceeded the limit on time or memory.
    """
    asked = {} if depth is None else {"black": depth.black, "white": depth.white}
    return _pool.ask(data, {"name": name, **asked})


def decode_raw_confined(data: bytes, *, name: str = "picture") -> UInt16[np.ndarray, "height width"] | None:
    """Decode like `gonogo.images.decode_raw`, in a process with limits; see `decode_confined`."""
    if not read_header(data, name=name).deep_grey:
        return None
    found: np.ndarray = _pool.ask(data, {"name": name, "raw": True})
    return found if found.dtype == np.uint16 else None


def load_confined(path: str | os.PathLike[str], *, depth: Depth | None = None) -> Frame:
    """Read and decode like `gonogo.images.load_picture`, in a process with limits; see `decode_confined`."""
    return decode_confined(read_bytes(path), name=str(path), depth=depth)


def load_mask_confined(path: str | os.PathLike[str], *, shape_hw: tuple[int, int] | None = None) -> Mask:
    """Read a mask like `gonogo.images.load_mask`, in a process with limits; see `decode_confined`."""
    return mask_of(load_confined(path), path, shape_hw=shape_hw)


class _Worker:
    """A decoding process; decodes one picture at a time."""

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

    def ask(self, data: bytes, asked: dict[str, Any]) -> tuple[dict[str, Any], bytearray]:
        """Decode a picture; return the answer and the frame's bytes.

        Raises:
            EOFError: The process ended.
            TimeoutError: The process did not answer in time.
        """
        deadline = time.monotonic() + WALL_S
        try:
            _send(self._to, {**asked, "bytes": len(data)}, data)
        except OSError as error:  # the process ended, while idle or on this picture
            raise EOFError from error
        answer = json.loads(self._read(int.from_bytes(self._read(4, deadline), "big"), deadline))
        return answer, self._read(answer.get("bytes", 0), deadline)

    def end(self) -> int:
        """End the process and return its exit status."""
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
    """Idle decoding processes; started on demand, one per concurrent caller."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(min(MOST_PROCESSES, os.cpu_count() or 1))

    def ask(self, data: bytes, asked: dict[str, Any]) -> np.ndarray:
        name = asked["name"]
        with self._free:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            if worker is None or worker.process.poll() is not None:
                worker = _started()
            with contextlib.ExitStack() as unanswered:  # the process may be in the middle of a picture: never reused
                unanswered.callback(_status_of, worker)
                try:
                    answer, pixels = worker.ask(data, asked)
                except EOFError:
                    raise _ended(name, _status_of(worker)) from None
                except TimeoutError:
                    raise CostlyImageError(f"{name}: decoding did not finish within {WALL_S:.0f} s.") from None
                unanswered.pop_all()
            with self._lock:
                self._idle.append(worker)
        if "error" in answer:
            raise (CostlyImageError if answer["costly"] else ImageError)(answer["error"])
        return np.frombuffer(pixels, answer["dtype"]).reshape(answer["shape"])

    def close(self) -> None:
        """End all idle processes."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()


def serve_decoder() -> None:
    """Main loop of a decoding process: read a picture, answer with its frame or an error."""
    import cv2

    cv2.setNumThreads(1)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # keeps a decoder's output to stdout out of the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    decode(_TINY_PNG)  # loads lazy imports before memory is limited
    sys.dont_write_bytecode = True
    _confine()
    while head := sys.stdin.buffer.read(4):
        asked = json.loads(sys.stdin.buffer.read(int.from_bytes(head, "big")))
        data = sys.stdin.buffer.read(asked["bytes"])
        _allow_cpu()
        _answer(answers, data, asked)


def _answer(answers: IO[bytes], data: bytes, asked: dict[str, Any]) -> None:
    name = asked["name"]
    depth = Depth(black=asked["black"], white=asked["white"]) if "black" in asked else None
    try:
        raw = decode_raw(data, name=name, limits=PictureLimits()) if "raw" in asked else None
        frame = decode(data, name=name, limits=PictureLimits(), depth=depth) if raw is None else raw
    except MemoryError:
        _send(answers, {"error": _needs_memory(name), "costly": True})
    except ImageError as error:
        costly = "Insufficient memory" in str(error)  # OpenCV's words
        _send(answers, {"error": _needs_memory(name) if costly else str(error), "costly": costly})
    else:
        about = {"shape": frame.shape, "dtype": frame.dtype.name, "bytes": frame.nbytes}
        _send(answers, about, np.ascontiguousarray(frame).tobytes())


def _send(to: IO[bytes], answer: dict[str, Any], data: bytes | memoryview = b"") -> None:
    head = json.dumps(answer).encode()
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
    """Extend the limit on processor time for one more picture; the kernel ends the process beyond it."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime) + 1 + CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _started() -> _Worker:
    try:
        return _Worker()
    except OSError as error:
        raise ImageError(f"cannot start a decoding process ({error}). Free some memory.") from error


def _status_of(worker: _Worker) -> int:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return worker.process.wait(0.5)  # a process that ended has a meaningful status
    return worker.end()


def _ended(name: str, status: int) -> ImageError:
    if status == -signal.SIGXCPU:
        return CostlyImageError(
            f"{name}: decoding took more than {CPU_S} s of processor time, the limit for one picture. Save it again."
        )
    return CostlyImageError(
        f"{name}: the decoding process exited unexpectedly (status {status}). The file may be damaged."
    )


def _needs_memory(name: str) -> str:
    return f"{name}: decoding needs more than {MEMORY_BYTES:,} bytes of memory, the limit for one picture."


def _widen(pipe: int) -> None:
    import fcntl

    with contextlib.suppress(OSError, AttributeError):  # a smaller pipe is only slower
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _renew() -> None:
    """Reset the pool after a fork, because a child must not share the pipes of its parent."""
    global _pool
    _pool = _Pool()


_TINY_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001f61738550000"
    "000049454e44ae426082"
)
_pool = _Pool()
os.register_at_fork(after_in_child=_renew)
atexit.register(lambda: _pool.close())
