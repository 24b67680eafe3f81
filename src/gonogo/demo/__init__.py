"""Demos of the whole workflow, on rendered parts or on real photographs from a package."""

from __future__ import annotations

from gonogo.demo.photos import PhotoDemo, run_photo_demo, write_photos
from gonogo.demo.rendered import OPTIONS, run_demo
from gonogo.demo.steps import Demo

__all__ = ["OPTIONS", "Demo", "PhotoDemo", "run_demo", "run_photo_demo", "write_photos"]
