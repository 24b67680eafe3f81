"""The bundle: a folder that holds one trained inspector, sealed so that any changed byte is refused.

    classifier.xml, .bin   the graph: uint8 NHWC in; score, heatmap, feature_vector out
    roi.toml               the ROI config, if the recipe has a region; roi.xml, .bin if a network finds it
    inspector.json         the manifest: recipe, operating point with its evidence, fingerprints
    golden/                a few frames whose exact scores are in the manifest
    drift.json, taught.npy the reference for drift and for the out-of-distribution check, from ``gonogo certify``
    cascade/               the second graph of a cascade, and the out-of-distribution check that decides when to ask it
    evidence.json          how the operating point was chosen and certified, from ``gonogo certify``
    scores.json            the scores from which the operating point was computed
    revisions/             the files of earlier operating points, golden frames included, each named by its hash
    MODEL_CARD.md          a summary to read
    SHA256SUMS             the seal: the hash of every other file, as ``sha256sum -c`` reads it
    signature.json         a signature of the seal, outside it; see `gonogo.signing`

The SHA-256 of the seal identifies the bundle. On opening, the seal is computed again from the folder and compared as a
whole, so a changed, added or missing file, or a changed seal, is detected before any other file is read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gonogo import operating_point
from gonogo.config import Recipe
from gonogo.errors import BundleError, InputError
from gonogo.files import folder_beside, plain_files, read_regular, write_beside
from gonogo.images import Photograph
from gonogo.manifest import Golden, Manifest, PartCertificate, Revision
from gonogo.model_card import model_card
from gonogo.schema import OperatingPoint

FORMAT = 1
SUFFIX = ".inspector"
CLASSIFIER = "classifier.xml"
MANIFEST = "inspector.json"
SEAL = "SHA256SUMS"
SIGNATURE = "signature.json"
MODEL_CARD = "MODEL_CARD.md"
GOLDEN = "golden"
ROI_RECIPE = "roi.toml"
REVISIONS = "revisions"
CASCADE = "cascade"
TEACHER = f"{CASCADE}/teacher.xml"
_MOST_BYTES = 8_000_000_000
_LONGEST_SEAL = 4_000_000
_LONGEST_SIGNATURE = 100_000


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An opened bundle whose seal was verified."""

    root: Path
    manifest: Manifest
    sha256: str
    """Identity of this exact bundle: the SHA-256 of its seal."""
    digests: Mapping[str, str]
    """The SHA-256 of every sealed file, by its name in the bundle."""
    signature: bytes | None = None
    """Contents of the signature's file; not verified. ``None`` if the bundle is not signed."""

    def data(self, name: str) -> bytes:
        """Read one sealed file and verify its hash in memory, so that later changes on disk have no effect.

        Raises:
            BundleError: The file is not in the seal, or it was changed after the bundle was opened.
        """
        expected = self.digests.get(name)
        try:
            found = read_regular(self.root / name, most_bytes=_MOST_BYTES) if expected else b""
        except OSError as error:
            raise BundleError(
                f"{self.root / name}: cannot be read ({error.strerror}). Copy the bundle again."
            ) from error
        if expected is None or hashlib.sha256(found).hexdigest() != expected:
            what = "was changed while the bundle was being opened" if expected else "is missing"
            raise BundleError(f"{self.root}: {name} {what}. Copy the bundle again from the original.")
        return found

    def graph(self, name: str) -> tuple[bytes, bytes]:
        """Read the ``.xml`` and the ``.bin`` of one sealed graph, given the name of the ``.xml``; see `data`."""
        return self.data(name), self.data(str(Path(name).with_suffix(".bin")))

    @property
    def classifier(self) -> Path:
        """Path of the classifier's ``.xml``."""
        return self.root / CLASSIFIER

    @property
    def teacher(self) -> Path:
        """Path of the ``.xml`` of a cascade's second graph."""
        return self.root / TEACHER

    @property
    def roi(self) -> Path:
        """Path of the ROI config; the file exists unless the recipe has ``roi = "none"``."""
        return self.root / ROI_RECIPE

    def golden(self) -> list[tuple[str, Photograph, float]]:
        """Read the file name, photograph and expected score of every golden frame."""
        return [
            (each.file, Photograph(self.data(each.file), name=str(self.root / each.file)), each.score)
            for each in self.manifest.golden
        ]


