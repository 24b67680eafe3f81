"""Cameras: one interface, its implementations, and health checks for pictures.

``Camera.acquire(trigger_id, timeout_s=...)`` returns an `Acquired` picture or raises a `CaptureError`. `HealthCheck`
refuses frozen, dark, saturated, blurred and wrongly sized pictures before they are judged.
"""

from gonogo.capture.camera import Acquired, Camera, CaptureError, Trouble
from gonogo.capture.deliveries import Matching
from gonogo.capture.folder import FolderCamera
from gonogo.capture.genicam import GenicamCamera
from gonogo.capture.health import HealthCheck, HealthLimits, PictureFacts, measure, suggest_limits
from gonogo.capture.matching import MatchingCamera, PictureMatcher
from gonogo.capture.push import PushCamera
from gonogo.capture.repeating import RepeatingCamera
from gonogo.capture.settings import CameraSettings, open_camera, read_token
from gonogo.capture.video import LiveVideo, VideoFile, rtsp, v4l2

__all__ = [
    "Acquired",
    "Camera",
    "CameraSettings",
    "CaptureError",
    "FolderCamera",
    "GenicamCamera",
    "HealthCheck",
    "HealthLimits",
    "LiveVideo",
    "Matching",
    "MatchingCamera",
    "PictureFacts",
    "PictureMatcher",
    "PushCamera",
    "RepeatingCamera",
    "Trouble",
    "VideoFile",
    "measure",
    "open_camera",
    "read_token",
    "rtsp",
    "suggest_limits",
    "v4l2",
]
