"""Decoding of untrusted pictures in separate processes with limited memory and time.

Headers are checked against the limits first, as everywhere. A decoder that still loops forever or exhausts the memory
then ends one small process instead of the program: each process has a memory limit and a limit on processor time per
picture, and cannot open files or connections; on Windows it has only a limit on the time. Frames come back in shared
memory on Linux, elsewhere through a pipe.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import mmap
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from gonogo.array_types import UInt16
from gonogo.config import Depth, PictureLimits, Reduction
from gonogo.errors import ImageError
from gonogo.images.codec import decode_raw, decode_sized
from gonogo.images.headers import read_header
from gonogo.schema import Frame

MEMORY_BYTES = 1 << 30
"""Memory for one picture, on top of the memory of the idle process."""
CPU_S = 10
"""Processor time for one picture; 64 megapixels in any supported format took less than half of it when measured."""
WALL_S = 90.0
"""Longest wait for one picture, in seconds; exceeded only if the machine is stalled."""
MOST_PROCESSES = 4
_PROGRAM = "from gonogo.images.confined import serve_decoder; serve_decoder()"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_RETURN_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "16777216"}
"""For glibc: otherwise it keeps the memory of a large picture, on which that of the next one comes."""
_PIPE_BYTES = 1 << 20
_SHARED_BYTES = 3 * PictureLimits().max_pixels
_KEPT_BYTES = 32_000_000
"""Shared memory that stays taken between two pictures."""


class CostlyImageError(ImageError):
    """Decoding a picture exceeded the limit on time or memory."""


def decode_confined(
    data: bytes, *, name: str = "picture", limits: PictureLimits | None = None, depth: Depth | None = None
) -> Frame:
    """Decode like `gonogo.images.decode`, in a process with limited memory and time.

    Raises:
        ImageError: See `gonogo.images.decode`.
        CostlyImageError: Decoding exceeded the limit on time or memory.
    """
    return decode_sized_confined(data, name=name, limits=limits, depth=depth)[0]


def decode_sized_confined(
    data: bytes,
    *,
    name: str = "picture",
    limits: PictureLimits | None = None,
    reduction: Reduction = 1,
    depth: Depth | None = None,
) -> tuple[Frame, tuple[int, int]]:
    """Decode like `gonogo.images.codec.decode_sized`, in a process with limits; see `decode_confined`."""
    asked = {
        "name": name,
        "limits": (limits or PictureLimits()).model_dump(),
        "reduction": reduction,
        "depth": None if depth is None else depth.model_dump(),
    }
    frame, (width, height) = _pool.ask(data, asked)
    return frame, (width, height)


def decode_raw_confined(data: bytes, *, name: str = "picture") -> UInt16[np.ndarray, "height width"] | None:
    """Decode like `gonogo.images.decode_raw`, in a process with limits; see `decode_confined`."""
    if not read_header(data, name=name).deep_grey:
        return None
    found, _ = _pool.ask(data, {"name": name, "raw": True})
    return found if found.dtype == np.uint16 else None


def start() -> None:
    """Start a decoding process, so that the first picture does not wait for it."""
    _pool.start()


class _Worker:
    """A decoding process; decodes one picture at a time."""

    def __init__(self) -> None:
        self._shared = _Shared.made()
        passed = () if self._shared is None else (self._shared.file,)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, *(f"{file} {_SHARED_BYTES}" for file in passed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, **_ONE_THREAD, **_RETURN_MEMORY},
            pass_fds=passed,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._to, self._from = self.process.stdin, self.process.stdout
        for pipe in (self._to, self._from):
            _widen(pipe.fileno())

    def ask(self, data: bytes, asked: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
        """Decode a picture; return the answer and the frame, which is empty if there is an error.

        Raises:
            EOFError: The process ended.
            TimeoutError: The process did not answer in time.
        """
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(WALL_S, give_up)
        timer.daemon = True
        timer.start()
        try:
            _send(self._to, {**asked, "bytes": len(data)}, data)
            answer = json.loads(self._read(int.from_bytes(self._read(4), "big")))
            return answer, self._frame(answer)
        except (OSError, EOFError) as error:  # the process ended, while idle or on this picture
            raise (TimeoutError if late.is_set() else EOFError)() from error
        finally:
            timer.cancel()

    def end(self) -> int:
        """End the process and return its exit status."""
        self.process.kill()
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError):
                pipe.close()
        if self._shared is not None:
            self._shared.close()
        return self.process.wait()

    def _frame(self, answer: dict[str, Any]) -> np.ndarray:
        size, shape = answer.get("bytes", 0), answer.get("shape", [0])
        if answer.get("shared") and self._shared is not None:
            return self._shared.taken(size, answer["dtype"], shape)
        return np.frombuffer(self._read(size), answer.get("dtype", "uint8")).reshape(shape)

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < size:
            count = self._from.readinto(view[at:])  # type: ignore[attr-defined]  # a raw pipe, see bufsize
            if not count:
                raise EOFError
            at += count
        return data


class _Shared:
    """Memory that a decoding process and its parent share; frames that are larger go through the pipe."""

    def __init__(self, file: int, size: int) -> None:
        self.file, self.size = file, size
        self._map = mmap.mmap(file, size)

    @classmethod
    def made(cls) -> _Shared | None:
        """Make some; ``None`` where the system cannot."""
        if sys.platform != "linux":
            return None
        try:
            file = os.memfd_create("frames")
            os.ftruncate(file, _SHARED_BYTES)  # takes no memory until it is written
            return cls(file, _SHARED_BYTES)
        except OSError:
            return None

    def put(self, frame: np.ndarray) -> bool:
        """Copy a frame into it; return whether it fits."""
        if frame.nbytes > self.size:
            return False
        np.frombuffer(self._map, frame.dtype, frame.size).reshape(frame.shape)[...] = frame
        return True

    def taken(self, size: int, dtype: str, shape: list[int]) -> np.ndarray:
        """Copy the frame out of it, and give the memory of a large one back."""
        frame = np.frombuffer(self._map, dtype, size // np.dtype(dtype).itemsize).reshape(shape).copy()
        if size > _KEPT_BYTES:
            os.ftruncate(self.file, 0)
            os.ftruncate(self.file, self.size)
        return frame

    def close(self) -> None:
        """Release it."""
        with contextlib.suppress(OSError):
            os.close(self.file)


class _Pool:
    """Idle decoding processes; started on demand, one per concurrent caller."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(min(MOST_PROCESSES, os.cpu_count() or 1))

    def ask(self, data: bytes, asked: dict[str, Any]) -> tuple[np.ndarray, tuple[int, int]]:
        name = asked["name"]
        with self._free:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            if worker is None or worker.process.poll() is not None:
                worker = _started()
            with contextlib.ExitStack() as unanswered:  # the process may be in the middle of a picture: never reused
                unanswered.callback(_status_of, worker)
                try:
                    answer, frame = worker.ask(data, asked)
                except EOFError:
                    raise _ended(name, _status_of(worker)) from None
                except TimeoutError:
                    raise CostlyImageError(f"{name}: decoding did not finish within {WALL_S:.0f} s.") from None
                unanswered.pop_all()
            with self._lock:
                self._idle.append(worker)
        if "error" in answer:
            raise (CostlyImageError if answer["costly"] else ImageError)(answer["error"])
        return frame, tuple(answer["size_wh"])

    def start(self) -> None:
        """Start one, unless one is idle."""
        with self._lock:
            if not self._idle:
                self._idle.append(_started())

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
    shared = _Shared(*map(int, sys.argv[1].split())) if len(sys.argv) > 1 else None
    _import_decoders()
    sys.dont_write_bytecode = True
    idle_bytes = _confine()
    while head := sys.stdin.buffer.read(4):
        asked = json.loads(sys.stdin.buffer.read(int.from_bytes(head, "big")))
        data = sys.stdin.buffer.read(asked["bytes"])
        limits = PictureLimits(**asked.get("limits", {}))
        _allow(limits, idle_bytes)
        _answer(answers, data, asked, limits, shared)