def read_bundle(root: str | os.PathLike[str]) -> Bundle:
    """Open a bundle and verify its seal.

    Raises:
        BundleError: The folder is not a bundle, a file does not match the seal, or the manifest has another format.
    """
    root = Path(root)
    if not (root / SEAL).is_file():
        raise BundleError(
            f"{root}: expected a bundle (a folder with {SEAL}), found "
            f"{'a folder without one' if root.is_dir() else 'no such folder'}. Make one with: gonogo train"
        )
    try:
        _require_plain(root)
        sealed = (root / SEAL).read_bytes()
        digests = _digests(root)
        signature = _signature(root)
    except OSError as error:
        raise BundleError(f"{root}: the bundle cannot be read ({error.strerror or error}).") from error
    expected = _seal_text(digests)
    if sealed != expected:
        raise BundleError(
            f"{root}: the bundle was changed after it was sealed ({_difference(sealed, expected)}). "
            "Nothing was loaded. Copy the bundle again from the original."
        )
    try:
        data = (root / MANIFEST).read_bytes()
        manifest = Manifest.model_validate_json(data)
    except (ValidationError, OSError) as error:
        raise BundleError(
            f"{root / MANIFEST}: expected a manifest of format {FORMAT}, found another one ({_first(error)}). Use the "
            "version of gonogo that made the bundle, or a newer one."
        ) from error
    if hashlib.sha256(data).hexdigest() != digests.get(MANIFEST):
        raise BundleError(f"{root}: {MANIFEST} was changed while the bundle was being opened. Open it again.")
    identity = hashlib.sha256(sealed).hexdigest()
    return Bundle(root=root, manifest=manifest, sha256=identity, digests=digests, signature=signature)


def draft(root: Path, manifest: Manifest) -> Bundle:
    """An unsealed bundle: neither its manifest nor its seal is written yet, but it can already judge."""
    digests = _digests(root)
    return Bundle(root=root, manifest=manifest, sha256=hashlib.sha256(_seal_text(digests)).hexdigest(), digests=digests)


def write_manifest(root: Path, manifest: Manifest) -> Bundle:
    """Write the manifest and the model card into a folder that holds the other files, and seal it.

    A signature in the folder is removed: it is that of another bundle.
    """
    (root / SIGNATURE).unlink(missing_ok=True)
    write_beside(root / MANIFEST, manifest.model_dump_json(indent=2).encode() + b"\n")
    write_beside(root / MODEL_CARD, model_card(manifest).encode())
    digests = _digests(root)
    sealed = _seal_text(digests)
    write_beside(root / SEAL, sealed)
    return Bundle(root=root, manifest=manifest, sha256=hashlib.sha256(sealed).hexdigest(), digests=digests)


def replace_operating_point(
    bundle: Bundle,
    point: OperatingPoint,
    *,
    now: str,
    files: Mapping[str, bytes | None] | None = None,
    golden: tuple[Golden, ...] | None = None,
    proven_on: Mapping[str, str] | None = None,
    part: PartCertificate | None = None,
    before_use: Callable[[Bundle], None] | None = None,
) -> Bundle:
    """Replace the operating point of a bundle; the graph stays unchanged.

    The old operating point is kept in the manifest's history. The folder is replaced atomically. A signature is
    removed: it does not cover the new operating point.

    Args:
        bundle: The bundle to revise.
        point: The new operating point.
        now: Time of the revision, UTC, ISO 8601.
        files: Other files of the new revision, by file name; ``None`` removes the old file.
        golden: Entries of the new golden frames, whose pictures are in ``files``; omit to keep the old ones.
        proven_on: Where their scores were computed, see `gonogo.runtime.runtime_environment`; omit to keep the old.
        part: The cameras that it was certified for; omit for a bundle without cameras.
        before_use: Called with the sealed revision before it takes the place of the old one, to record or to sign it;
            what it raises leaves the old one.
    """
    before = bundle.manifest
    old_files = {
        name: f"{REVISIONS}/{bundle.digests[name]}{Path(name).suffix}" for name in files or {} if name in bundle.digests
    }
    history = _history(bundle, now, old_files, golden=None if golden is None else before.golden)
    manifest = before.model_copy(update={"operating_point": point, "revisions": history, "part": part})
    if golden is not None:
        manifest = manifest.model_copy(update={"golden": golden, "proven_on": proven_on or before.proven_on})
    with folder_beside(bundle.root, replace=True) as partial:
        shutil.copytree(bundle.root, partial, dirs_exist_ok=True)
        for name, kept in old_files.items():
            if kept not in bundle.digests:
                write_beside(partial / kept, bundle.data(name))
        for name, data in (files or {}).items():
            if data is None:
                (partial / name).unlink(missing_ok=True)
            else:
                write_beside(partial / name, data)
        sealed = write_manifest(partial, manifest)
        if before_use is not None:
            before_use(sealed)
    return read_bundle(bundle.root)


