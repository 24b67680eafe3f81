"""``gonogo certify``: choose the two thresholds, certify them, and write them into the bundle."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli.device import DeviceOption
from gonogo.cli.output import print_json
from gonogo.cli.signing import open_key, say_unsigned
from gonogo.errors import InputError, UnfitError

if TYPE_CHECKING:
    from gonogo.bundle import Bundle
    from gonogo.certification import Certified, Recertified
    from gonogo.operating_point import Costs

MAX_ESCAPE_HELP = (
    "Largest allowed share of bad parts judged go. [default: 0.05; with too few bad parts for that, the lowest rate "
    "that can be certified, if it is at most 0.15]"
)
MAX_OVERKILL_HELP = "Largest allowed share of good parts judged no-go. [default: as for --max-escape]"
RejectOption = Annotated[
    bool,
    typer.Option(
        "--reject/--no-reject",
        show_default=False,
        rich_help_panel="Promise",
        help="If no escape limit can be certified, still reject parts above the no-go threshold. [default: review]",
    ),
]
KeepHiddenOption = Annotated[
    bool,
    typer.Option(
        "--keep-hidden/--refuse-hidden",
        show_default=False,
        rich_help_panel="Region",
        help="Judge bad parts whose whole defect lies in an ignore zone as they are. [default: refuse them, see gonogo "
        "zones hidden]",
    ),
]
GoWithoutPromiseOption = Annotated[
    bool,
    typer.Option(
        "--go-without-promise/--no-go-without-promise",
        show_default=False,
        rich_help_panel="Promise",
        help="If no escape limit can be certified, still pass parts below the no-go threshold. The escape rate is "
        "then unknown, and every verdict says so.",
    ),
]


def certify_command(
    bundle: Annotated[Path, typer.Argument(help="The inspector to certify; it is changed in place.", metavar="BUNDLE")],
    dataset: Annotated[
        Path | None, typer.Argument(help="The data set that it was trained on.", metavar="DATASET", show_default=False)
    ] = None,
    max_escape: Annotated[float | None, typer.Option(help=MAX_ESCAPE_HELP, show_default=False)] = None,
    max_overkill: Annotated[float | None, typer.Option(help=MAX_OVERKILL_HELP, show_default=False)] = None,
    confidence: Annotated[float, typer.Option(help="Confidence of the certified rates.")] = 0.95,
    joint: Annotated[
        bool,
        typer.Option("--joint/--each", help="Apply the confidence to both rates jointly, or to each one separately."),
    ] = False,
    reject: RejectOption = False,
    go_without_promise: GoWithoutPromiseOption = False,
    costs: Annotated[
        str | None,
        typer.Option(
            help="Choose the thresholds with the lowest cost, for example escape=500,overkill=5,review=1.",
            show_default=False,
        ),
    ] = None,
    bad_share: Annotated[
        float | None,
        typer.Option(help="Share of bad parts on the line. [default: as in the val split]", show_default=False),
    ] = None,
    per_kind: Annotated[
        bool, typer.Option("--per-kind", help="Also certify the escape rate of each defect kind.")
    ] = False,
    guard: Annotated[
        float,
        typer.Option(
            help="Out-of-distribution check: share of ordinary parts that it may send to review; 0 turns it off. With "
            "too few val parts for it, the smallest share that they support."
        ),
    ] = 0.02,
    merge_near_duplicates: Annotated[
        bool, typer.Option("--merge-near-duplicates", help="Count near-duplicate pictures as one part.")
    ] = False,
    valid_days: Annotated[
        float, typer.Option(min=0.0, help="How long the certificate is valid, in days; 0 for no limit.")
    ] = 365.0,
    valid_parts: Annotated[
        int, typer.Option(min=0, help="How many parts a station may judge with the certificate; 0 for no limit.")
    ] = 0,
    sample: Annotated[
        str | None,
        typer.Option(
            help="Renew the certificate by this random sample of production instead: DATASET holds its labelled "
            "pictures, and the thresholds stay.",
            show_default=False,
        ),
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="The ledger of --sample; the result is recorded in it.", show_default=False)
    ] = None,
    keep_hidden: KeepHiddenOption = False,
    tradeoff: Annotated[
        Path | None, typer.Option(help="Write the trade-off curve to this .html or .svg file.", metavar="FILE")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write the thresholds even if they certify less than before.")
    ] = False,
    sign: Annotated[
        Path | None,
        typer.Option(
            help="Private key of the person who certifies: the bundle is signed before it replaces the old one.",
            metavar="KEY",
            show_default=False,
        ),
    ] = None,
    revisions: Annotated[
        bool, typer.Option("--revisions", help="List all revisions of the thresholds and exit.")
    ] = False,
    restore: Annotated[
        int | None,
        typer.Option(help="Restore the thresholds of this revision and exit.", metavar="N", show_default=False),
    ] = None,
    device: DeviceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Choose thresholds on the val split, certify them on the calibrate split, and write them into the bundle.

    Exit code 1 if a requested rate cannot be certified; the parts concerned then go to review. Thresholds that certify
    less than the present ones are written only with --force.
    """
    from gonogo.certification import recertify
    from gonogo.dataset import Dataset
    from gonogo.inspector import Inspector
    from gonogo.operating_point import Promise
    from gonogo.report.tradeoff import write_tradeoff
    from gonogo.signing import NOT_REQUIRED, sign_bundle

    if sign is not None and (revisions or restore is not None or sample is not None):
        raise InputError("--sign: expected no --revisions, --restore or --sample. Sign afterwards: gonogo bundle sign")
    if revisions or restore is not None:
        from gonogo.cli.revisions import show_revisions

        return show_revisions(bundle, restore, force=force, as_json=as_json)
    if sample is not None:
        from gonogo.cli.sampling import certify_by_sample, require_sample

        data, rows = require_sample(dataset, ledger)
        days, parts = valid_days or None, valid_parts or None
        return certify_by_sample(bundle, data, sample, rows, days=days, parts=parts, as_json=as_json)
    if dataset is None:
        raise InputError("certify: expected the data set that the inspector was trained on. Add it after the bundle.")
    chosen_costs = None if costs is None else _costs(costs)
    promise = Promise(
        max_escape=max_escape,
        max_overkill=max_overkill,
        confidence=confidence,
        joint=joint,
        reject=reject,
        go_without_promise=go_without_promise,
        per_kind=per_kind,
        costs=chosen_costs,
        bad_share=bad_share,
        guard=guard or None,
        merge_near_duplicates=merge_near_duplicates,
        valid_days=valid_days or None,
        valid_parts=valid_parts or None,
        keep_hidden=keep_hidden,
    )
    if tradeoff is not None and tradeoff.suffix.lower() not in (".html", ".svg"):
        raise InputError(f"--tradeoff {tradeoff}: expected a name that ends in .html or .svg.")
    inspector = Inspector.load(bundle, policy=NOT_REQUIRED)
    signing_key = None if sign is None else open_key(sign)

    def before_use(made: Certified, revision: Bundle) -> None:
        if signing_key is not None:
            sign_bundle(revision, signing_key, now=datetime.now(UTC))

    made = recertify(inspector, Dataset.read(dataset), promise, force=force, before_use=before_use)
    say_unsigned(inspector.bundle, made.bundle)
    if tradeoff is not None:
        write_tradeoff(made, tradeoff, bundle_name=made.bundle.root.name)
    if as_json:
        print_json(_as_json(made), allow_nan=False)
    else:
        _print(made, tradeoff)
    if made.refusals:
        raise UnfitError(f"{' '.join(made.refusals)} {_consequence(made)}")
    return None


