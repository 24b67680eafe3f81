"""The model card of a bundle: a summary in Markdown."""

from __future__ import annotations

import math

from gonogo import operating_point
from gonogo.config import Recipe
from gonogo.manifest import Classifier, Manifest
from gonogo.schema import OperatingPoint


def model_card(manifest: Manifest) -> str:
    """Return the model card of a bundle as Markdown."""
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
        "The promise holds for parts from the same process as the calibration parts, photographed in the same way.",
        "",
        "## Facts",
        "",
        *_network(manifest),
        *(
            f"- Evidence: {each.kind}, weight {each.weight:.3g}"
            + ("" if each.auroc is None else f", AUROC alone {each.auroc:.3f} in cross-validation")
            for each in manifest.classifier.evidence
        ),
        *_known_kinds(manifest.classifier),
        f"- {_pictures(manifest.recipe)}",
        f"- Input: {_input(manifest.recipe)} as {width} x {height} RGB, uint8",
        f"- Arithmetic: {manifest.precision} on {manifest.proven_on.get('processor', 'unknown')}, "
        f"OpenVINO {manifest.proven_on.get('openvino', 'unknown')}",
        f"- {'Trained on' if manifest.classifier.imported is None else 'Certified with'} data "
        f"{manifest.data_fingerprint[:16] or 'unknown'}"
        + ("" if manifest.data_revision is None else f", {manifest.data_revision}"),
        *_origins(manifest),
        "",
    ]
    if manifest.quantization is not None:
        lines += ["## Compared with the bundle of full precision", ""]
        lines += [*(f"- {each}" for each in manifest.quantization.sentences()), ""]
    return "\n".join(lines)


def _network(manifest: Manifest) -> list[str]:
    made = manifest.classifier
    if made.imported is None:
        cut = f"{made.backbone} cut at {', '.join(made.cuts)}"
        return [f"- Network: {cut}, {made.pool} pooling, started from {made.weights}"]
    origin = made.imported
    maps = {
        "exact": f"what each cell of {origin.map_layer} adds to the score",
        "fitted": f"a linear model of the score on the means of {origin.map_layer}, R2 {origin.map_r2 or 0:.2f}",
        "none": f"none ({origin.no_map})",
    }
    off = manifest.training.get("parity")
    return [
        f"- Network: {made.backbone}, file {origin.file} (SHA-256 {origin.sha256[:16]}); largest difference to "
        f"{origin.compared_with}: {off:.1e}",
        f"- Heat map: {maps[origin.map]}",
    ]


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
        f"- Defect kinds: {', '.join(known.names)}; balanced accuracy {known.named_right:.1%} on bad parts left out of "
        f"the fit; no kind is reported if the likeliest has a share below {known.least_share:.0%}"
    ]


def _pictures(recipe: Recipe) -> str:
    """Describe the pictures that the promise covers."""
    if recipe.reduction == 1:
        return "Pictures: encoded pictures and raw frames"
    share = f"to 1/{recipe.reduction} of their width and height"
    if recipe.encoded_only:
        return f"Pictures: encoded pictures only, reduced by the decoder {share}; raw frames are refused"
    return f"Pictures: encoded pictures and raw frames, reduced {share} by averaging pixels"


def _input(recipe: Recipe) -> str:
    region = f"the region of interest ({recipe.roi})"
    if recipe.tiling is None:
        return region
    return f"windows of {region} at full resolution, overlapping by at least {recipe.tiling.overlap_px} pixels, each"


def _origins(manifest: Manifest) -> list[str]:
    lines = []
    if manifest.distilled is not None:
        lines.append(f"- Distilled from the inspector {manifest.distilled.teacher_sha256[:16]}")
    if manifest.cascade is not None:
        asked = manifest.cascade
        share = f" ({asked.asked} of {asked.pictures} pictures when the rule was chosen)" if asked.pictures else ""
        lines.append(f"- Cascade: {asked.teacher.backbone} judges the parts that the first network is unsure of{share}")
    return lines
