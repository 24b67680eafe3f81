from __future__ import annotations

import hashlib
import http.client
import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from gonogo import images
from gonogo.capture import (
    CaptureError,
    FolderCamera,
    GenicamCamera,
    HealthCheck,
    HealthLimits,
    LiveVideo,
    Matching,
    PushCamera,
    Trouble,
    VideoFile,
    measure,
    suggest_limits,
)
from gonogo.capture.genicam import to_rgb
from gonogo.capture.push import CAPTURED_AT
from gonogo.config import PictureLimits, Recipe
from gonogo.errors import ImageError, InputError
from gonogo.images.health import focus_grid
from gonogo.schema import Frame
from gonogo.synthetic import render_scene
from gonogo.testing import FakeCamera, Mishap, fake_frame, spoil


def _trouble(camera: object, trigger_id: str = "A1", timeout_s: float = 0.05) -> Trouble:
    with pytest.raises(CaptureError) as caught:
        camera.acquire(trigger_id, timeout_s=timeout_s).unpacked(Recipe())  # type: ignore[attr-defined]
    return caught.value.trouble


# --- what a picture must be


@pytest.mark.slow
@pytest.mark.parametrize("size_wh", [(640, 480), (1280, 960)])
def test_rendered_boards_pass_the_default_limits_and_their_spoiled_pictures_do_not(size_wh: tuple[int, int]) -> None:
    expected = {Mishap.DARK: Trouble.DARK, Mishap.SATURATED: Trouble.SATURATED, Mishap.BLURRED: Trouble.BLURRED}
    for number, difficulty in enumerate((0.0, 0.5, 1.0)):
        frame = render_scene(number, difficulty=difficulty, size_wh=size_wh).frame
        HealthCheck(HealthLimits()).require(frame)
        for mishap, trouble in expected.items():
            with pytest.raises(CaptureError) as caught:
                HealthCheck(HealthLimits()).require(spoil(frame, mishap))
            assert caught.value.trouble is trouble


def test_the_same_picture_twice_is_frozen_and_one_grey_level_of_noise_is_not(frame: Frame) -> None:
    limits = HealthLimits(sharpness=0.0)
    check, noisy = HealthCheck(limits), frame.copy()
    noisy[64, 5, 0] ^= 1
    check.require(frame)
    check.require(noisy)
    with pytest.raises(CaptureError) as caught:
        check.require(noisy.copy())
    assert caught.value.trouble is Trouble.FROZEN


def test_a_difference_outside_the_compared_rows_still_tells_two_pictures_apart(frame: Frame) -> None:
    check, other = HealthCheck(HealthLimits(sharpness=0.0)), frame.copy()
    other[37, 3, 1] ^= 1
    check.require(frame)
    check.require(other)


def test_a_picture_of_another_size_is_refused(frame: Frame) -> None:
    with pytest.raises(CaptureError, match="expected 640 x 480 pixels, found 160 x 120"):
        HealthCheck(HealthLimits(size_wh=(640, 480))).require(frame)


def test_a_picture_without_contrast_has_no_sharpness_and_is_not_called_blurred() -> None:
    grey = np.full((100, 120, 3), 120, np.uint8)
    assert measure(grey).sharpness is None
    HealthCheck(HealthLimits()).require(grey)


