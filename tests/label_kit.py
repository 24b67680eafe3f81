"""What a person at the label page sends, for tests in process."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import cv2
import numpy as np
from fastapi import FastAPI

from gonogo.dataset import Dataset
from gonogo.images import encode_png
from gonogo.schema import Frame
from server_kit import Browser

SIZE_WH = (160, 120)


def photo(rng: np.random.Generator) -> Frame:
    return cv2.resize(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8), SIZE_WH, interpolation=cv2.INTER_CUBIC)


def zipped(files: dict[str, bytes], **more: Any) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content, **more)
    return data.getvalue()


def upload(browser: Browser, files: dict[str, bytes], *, by_folder: bool = False, dataset: str = "part") -> Any:
    headers = {"origin": "http://testserver", "x-csrf-token": browser.csrf}
    sent = [("files", (name, content)) for name, content in files.items()]
    path = f"/datasets/{dataset}/upload"
    return browser.client.post(path, files=sent, data={"by_folder": str(by_folder)}, headers=headers)


def with_pictures(browser: Browser, rng: np.random.Generator, count: int = 3) -> list[dict[str, Any]]:
    upload(browser, {f"p{number}.png": encode_png(photo(rng)) for number in range(count)})
    return rows(browser)


def rows(browser: Browser) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = browser.client.get("/datasets/part/samples").json()["rows"]
    return found


def save(browser: Browser, row: dict[str, Any], **values: object) -> Any:
    return browser.call("/datasets/part/save", {"file": row["file"], "revision": row["revision"], **values})


def stored(app: FastAPI) -> Dataset:
    return Dataset.read(app.state.components.workspace.datasets / "part")


def actions(app: FastAPI, action: str) -> list[Any]:
    with app.state.components.ledger_pool.reading() as ledger:
        return [row.record for row in ledger.actions() if row.record.action == action]
