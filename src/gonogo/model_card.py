"""The model card of a bundle: what it is, in a page for people."""

from __future__ import annotations

import math

from gonogo import operating_point
from gonogo.config import Recipe
from gonogo.manifest import Classifier, Manifest
from gonogo.schema import OperatingPoint


def model_card(manifest: Manifest) -> str:
    """What the bundle is, in a page for people."""
    point = manifest.operating_point
    width, height = manifest.recipe.size_wh
    lines = [
        f"# {manifest.name}",
        "",
        f"A gonogo inspector, made {manifest.created} with gonogo {manifest.gonogo_version}. It judges one photograph "
        "of a part: go, no-go or review, and shows where the evidence for a defect lies.",
        "",
        "## Promise",
        "",
    ]
    if point is None:
        lines += ["No operating point was certified: every part goes to review."]
    else:
        lines += [f"- {sentence}" for sentence in operating_point.describe_point(point)]
        lines += [f"- {_thresholds(point)}"]
    lines += [
        "",
        "The promise holds for parts drawn from the same process as the calibration parts, photographed the same way.",
        "",
        "## Facts",
        "",
        f"- Network: {manifest.classifier.backbone} cut at {', '.join(manifest.classifier.cuts)}, "
        f"{manifest.classifier.pool} pooling, started from {manifest.classifier.weights}",
        *(
            f"- Evidence: {each.kind}, weight {each.weight:.3g}"
            + ("" if each.auroc is None else f", AUROC alone {each.auroc:.3f} on parts left out")
            for each in manifest.classifier.evidence
        ),
        *_known_kinds(manifest.classifier),
        f"- {_pictures(manifest.recipe)}",
        f"- Input: {_input(manifest.recipe)} as {width} x {height} RGB, uint8",
        f"- Arithmetic: {manifest.precision} on {manifest.proven_on.get('processor', 'unknown')}, "
        f"OpenVINO {manifest.proven_on.get('openvino', 'unknown')}",
        f"- Trained on data {manifest.data_fingerprint[:16] or 'unknown'}",
        *_origins(manifest),
        "",
    ]
    if manifest.quantization is not None:
        lines += ["## Against the bundle of full precision", ""]
        lines += [*(f"- {each}" for each in manifest.quantization.sentences()), ""]
    return "\n".join(lines)


def _thresholds(point: OperatingPoint) -> str:
    if point.go_below == -math.inf:
        if point.no_go_above < math.inf:
            return f"No-go above a score of {point.no_go_above:g}; every other part goes to review."
        return "No thresholds yet: every part goes to review."
    if point.no_go_above == math.inf:
        return f"Go below a score of {point.go_below:g}, review from there; no part is rejected automatically."
    return f"Go below a score of {point.go_below:g}, no-go above {point.no_go_above:g}, review between."


def _known_kinds(classifier: Classifier) -> list[str]:
    known = classifier.defect_kinds
    if known is None:
        return []
    return [
        f"- Defect kinds that it names: {', '.join(known.names)}; {known.named_right:.1%} right on bad parts left out "
        f"of the training, each kind weighing the same; none where the likeliest has less than {known.least_share:.0%}"
    ]


def _pictures(recipe: Recipe) -> str:
    """Which pictures the promise is about."""
    if recipe.reduction == 1:
        return "Pictures: encoded ones and raw frames alike"
    share = f"at 1/{recipe.reduction} of their width and height"
    if recipe.encoded_only:
        return f"Pictures: proven for encoded ones, {share}, as the decoder reduces them; raw frames are refused"
    return f"Pictures: encoded ones and raw frames alike, {share}, each pixel the mean of those it stands for"


def _input(recipe: Recipe) -> str:
    region = f"the region of interest ({recipe.roi})"
    if recipe.tiling is None:
        return region
    return f"windows of {region} at full resolution that overlap by {recipe.tiling.overlap_px} pixels or more, each"


def _origins(manifest: Manifest) -> list[str]:
    lines = []
    if manifest.distilled is not None:
        lines.append(f"- Taught by the inspector {manifest.distilled.teacher_sha256[:16]}")
    if manifest.cascade is not None:
        asked = manifest.cascade
        share = f" ({asked.asked} of {asked.pictures} pictures tried)" if asked.pictures else ""
        lines.append(f"- Where it is not sure, {asked.teacher.backbone} is asked{share}")
    return lines