def _answer(
    answers: IO[bytes], data: bytes, asked: dict[str, Any], limits: PictureLimits, shared: _Shared | None
) -> None:
    name = asked["name"]
    try:
        frame, size_wh = _decoded(data, asked, limits)
    except MemoryError:
        _send(answers, {"error": _needs_memory(name), "costly": True})
    except ImageError as error:
        costly = "Insufficient memory" in str(error)  # OpenCV's words
        _send(answers, {"error": _needs_memory(name) if costly else str(error), "costly": costly})
    else:
        about = {"shape": frame.shape, "dtype": frame.dtype.name, "bytes": frame.nbytes, "size_wh": size_wh}
        if shared is not None and shared.put(frame):
            _send(answers, {**about, "shared": True})
        else:
            _send(answers, about, np.ascontiguousarray(frame).data.cast("B"))


def _decoded(data: bytes, asked: dict[str, Any], limits: PictureLimits) -> tuple[np.ndarray, tuple[int, int]]:
    name, depth = asked["name"], asked.get("depth")
    raw = decode_raw(data, name=name, limits=limits) if "raw" in asked else None
    if raw is not None:
        return raw, (raw.shape[1], raw.shape[0])
    levels = None if depth is None else Depth(**depth)
    return decode_sized(data, name=name, limits=limits, reduction=asked.get("reduction", 1), depth=levels)


