"""Time of each stage of a judgement, and how it grows with picture size, regions and batch size."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np
import openvino as ov

from bench.clock import Times, take_turns
from bench.records import Row
from gonogo import images, runtime
from gonogo.heatmap import overlay
from gonogo.images import Photograph
from gonogo.inspector import Inspector
from gonogo.roi import ClassicalRoi
from gonogo.roi.classical import reduced_frame
from gonogo.roi.steps import describe_step
from gonogo.runtime import Graph
from gonogo.schema import Box, Frame, Located, Verdict

MEGAPIXELS = (0.3, 1.2, 5.0, 12.0, 20.0)
REGIONS = (1, 2, 4, 8)
BATCHES = (1, 2, 4, 8)
DRAWN_WIDTH = 448
"""Size of the heat map on a page."""


def bare_network(inspector: Inspector) -> Graph:
    """Compile the inspector's (first) network with the same settings."""
    return runtime.compile_graph(inspector.bundle.classifier, precision=inspector.bundle.manifest.precision)


def measure_stages(inspector: Inspector, encoded: bytes, *, repeats: int) -> list[Row]:
    """Time every stage from JPEG bytes to verdict, and the drawing of the heat map; ratio: share of the judgement.

    Stages are those that the verdict reports itself, and their shares are of the mean time, so that they add up to one;
    a classical region's steps are timed one by one.
    """
    verdicts = [inspector.inspect_encoded(encoded) for _ in range(repeats + 3)][3:]
    names = dict.fromkeys(name for verdict in verdicts for name in verdict.timings_ms)
    times = {name: Times(ms=np.array([verdict.timings_ms.get(name, 0.0) for verdict in verdicts])) for name in names}
    whole = times.pop("total").ms
    inside = [times[name].ms for name in names if name != "total"]
    times["the rest"] = Times(ms=whole - np.sum(inside, axis=0))
    total, mean = float(np.median(whole)), float(np.mean(whole))
    rows = [Row.timed("stages", name, found, float(np.mean(found.ms)) / mean) for name, found in times.items()]
    rows.append(Row.timed("stages", "judgement", Times(ms=whole), 1.0))
    frame = images.decode(encoded, reduction=inspector.recipe.reduction)
    inside_roi = dict(_roi_steps(inspector, frame))
    drawing = _drawing(inspector, images.decode(encoded), verdicts[-1])
    aside = take_turns({**inside_roi, **drawing}, repeats=repeats, description="stages")
    return rows + [
        Row.timed("roi" if name in inside_roi else "drawing", name, found, found.median_ms / total)
        for name, found in aside.items()
    ]


def unpacked(inspector: Inspector, encoded: bytes) -> Photograph:
    """Return a decoded picture."""
    photograph = Photograph(encoded)
    photograph.judged(inspector.recipe)
    return photograph


def measure_sizes(inspector: Inspector, frame: Frame, *, repeats: int) -> list[Row]:
    """From JPEG to verdict on pictures of several sizes; ratio: against the bare network."""
    network = bare_network(inspector)
    picture = _picture(inspector, frame)
    rows = []
    for megapixels in MEGAPIXELS:
        factor = math.sqrt(megapixels * 1e6 / (frame.shape[0] * frame.shape[1]))
        large = np.asarray(cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), np.uint8)
        encoded = images.encode_jpeg(large)
        found = take_turns(
            {
                "whole": partial(inspector.inspect_encoded, encoded),
                "frame": partial(inspector.inspect, unpacked(inspector, encoded)),
                "network": partial(network, picture),
            },
            repeats=repeats,
            description=f"{megapixels:g} megapixels",
        )
        bare = found["network"].median_ms
        in_memory = found["frame"].median_ms / bare
        ratio = found["whole"].median_ms / bare
        rows.append(Row.timed("size", f"{megapixels:g} megapixels", found["whole"], ratio, from_frame=in_memory))
    return rows


def measure_regions(inspector: Inspector, frame: Frame, *, repeats: int) -> list[Row]:
    """Several known regions of one frame, judged one after the other; ratio: against one."""
    height, width = frame.shape[:2]
    side = min(height, width) / 4
    rng = np.random.default_rng(0)
    corners = rng.uniform([0, 0], [width - side, height - side], (max(REGIONS), 2))
    places = [Located(present=True, box=Box(x1=x, y1=y, x2=x + side, y2=y + side)) for x, y in corners]

    photograph = unpacked(inspector, images.encode_png(frame))

    def judged(count: int) -> Callable[[], object]:
        return lambda: [inspector.inspect(photograph, located=place) for place in places[:count]]

    found = take_turns({str(count): judged(count) for count in REGIONS}, repeats=repeats, description="regions")
    return [Row.timed("regions", name, each, each.median_ms / found["1"].median_ms) for name, each in found.items()]


