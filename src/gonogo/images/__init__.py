"""Pictures: safe decoding and encoding, and the cropping of regions that training and inspection share."""

from gonogo.images.codec import (
    decode,
    decode_raw,
    decode_sized,
    encode_jpeg,
    encode_png,
    find,
    others,
    read_bytes,
    reduce,
)
from gonogo.images.confined import CostlyImageError, decode_confined
from gonogo.images.depth import levelled, measured_levels
from gonogo.images.headers import FORMATS, SUFFIXES, Header, read_header
from gonogo.images.loading import load_confined, load_mask, load_mask_confined, load_picture
from gonogo.images.photograph import Photograph
from gonogo.images.regions import crop_resize, cut, in_frame, pixel_window, rectify, seen_region, within

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "CostlyImageError",
    "Header",
    "Photograph",
    "crop_resize",
    "cut",
    "decode",
    "decode_confined",
    "decode_raw",
    "decode_sized",
    "encode_jpeg",
    "encode_png",
    "find",
    "in_frame",
    "levelled",
    "load_confined",
    "load_mask",
    "load_mask_confined",
    "load_picture",
    "measured_levels",
    "others",
    "pixel_window",
    "read_bytes",
    "read_header",
    "rectify",
    "reduce",
    "seen_region",
    "within",
]