def test_sharpness_falls_as_the_lens_defocuses_and_not_with_the_exposure() -> None:
    frame = render_scene(3).frame
    sharp, darker = measure(frame).sharpness, measure((frame // 2).astype(np.uint8)).sharpness
    blurred = measure(spoil(frame, Mishap.BLURRED)).sharpness
    assert sharp is not None
    assert darker is not None
    assert blurred is not None
    assert blurred < 0.5 * sharp
    assert darker == pytest.approx(sharp, rel=0.1)


def test_a_tiny_picture_can_be_measured() -> None:
    assert measure(np.zeros((1, 1, 3), np.uint8)).brightest == 0.0


@pytest.mark.slow
def test_suggested_limits_keep_every_good_picture_and_refuse_its_spoiled_ones() -> None:
    frames = [render_scene(number).frame for number in range(3)]
    limits = suggest_limits(frames)
    assert limits.size_wh == (640, 480)
    for frame in frames:
        HealthCheck(limits).require(frame)
        for mishap in (Mishap.DARK, Mishap.SATURATED, Mishap.BLURRED, Mishap.WRONG_SIZE):
            with pytest.raises(CaptureError):
                HealthCheck(limits).require(spoil(frame, mishap))


def test_limits_cannot_be_suggested_from_nothing() -> None:
    with pytest.raises(InputError, match="at least one good picture"):
        suggest_limits([])


# --- folders


def _put(folder: Path, name: str, frame: Frame) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(images.encode_png(frame))
    return path


def test_a_folder_gives_the_picture_named_as_the_trigger_and_moves_it_on(tmp_path: Path, frame: Frame) -> None:
    camera = FolderCamera(tmp_path, stable_s=0.0)
    _put(tmp_path, "A1.png", frame)
    _put(tmp_path, "A2.PNG", frame)
    first = camera.acquire("A1", timeout_s=0.1)
    assert np.array_equal(first.photograph.frame, frame)
    assert first.photograph.data == (tmp_path / "A1.png").read_bytes()
    camera.settle("A1", stored=True)
    second = f"A2.PNG#{hashlib.sha256((tmp_path / 'A2.PNG').read_bytes()).hexdigest()[:12]}"
    camera.acquire(second, timeout_s=0.1)
    camera.settle(second, stored=False)
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*.*"))] == [
        "done/A1.png",
        "failed/A2.PNG",
    ]


def test_a_picture_that_is_settled_without_being_read_moves_on_too(tmp_path: Path, frame: Frame) -> None:
    _put(tmp_path, "A1.png", frame)
    FolderCamera(tmp_path).settle("A1", stored=True)
    assert (tmp_path / "done" / "A1.png").is_file()


def test_a_used_name_is_never_overwritten_when_pictures_move_on(tmp_path: Path, frame: Frame) -> None:
    camera = FolderCamera(tmp_path, stable_s=0.0)
    for _ in range(3):
        _put(tmp_path, "A1.png", frame)
        camera.acquire("A1", timeout_s=0.1)
        camera.settle("A1", stored=True)
    assert {path.name for path in (tmp_path / "done").iterdir()} == {"A1.png", "A1-2.png", "A1-3.png"}


def test_a_growing_file_is_not_read_before_it_is_complete(tmp_path: Path, frame: Frame) -> None:
    data = images.encode_png(frame)
    path = tmp_path / "A1.png"
    path.write_bytes(data[:100])

    def grow() -> None:
        for end in range(200, len(data) + 100, max(100, len(data) // 5)):
            time.sleep(0.03)
            path.write_bytes(data[:end])
        path.write_bytes(data)

    writer = threading.Thread(target=grow)
    writer.start()
    acquired = FolderCamera(tmp_path, stable_s=1.0).acquire("A1", timeout_s=60.0)
    writer.join()
    assert np.array_equal(acquired.photograph.frame, frame)


def test_missing_pictures_missing_folders_and_damaged_pictures_are_told_apart(tmp_path: Path) -> None:
    camera = FolderCamera(tmp_path, stable_s=0.0)
    assert _trouble(camera) is Trouble.NO_FRAME
    (tmp_path / "A1.png").write_bytes(b"not a picture")
    assert _trouble(camera) is Trouble.UNREADABLE
    camera.settle("A1", stored=False)
    assert (tmp_path / "failed" / "A1.png").is_file()
    assert _trouble(FolderCamera(tmp_path / "gone")) is Trouble.CAMERA_LOST


@pytest.mark.parametrize("name", ["../A1", ".hidden", "#x", "a/b"])
def test_a_trigger_cannot_lead_out_of_the_folder(tmp_path: Path, frame: Frame, name: str) -> None:
    _put(tmp_path, "A1.png", frame)
    _put(tmp_path / "in", ".hidden", frame)
    assert _trouble(FolderCamera(tmp_path / "in", stable_s=0.0), name) is Trouble.NO_FRAME


def _quiet(folder: Path, **changes: object) -> FolderCamera:
    """A camera for pictures of any name, whose start lies long enough back."""
    rule = Matching.model_validate({"any_name": True, "latest_s": 0.3, **changes})
    camera = FolderCamera(folder, matching=rule, stable_s=0.0)
    time.sleep(0.35)
    return camera


def _soon(do: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(0.05, do)
    timer.start()
    return timer


def test_by_any_name_a_trigger_takes_the_picture_that_comes_after_it(tmp_path: Path, frame: Frame) -> None:
    _put(tmp_path, "stale.png", frame)
    camera = _quiet(tmp_path)
    assert (tmp_path / "failed" / "stale.png").is_file()
    timer = _soon(lambda: _put(tmp_path, "z.png", frame))
    assert camera.acquire("T1", timeout_s=5.0).path == tmp_path / "z.png"
    timer.join()
    camera.settle("T1", stored=True)
    assert (tmp_path / "done" / "z.png").is_file()


def test_by_any_name_a_leftover_is_put_aside_and_never_given_to_the_next_part(tmp_path: Path, frame: Frame) -> None:
    camera = _quiet(tmp_path)
    assert _trouble(camera, "T1") is Trouble.NO_FRAME
    _put(tmp_path, "of-t1.png", frame)
    assert _trouble(camera, "T2") in (Trouble.NO_FRAME, Trouble.UNMATCHED)
    assert (tmp_path / "failed" / "of-t1.png").is_file()
    assert camera.matcher.counts()["late"] == 1


def test_by_any_name_a_trigger_whose_name_a_picture_carries_takes_that_one(tmp_path: Path, frame: Frame) -> None:
    camera = _quiet(tmp_path)
    for name in ("T2", "T1"):
        _put(tmp_path, f"{name}.png", frame + (name == "T1"))
    assert camera.acquire("T1", timeout_s=0.1).path == tmp_path / "T1.png"


def test_a_modification_time_is_a_capture_time_only_where_the_settings_say_so(tmp_path: Path, frame: Frame) -> None:
    camera = FolderCamera(tmp_path, mtime_is_capture_time=True, stable_s=0.0)
    came_s = time.monotonic()
    camera.matcher.expect("T1", came_s=came_s, window_s=0.2)
    _put(tmp_path, "early.png", frame)
    os.utime(tmp_path / "early.png", (time.time() - 60, time.time() - 60))
    _put(tmp_path, "right.png", frame + 1)
    os.utime(tmp_path / "right.png", ns=(time.time_ns(), time.time_ns()))
    assert camera.acquire("T1", timeout_s=5.0).path == tmp_path / "right.png"


def test_a_folder_picture_replaced_since_its_trigger_is_not_judged_under_it(tmp_path: Path, frame: Frame) -> None:
    camera = FolderCamera(tmp_path, stable_s=0.0)
    path = _put(tmp_path, "A.png", frame)
    first = f"A.png#{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    _put(tmp_path, "A.png", frame + 1)
    second = f"A.png#{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    assert _trouble(camera, first) is Trouble.UNMATCHED
    camera.settle(first, stored=True)
    assert path.is_file()
    assert camera.acquire(second, timeout_s=0.1).path == path


def test_a_picture_that_comes_under_a_name_in_use_waits_for_its_own_trigger(tmp_path: Path, frame: Frame) -> None:
    camera = FolderCamera(tmp_path, stable_s=0.0)
    path = _put(tmp_path, "A.png", frame)
    camera.acquire("A", timeout_s=0.1)
    path.unlink()
    _put(tmp_path, "A.png", frame + 1)
    camera.settle("A", stored=True)
    assert not (tmp_path / "done" / "A.png").exists()


def test_late_pictures_of_finished_triggers_leave_the_folder_and_are_counted(tmp_path: Path, frame: Frame) -> None:
    camera = FolderCamera(tmp_path, stable_s=0.0)
    assert _trouble(camera, "A") is Trouble.NO_FRAME
    _put(tmp_path, "A.png", frame)
    _put(tmp_path, "B.png", frame)
    camera.settle("B", stored=False)
    assert (tmp_path / "failed" / "A.png").is_file()
    assert camera.matcher.counts()["late"] == 1


# --- HTTP push


def _post(port: int, path: str, body: bytes, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("POST", path, body=body, headers=headers)
    return connection.getresponse().status


def test_pushed_pictures_find_their_triggers_whatever_the_order(frame: Frame) -> None:
    camera, dark = PushCamera(token="secret").start(), (frame // 2).astype(np.uint8)
    try:
        data, allowed = images.encode_png(frame), {"Authorization": "Bearer secret"}
        assert _post(camera.port, "/frames/B", images.encode_png(dark), **allowed) == 202
        assert _post(camera.port, "/frames/A", data, **allowed) == 202
        assert camera.acquire("A", timeout_s=0.1).photograph.data == data
        assert np.array_equal(camera.acquire("B", timeout_s=0.1).photograph.frame, dark)
        assert _post(camera.port, "/frames", data, **allowed) == 400
        assert _trouble(camera, "D") is Trouble.NO_FRAME
    finally:
        camera.close()


def test_a_pushed_picture_belongs_to_the_trigger_before_its_stated_capture_time(frame: Frame) -> None:
    camera = PushCamera().start()
    try:
        data = images.encode_png(frame)
        camera.matcher.expect("A", came_s=time.monotonic(), window_s=10.0)
        stated = datetime.now(UTC).isoformat()
        assert (
            _post(camera.port, "/frames", images.encode_png(frame + 1), **{CAPTURED_AT: "2020-01-01T00:00:00Z"}) == 202
        )
        assert _post(camera.port, "/frames", data, **{CAPTURED_AT: stated}) == 202
        assert _post(camera.port, "/frames", data, **{CAPTURED_AT: "yesterday"}) == 400
        assert _post(camera.port, "/frames", data, **{CAPTURED_AT: "2026-01-31T14:00:00"}) == 400
        assert camera.acquire("A", timeout_s=5.0).photograph.data == data
    finally:
        camera.close()


def test_a_late_pushed_picture_is_not_the_next_parts(frame: Frame) -> None:
    camera = PushCamera(matching=Matching(any_name=True, latest_s=0.3)).start()
    try:
        time.sleep(0.35)
        assert _trouble(camera, "T1") is Trouble.NO_FRAME
        timer = _soon(lambda: _post(camera.port, "/frames", images.encode_png(frame)))
        assert _trouble(camera, "T2", timeout_s=1.0) in (Trouble.UNMATCHED, Trouble.NO_FRAME)
        timer.join()
    finally:
        camera.close()


def test_pictures_that_are_still_being_sent_count_against_the_memory(frame: Frame) -> None:
    camera = PushCamera(matching=Matching(max_waiting_mb=1)).start()
    try:
        with socket.create_connection(("127.0.0.1", camera.port)) as slow:
            slow.sendall(b"POST /frames/A HTTP/1.1\r\nContent-Length: 900000\r\n\r\n")
            while (ticket := camera.matcher.reserve(200_000)) is not None:
                camera.matcher.release(ticket)
                time.sleep(0.01)
            assert _post(camera.port, "/frames/B", b"x" * 200_000) == 503
    finally:
        camera.close()


def test_a_push_without_token_without_place_too_large_or_too_many_is_refused(frame: Frame) -> None:
    camera = PushCamera(
        token="secret", matching=Matching(max_waiting=1), limits=PictureLimits(max_file_bytes=100_000)
    ).start()
    try:
        allowed = {"Authorization": "Bearer secret"}
        assert _post(camera.port, "/frames/A", b"x") == 401
        assert _post(camera.port, "/frames/A", b"x", Authorization="Bearer wrong") == 401
        assert _post(camera.port, "/elsewhere", b"x", **allowed) == 404
        assert _post(camera.port, "/frames/A", b"x" * 100_001, **allowed) == 413
        assert _post(camera.port, "/frames/A", b"", **allowed) == 413
        assert _post(camera.port, "/frames/A", b"not a picture", **allowed) == 202
        assert _post(camera.port, "/frames/B", b"x", **allowed) == 503
        assert _trouble(camera, "A") is Trouble.UNREADABLE
    finally:
        camera.close()


# --- video


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for shade in (40, 120, 200):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), shade, np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def test_a_video_file_gives_its_frames_in_turn_and_then_no_more(film: Path) -> None:
    camera = VideoFile(str(film))
    assert [int(camera.acquire(str(i), timeout_s=1).photograph.frame[0, 0, 0]) for i in range(3)] == [40, 120, 200]
    assert _trouble(camera) is Trouble.NO_FRAME
    endless = VideoFile(str(film), loop=True)
    assert [int(endless.acquire(str(i), timeout_s=1).photograph.frame[0, 0, 0]) for i in range(4)] == [40, 120, 200, 40]


def test_a_video_larger_than_the_limits_or_missing_is_refused(film: Path, tmp_path: Path) -> None:
    assert _trouble(VideoFile(str(film), limits=PictureLimits(max_pixels=100))) is Trouble.WRONG_SIZE
    assert _trouble(VideoFile(str(tmp_path / "none.mkv"))) is Trouble.CAMERA_LOST


def test_a_stream_gives_the_frame_that_comes_after_the_trigger_and_is_opened_again_at_its_end(film: Path) -> None:
    camera = LiveVideo(str(film)).start()
    shades = [int(camera.acquire(str(number), timeout_s=30).photograph.frame[0, 0, 0]) for number in range(4)]
    camera.close()
    assert set(shades) <= {40, 120, 200}


def test_a_stream_that_cannot_be_opened_is_a_lost_camera(tmp_path: Path) -> None:
    camera = LiveVideo(str(tmp_path / "nothing")).start()
    time.sleep(0.05)
    assert _trouble(camera) is Trouble.CAMERA_LOST
    camera.close()


# --- GenICam


class _Aravis(SimpleNamespace):
    """As much of the binding as a camera needs."""

    class Error(RuntimeError):
        pass

    def __init__(self, *, frames: list[bytes | None], status: str = "ok") -> None:
        queue: list[object] = []

        def push(buffer: object) -> None:
            queue.append(buffer)

        def pop(_timeout_us: int) -> object:
            data = frames.pop(0)
            return (
                None
                if data is None
                else SimpleNamespace(
                    get_status=lambda: status,
                    get_image_width=lambda: 4,
                    get_image_height=lambda: 2,
                    get_data=lambda: data,
                )
            )

        stream = SimpleNamespace(push_buffer=push, timeout_pop_buffer=pop, try_pop_buffer=lambda: None)
        self.triggered = 0

        def trigger() -> None:
            self.triggered += 1

        camera = SimpleNamespace(
            set_pixel_format_from_string=lambda _: None,
            set_trigger=lambda _: None,
            get_payload=lambda: 8,
            create_stream=lambda *_: stream,
            start_acquisition=lambda: None,
            software_trigger=trigger,
            stop_acquisition=lambda: None,
        )
        super().__init__(
            Camera=SimpleNamespace(new=lambda _: camera),
            Buffer=SimpleNamespace(new_allocate=lambda _: object()),
            BufferStatus=SimpleNamespace(SUCCESS="ok"),
        )


def test_a_genicam_camera_is_triggered_once_for_each_picture() -> None:
    aravis = _Aravis(frames=[bytes(range(8)), None])
    camera = GenicamCamera(aravis=aravis)
    frame = camera.acquire("A", timeout_s=0.1).photograph.frame
    assert frame.shape == (2, 4, 3)
    assert frame[1, 3].tolist() == [7, 7, 7]
    assert aravis.triggered == 1
    assert _trouble(camera) is Trouble.NO_FRAME


def test_an_incomplete_genicam_frame_is_no_frame_and_an_unknown_format_is_refused() -> None:
    assert _trouble(GenicamCamera(aravis=_Aravis(frames=[bytes(8)], status="missing packets"))) is Trouble.NO_FRAME
    with pytest.raises(InputError, match="pixel_format: expected one of Mono8"):
        GenicamCamera(pixel_format="Mono9", aravis=_Aravis(frames=[]))


def test_bayer_pictures_keep_their_colours() -> None:
    red = np.zeros((8, 8), np.uint8)
    red[::2, ::2] = 200  # RGGB: red stands first
    frame = to_rgb(red.ravel(), (8, 8), "BayerRG8")
    assert frame[4, 4, 0] > 100
    assert frame[4, 4, 2] == 0
    bgr = np.arange(24, dtype=np.uint8)
    assert to_rgb(bgr, (4, 2), "BGR8")[0, 0].tolist() == [2, 1, 0]
    with pytest.raises(CaptureError):
        to_rgb(bgr, (8, 8), "Mono8")


# --- the fake


def test_the_fake_camera_does_each_mishap_on_demand() -> None:
    frames = [fake_frame(number) for number in range(3)]
    plan = [Mishap.NONE, Mishap.LOST, Mishap.DROP, Mishap.FREEZE, Mishap.DARK, Mishap.WRONG_SIZE]
    camera = FakeCamera.of(frames, plan)
    first = camera.acquire("1", timeout_s=0.01)
    assert _trouble(camera) is Trouble.CAMERA_LOST
    assert _trouble(camera) is Trouble.NO_FRAME
    assert camera.acquire("4", timeout_s=0.01).photograph.frame is first.photograph.frame
    assert camera.acquire("5", timeout_s=0.01).photograph.frame.max() < 16
    assert camera.acquire("6", timeout_s=0.01).photograph.frame.shape == (60, 160, 3)
    assert np.array_equal(camera.acquire("7", timeout_s=0.01).photograph.frame, frames[0])
    with pytest.raises(RuntimeError, match="crashed"):
        FakeCamera.of(frames, [Mishap.CRASH]).acquire("1", timeout_s=0.01)


def test_encoded_pictures_keep_their_bytes_and_spoiled_ones_do_not() -> None:
    data = images.encode_png(fake_frame(1))
    camera = FakeCamera(lambda _: data, lambda name: Mishap.DARK if name == "dark" else Mishap.NONE)
    assert camera.acquire("a", timeout_s=0.01).photograph.data == data
    assert camera.acquire("dark", timeout_s=0.01).photograph.data is None


def test_the_focus_grid_grows_with_the_focus_and_not_with_the_exposure() -> None:
    rng = np.random.default_rng(8)
    grey = cv2.normalize(cv2.GaussianBlur(rng.normal(0, 1, (300, 400)), (0, 0), 2), None, 20, 230, cv2.NORM_MINMAX)
    sharp = np.repeat(grey[..., None], 3, 2).astype(np.uint8)
    pictures = {"sharp": sharp, "soft": cv2.GaussianBlur(sharp, (0, 0), 3), "dim": (sharp * 0.6).astype(np.uint8)}
    grids = {name: focus_grid(frame) for name, frame in pictures.items()}
    values = {name: (sum(grid.edges) / sum(grid.contrast)) ** 0.5 for name, grid in grids.items()}
    assert values["soft"] < 0.7 * values["sharp"]
    assert values["dim"] == pytest.approx(values["sharp"], rel=0.1)
    assert len(grids["sharp"].edges) == len(grids["sharp"].contrast) == 12 * 9
    tiny = focus_grid(sharp[:5, :3])
    assert (tiny.columns, tiny.rows, len(tiny.edges)) == (1, 2, 2)
    with pytest.raises(ImageError):
        focus_grid(sharp[:0])