def measure_batches(inspector: Inspector, frame: Frame, *, repeats: int) -> list[Row]:
    """The bare network on several pictures at once; ratio: time per picture against one at a time."""
    picture = _picture(inspector, frame)
    runs: dict[str, Callable[[], object]] = {}
    rows = []
    for batch in BATCHES:
        try:
            model = ov.Core().read_model(inspector.bundle.classifier)
            model.reshape([batch, *picture.shape])
            precision = inspector.bundle.manifest.precision
            options = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
            compiled = ov.Core().compile_model(model, "CPU", options)
        except RuntimeError as error:
            rows.append(Row(table="batch", name=str(batch), note=str(error).strip().splitlines()[-1]))
            continue
        runs[str(batch)] = partial(compiled, np.repeat(picture[None], batch, axis=0))
    found = take_turns(runs, repeats=repeats, description="batches")
    single = found["1"].median_ms
    return rows + [Row.timed("batch", name, each, each.median_ms / int(name) / single) for name, each in found.items()]


def measure_streams(inspector: Inspector, frame: Frame, *, seconds: float, rounds: int, cores: int) -> list[Row]:
    """The bare network with several pictures in flight; ratio: pictures per second against one at a time.

    Args:
        inspector: Whose network.
        frame: What it judges over and over.
        seconds: Of each number of streams in each round.
        rounds: Their median counts.
        cores: As many streams, and twice as many, are tried beside one.
    """
    picture = _picture(inspector, frame)
    rates: dict[int, list[float]] = {}
    model = ov.Core().read_model(inspector.bundle.classifier)
    streams = sorted({1, cores, 2 * cores})
    for _ in range(rounds):
        for count in streams:
            options = {"INFERENCE_PRECISION_HINT": inspector.bundle.manifest.precision, "NUM_STREAMS": str(count)}
            queue = ov.AsyncInferQueue(ov.Core().compile_model(model, "CPU", options))
            rates.setdefault(count, []).append(_rate(queue, picture, seconds))
    single = float(np.median(rates[1]))
    return [
        Row(table="streams", name=str(count), ratio=float(np.median(found)) / single) for count, found in rates.items()
    ]


def _rate(queue: ov.AsyncInferQueue, picture: Frame, seconds: float) -> float:
    for _ in range(len(queue) * 2):  # warm
        queue.start_async({0: picture[None]})
    queue.wait_all()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        queue.start_async({0: picture[None]})
        count += 1
    queue.wait_all()
    return count / (time.perf_counter() - start)


def network_input(inspector: Inspector, photograph: Photograph) -> Frame:
    """Return what the network of an inspector sees of an unpacked picture."""
    return _picture(inspector, photograph.judged(inspector.recipe))


def _picture(inspector: Inspector, frame: Frame) -> Frame:
    region = inspector.roi.locate(frame).region
    assert region is not None, "the benchmark's own frame shows a part"
    return images.cut(frame, region, inspector.recipe.size_wh)


def _roi_steps(inspector: Inspector, frame: Frame) -> Iterator[tuple[str, Callable[[], object]]]:
    """Time the parts of a classical ROI: the reduction, each step, and everything after the last step."""
    search = inspector.roi
    if not isinstance(search, ClassicalRoi):
        return
    side = search.recipe.side_px
    yield f"reduce to {side}", partial(reduced_frame, frame, side)
    picture = reduced_frame(frame, side)
    for number, step in enumerate(search.recipe.steps, start=1):
        yield f"{number}. {describe_step(step)}", partial(step.apply, picture)
        picture = step.apply(picture)
    yield "the whole search", partial(search.locate, frame)


def _drawing(inspector: Inspector, frame: Frame, verdict: Verdict) -> dict[str, Callable[[], object]]:
    small_hw = round(frame.shape[0] * DRAWN_WIDTH / frame.shape[1])
    drawn = overlay(frame, verdict, inspector.heat_scale)
    small = images.crop_resize(drawn, Box.whole(drawn), (DRAWN_WIDTH, small_hw))
    return {
        "heat drawn on the frame": partial(overlay, frame, verdict, inspector.heat_scale),
        f"JPEG of {DRAWN_WIDTH} pixels": partial(images.encode_jpeg, small),
    }
