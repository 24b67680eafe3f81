"""What ``gonogo bundle`` prints."""

from __future__ import annotations

from collections.abc import Mapping

from gonogo.anatomy import Anatomy
from gonogo.cli.printed.build import Document, Printed, combined, rate
from gonogo.cli.printed.values import OperatingPointJson
from gonogo.config import Checks
from gonogo.manifest import DataRevision, VerdictCounts
from gonogo.quantization import Quantization
from gonogo.schema import State
from gonogo.signing import TrustedKey
from gonogo.signing.signatures import BundleStatement
from gonogo.validity import Validity
from gonogo.workflow.conversion import ConversionStep


class BundleShow(Document):
    """Identity, promise and origin of a bundle."""

    bundle: str
    bundle_sha256: str
    name: str
    created: str
    gonogo_version: str
    data_fingerprint: str
    data_revision: DataRevision | None
    operating_point: OperatingPointJson | None
    validity: Validity | None
    expired: bool
    signed: bool


class ChangedVerdict(Document):
    """A part whose verdict changed."""

    part: str
    flip: bool
    """From go to no-go or back."""
    before: State
    after: State
    score_before: float | None
    score_after: float | None


class _Quantized(Document):
    bundle: str
    bundle_sha256: str
    changed: list[ChangedVerdict]


BundleQuantize = combined("BundleQuantize", Quantization, _Quantized)


class _Side(Document):
    bundle_sha256: str
    operating_point: OperatingPointJson
    auroc: float | None


ComparedSide = combined("ComparedSide", _Side, rate("review_rate", "escape_rate", "overkill_rate"))


class TeacherCompared(Document):
    """A bundle next to its teacher."""

    bundle: str
    split: str
    as_safe: bool
    review_p: float
    """P value of the exact sign test on the parts where the review rates differ."""
    itself: ComparedSide  # type: ignore[valid-type]
    teacher: ComparedSide  # type: ignore[valid-type]


class BundleDistill(TeacherCompared):
    """A student next to its teacher."""

    epochs: int


class MeanTiming(Document):
    """Durations in milliseconds."""

    mean: float
    p99: float


class BundleCascade(TeacherCompared):
    """A cascade next to its teacher."""

    pictures: int
    asked: int
    """Number of pictures that the teacher judged."""
    total_ms: dict[str, MeanTiming]


class FromLedger(Document):
    """Pictures that came from a ledger."""

    added: int
    already_there: int
    held_back: int
    deleted: int


class LearnCompared(Document):
    """The new inspector next to the old one, on test parts used for neither."""

    before: VerdictCounts
    after: VerdictCounts
    parts: int
    parts_left_out: int
    to_a_person_only_before: int
    to_a_person_only_after: int
    p_value: float


class BundleLearn(Document):
    """Result of learning from new pictures."""

    bundle: str | None
    """``null`` if nothing was written."""
    bundle_sha256: str | None
    promoted: bool
    reasons: list[str]
    """Why it is not promoted; empty if it is."""
    new_pictures: int
    from_ledger: FromLedger | None
    compared: LearnCompared


AnatomyJson = combined("AnatomyJson", Anatomy, dict.fromkeys(("stored", "executed", "heavy", "heavy_int8"), int))


class BundleGraph(Document):
    """How the network of a bundle is executed."""

    torch: dict[str, int] | None
    """Operations in torch by kind, with ``--from-torch``."""
    bundles: dict[str, AnatomyJson]  # type: ignore[valid-type]
    steps: list[ConversionStep] | None
    """What is lost at each step of the conversion, with ``--data``."""


class ChecksSet(Document):
    """A bundle with new checks."""

    bundle: str
    bundle_sha256: str
    certified: bool
    """Whether the thresholds stay in force."""


BundleChecks = ChecksSet | Checks


class BundleSign(BundleStatement):
    """The signed statement."""

    bundle: str
    key_id: str


class RepositoryExport(Document):
    """A version in a model repository."""

    name: str
    version: int
    folder: str
    written: bool
    """False if the newest version was the same already."""
    precision: str


class ClassifierExport(Document):
    """A classifier for other tools, with ``--form classifier``."""

    model: str
    model_proc: str
    precision: str
    one_window: bool
    """Whether the network judges one window of a part, and the worst window decides."""


BundleExport = RepositoryExport | ClassifierExport


class CameraBundle(Document):
    """The bundle of one camera."""

    bundle: str
    sha256: str


class BundleTogether(Document):
    """The bundles of several cameras, certified together."""

    cameras: dict[str, CameraBundle]
    part: OperatingPointJson


class KeyMade(Document):
    """A new key pair."""

    key_id: str
    private: str
    """File of the private key."""
    public: str


KeyJson = combined("KeyJson", TrustedKey, {"key_id": str})


class KeyList(Document):
    """The keys that this machine trusts."""

    store: str
    keys: list[KeyJson]  # type: ignore[valid-type]


PRINTED: Mapping[str, Printed] = {
    "bundle show": Printed(type=BundleShow),
    "bundle quantize": Printed(type=BundleQuantize),
    "bundle distill": Printed(type=BundleDistill),
    "bundle cascade": Printed(type=BundleCascade),
    "bundle learn": Printed(type=BundleLearn),
    "bundle graph": Printed(type=BundleGraph),
    "bundle checks": Printed(type=BundleChecks, stored=True),
    "bundle sign": Printed(type=BundleSign),
    "bundle export": Printed(type=BundleExport),
    "bundle together": Printed(type=BundleTogether),
    "bundle keys make": Printed(type=KeyMade),
    "bundle keys list": Printed(type=KeyList),
    "bundle keys add": Printed(type=KeyJson),
    "bundle keys revoke": Printed(type=KeyJson),
}