def replace_recipe(bundle: Bundle, recipe: Recipe, *, now: str, keep_point: bool) -> Bundle:
    """Replace the recipe of a bundle; graph, golden frames and calibration scores stay unchanged.

    The folder is replaced atomically, and a signature is removed.

    Args:
        bundle: The bundle to revise.
        recipe: The new recipe; it must not change what the network sees.
        now: Time of the revision, UTC, ISO 8601.
        keep_point: Keep the operating point; otherwise it moves to the history, and every part goes to review.
    """
    manifest = bundle.manifest.model_copy(update={"recipe": recipe})
    if not keep_point:
        manifest = manifest.model_copy(
            update={"operating_point": None, "revisions": _history(bundle, now, {}, golden=None)}
        )
    with folder_beside(bundle.root, replace=True) as partial:
        shutil.copytree(bundle.root, partial, dirs_exist_ok=True)
        write_manifest(partial, manifest)
    return read_bundle(bundle.root)


def _history(
    bundle: Bundle, now: str, old_files: dict[str, str], *, golden: tuple[Golden, ...] | None
) -> tuple[Revision, ...]:
    """The manifest's revisions, with the current operating point added if there is one."""
    point = bundle.manifest.operating_point
    if point is None:
        return bundle.manifest.revisions
    revision = Revision(
        replaced=now,
        operating_point=operating_point.to_json(point),
        bundle_sha256=bundle.sha256,
        files=old_files,
        golden=golden,
        proven_on=None if golden is None else bundle.manifest.proven_on,
    )
    return (*bundle.manifest.revisions, revision)


def _require_plain(root: Path) -> None:
    """Refuse a folder that is not safe to read: devices, FIFOs, dangling links, or more bytes than any bundle has."""
    try:
        names = plain_files(root)
    except InputError as error:
        raise BundleError(str(error)) from error
    sizes = {name: (root / name).stat().st_size for name in names}
    largest = max(sizes, key=lambda name: sizes[name])
    if sum(sizes.values()) > _MOST_BYTES or sizes[SEAL] > _LONGEST_SEAL:
        raise BundleError(
            f"{root}: expected at most {_MOST_BYTES // 10**9} GB, found {sum(sizes.values()) / 1e9:,.0f} GB; the "
            f"largest file is {largest}. Copy the bundle again from the original."
        )


def _digests(root: Path) -> dict[str, str]:
    return {name: _sha256(root / name) for name in plain_files(root) if name not in (SEAL, SIGNATURE)}


def _signature(root: Path) -> bytes | None:
    try:
        return read_regular(root / SIGNATURE, most_bytes=_LONGEST_SIGNATURE)
    except FileNotFoundError:
        return None


def _seal_text(digests: Mapping[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _difference(sealed: bytes, expected: bytes) -> str:
    before, after = (set(text.decode(errors="replace").splitlines()) for text in (sealed, expected))
    names = sorted({line.partition("  ")[2] for line in before ^ after})
    return ", ".join(names[:5]) if names else f"{SEAL} itself"


def _first(error: ValidationError | OSError) -> str:
    if isinstance(error, OSError):
        return str(error.strerror)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