def _import_decoders() -> None:
    """Import everything that a picture may need, because no file can be opened afterwards."""
    decode_sized(_TINY_PNG)
    Image.init()
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False)


def _send(to: IO[bytes], answer: dict[str, Any], data: bytes | memoryview = b"") -> None:
    head = json.dumps(answer).encode()
    for piece in (len(head).to_bytes(4, "big") + head, data):
        view = memoryview(piece)
        while view:
            view = view[os.write(to.fileno(), view[:_PIPE_BYTES]) :]


def _confine() -> int:
    """Take away what decoding does not need; return the memory of the idle process, in bytes."""
    if sys.platform == "win32":
        return 0
    import resource

    pages = Path("/proc/self/statm")
    idle_bytes = int(pages.read_text().split()[0]) * mmap.PAGESIZE if pages.exists() else 0  # 0 elsewhere than Linux
    for what in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_NOFILE):
        resource.setrlimit(what, (0, 0))
    return idle_bytes


def _allow(limits: PictureLimits, idle_bytes: int) -> None:
    """Allow the memory and the processor time of one more picture; the kernel ends the process beyond them.

    Both grow with limits that an engineer raised in a recipe.
    """
    if sys.platform == "win32":
        return
    import resource

    usual = PictureLimits()
    if idle_bytes:
        memory = idle_bytes + max(MEMORY_BYTES, 2 * limits.max_decoded_bytes)
        resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = CPU_S * max(1.0, limits.max_pixels / usual.max_pixels)
    most = int(used.ru_utime + used.ru_stime + cpu_s) + 1
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
    if status == -getattr(signal, "SIGXCPU", 0):
        return CostlyImageError(
            f"{name}: decoding took more than {CPU_S} s of processor time, the limit for one picture. Save it again."
        )
    return CostlyImageError(
        f"{name}: the decoding process exited unexpectedly (status {status}). The file may be damaged."
    )


def _needs_memory(name: str) -> str:
    return f"{name}: decoding needs more than {MEMORY_BYTES:,} bytes of memory, the limit for one picture."


def _widen(pipe: int) -> None:
    if sys.platform != "linux":
        return
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
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
atexit.register(lambda: _pool.close())