def _costs(text: str) -> Costs:
    from gonogo.operating_point import Costs

    try:
        pairs = [piece.split("=") for piece in text.split(",")]
        values = {name.strip(): float(value) for name, value in pairs}
    except ValueError:
        values = {}
    if set(values) != {"escape", "overkill", "review"} or len(pairs) != 3:
        raise InputError(f"--costs: expected escape=NUMBER,overkill=NUMBER,review=NUMBER, found {text!r}.")
    return Costs(**values)


def _consequence(made: Recertified) -> str:
    """Say what the bundle now does with the parts that no rate is certified for."""
    name, point = made.bundle.root, made.point
    if not point.escape.holds:
        if point.go_without_promise or point.no_go_above < math.inf:
            return f"{name} was written anyway, as requested."
        return f"{name} was written: every part goes to review."
    if not point.overkill.holds:
        return f"{name} was written: no part is rejected automatically; parts that are not go are sent to review."
    return f"{name} was written with the certified rate for all bad parts together."


def _as_json(made: Recertified) -> dict[str, Any]:
    from dataclasses import asdict

    from gonogo import operating_point as points
    from gonogo.certification import tradeoff_to_json
    from gonogo.operating_point.lots import to_record

    guard = None if made.reference is None else made.reference.guard
    return {
        "bundle": str(made.bundle.root),
        "bundle_sha256": made.bundle.sha256,
        "revision": len(made.bundle.manifest.revisions) + 1,
        "certified": not made.refusals,
        "max_escape": made.point.escape.max_rate,
        "max_overkill": made.point.overkill.max_rate,
        "review_rate": made.review_rate,
        "bad_share": made.bad_share,
        "operating_point": points.to_json(made.point),
        "kinds": {
            kind: {"certified": claim.holds, "parts": claim.parts, "parts_missing": claim.parts_missing}
            for kind, claim in (made.kinds.claims if made.kinds else {}).items()
        },
        "tradeoff": [tradeoff_to_json(setting) for setting in made.tradeoff],
        "guard": guard and {**asdict(guard), "false_alarm_interval": guard.false_alarm_interval()},
        "validity": made.validity.model_dump(mode="json"),
        "lots": [to_record(check) for check in made.lots],
        "drift_watches": 0 if made.reference is None else len(made.reference.watches),
        "refusals": list(made.refusals),
        "warnings": list(made.warnings),
    }


