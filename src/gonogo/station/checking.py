"""``gonogo station check``: check everything that a station needs before it runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gonogo import bundle as bundles
from gonogo.capture import HealthCheck, measure, open_camera, read_token
from gonogo.capture.settings import FolderSettings, PushSettings
from gonogo.errors import GonogoError, UnfitError
from gonogo.files import MOST_SETTINGS_BYTES, read_regular
from gonogo.line.checking import check_adapter
from gonogo.results.credentials import read_secret
from gonogo.results.settings import ResultSettings
from gonogo.station.ledger_handle import LedgerHandle
from gonogo.station.models import load_model
from gonogo.station.settings import CentreSettings, HttpAnswers, StationCamera, StationSettings, signature_policy


@dataclass(frozen=True, kw_only=True)
class CheckFinding:
    """Result of one check."""

    what: str
    passed: bool
    detail: str


def check_station(settings: StationSettings) -> list[CheckFinding]:
    """Open the ledger, load the bundles, and take and check one picture with every camera.

    No picture is taken from folders and HTTP cameras, as it would then be missing on the line.
    """
    found = [_try("ledger", partial(_ledger, settings)), _try("state folder", partial(_state, settings.state_dir))]
    tokens = [settings.http.token_file] if settings.http is not None else []
    tokens += [settings.answer.token_file] if isinstance(settings.answer, HttpAnswers) else []
    found += [_try("token", partial(_token, file)) for file in tokens if file is not None]
    if settings.centre is not None:
        found.append(_try("centre", partial(_centre, settings.centre)))
    found += [_try(f"results {each.name}", partial(_destination, each)) for each in settings.results]
    found += [_try(f"adapter {each.name}", partial(check_adapter, each)) for each in settings.adapters]
    for product, sources in settings.sources().items():
        name = "bundle" if product is None else f"product {product}: bundle"
        for source in dict.fromkeys(sources):
            found.append(_try(f"{name} {source.name}", partial(_bundle, settings, source)))
    for each, source in zip(settings.cameras, next(iter(settings.sources().values())), strict=True):
        found.append(_try(f"camera {each.name}", partial(_camera, each, source)))
    return found


def _try(what: str, check: Callable[[], str]) -> CheckFinding:
    try:
        return CheckFinding(what=what, passed=True, detail=check())
    except (GonogoError, OSError) as error:
        return CheckFinding(what=what, passed=False, detail=str(error))


def _ledger(settings: StationSettings) -> str:
    own = LedgerHandle(settings.ledger, settings.state_dir)
    try:
        rows = own.open().head().seq
    finally:
        own.forget()
    free_mb = shutil.disk_usage(settings.ledger.parent).free / 1e6
    if free_mb < settings.min_free_mb:
        raise UnfitError(
            f"expected {settings.min_free_mb:,} MB of free disk space (min_free_mb), found {free_mb:,.0f}."
        )
    return f"{rows:,} rows; {free_mb:,.0f} MB of free disk space"


def _state(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".probe"
    probe.write_bytes(b"")
    probe.unlink()
    return f"{folder} is writable"


def _token(file: Path) -> str:
    read_token(file)
    return f"{file} contains a token"


def _centre(centre: CentreSettings) -> str:
    """Check the file with the URL; the forwarder reports whether the centre answers."""
    try:
        read_regular(centre.url_file, most_bytes=MOST_SETTINGS_BYTES, private=True)
    except OSError as error:
        raise UnfitError(
            f"{centre.url_file}: expected a file with the centre's URL that only this user may open "
            f"({error.strerror or error}). Create it, then: chmod 600 {centre.url_file}"
        ) from error
    return f"{centre.url_file} is there and private; rows are forwarded every {centre.every_s:g} s"


def _destination(destination: ResultSettings) -> str:
    """Check the files with secrets; the process that delivers reports whether the destination answers."""
    private = [
        path
        for name in ("url_file", "secret_file", "token_file", "password_file", "cert_file", "options_file")
        if (path := getattr(destination, name, None)) is not None
    ]
    for path in private:
        read_secret(path, "a secret")
    return f"{destination.kind}; {', '.join(path.name for path in private) or 'no file with secrets'}"


def _place(source: Path) -> Path:
    """Return the bundle's folder: the source itself, or the folder that a text file names."""
    return source.parent / source.read_text(encoding="utf-8").strip() if source.is_file() else source


def _bundle(settings: StationSettings, source: Path) -> str:
    model = load_model(_place(source), device=settings.device, policy=signature_policy(settings))
    if source == settings.bundle and settings.bundle_sha256 not in (None, model.sha256):
        raise UnfitError(f"expected bundle {settings.bundle_sha256}, found {model.sha256}.")
    threshold = "no part can pass" if model.go_below is None else f"go below {model.go_below:.4g}"
    signed = "" if model.signature is None else f", signed by {model.signature.signer}"
    return f"{model.name} {model.sha256[:16]}: golden frames reproduced, {threshold}, device {model.device}{signed}"


def _camera(checked: StationCamera, bundle: Path) -> str:
    source = checked.camera
    if isinstance(source, FolderSettings):
        count = sum(1 for _ in source.folder.iterdir())
        return f"{source.folder} exists, {count} entries"
    if isinstance(source, PushSettings):
        read_token(source.token_file)
        return f"waits for pictures at {source.host}:{source.port}"
    recipe = bundles.read_bundle(_place(bundle)).manifest.recipe
    camera = open_camera(source)
    try:
        acquired = camera.acquire("check", timeout_s=5.0)
        frame = acquired.unpacked(recipe)
        HealthCheck(checked.health).require(frame, size_wh=acquired.photograph.size_wh)
        acquired.photograph.judged(recipe)  # raises for a raw frame if the bundle needs pictures reduced by the decoder
    finally:
        camera.close()
    facts = measure(frame)
    sharpness = "no contrast" if facts.sharpness is None else f"sharpness {facts.sharpness:.3f}"
    return f"{frame.shape[1]} x {frame.shape[0]} pixels, brightest {facts.brightest:.0f}, {sharpness}"