def _print(made: Recertified, tradeoff: Path | None) -> None:
    from rich.console import Console

    from gonogo.operating_point import describe_point

    console = Console(markup=False, highlight=False, soft_wrap=True)
    point = made.point
    for claim, sentence in zip((point.escape, point.overkill), describe_point(point), strict=True):
        if claim.holds or (claim.error == "escape" and point.go_without_promise):
            console.print(sentence)
    if point.escape.holds and point.overkill.holds and point.joint:
        console.print("Both rates hold jointly at this confidence.")
    if made.kinds is not None:
        for kind, claim in made.kinds.claims.items():
            outcome = f"at most {claim.max_rate:.3g} escape" if claim.holds else f"{claim.parts_missing} more needed"
            console.print(f"  {kind}: {claim.parts} bad parts, {outcome}")
    if made.review_rate is not None and made.bad_share is not None:
        assumed = "as in the val split" if made.promise.bad_share is None else "as given by --bad-share"
        console.print(
            f"Expected review: {made.review_rate:.1%} of parts if {made.bad_share:.1%} of them are bad, {assumed}."
        )
    if made.reference is not None and made.reference.guard is not None:
        console.print(made.reference.guard.sentence())
    console.print(made.validity.sentence())
    for check in made.lots:
        console.print(check.sentence())
    for warning in made.warnings:
        console.print(f"Note: {warning}", style="yellow")
    console.print(
        f"Wrote {made.bundle.root} ({made.bundle.sha256[:16]}), revision {len(made.bundle.manifest.revisions) + 1}."
    )
    if tradeoff is not None:
        console.print(f"Wrote {tradeoff}")
