"""Logs finished cells to MLflow and TensorBoard, where these are installed; nothing else depends on them.

Both write to local folders inside the study: ``mlflow ui --backend-store-uri STUDY/mlruns`` (newer versions want
``MLFLOW_ALLOW_FILE_STORE=true`` in the environment) and ``tensorboard --logdir STUDY/tensorboard`` show them.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gonogo.experiment.cell import Row
from gonogo.experiment.claims import claimed

LOGGED = "logged"


def log_rows(folder: Path, rows: Sequence[Row]) -> list[str]:
    """Log the rows that are not logged yet; a row is never logged twice, also by two processes.

    Returns:
        The names of the trackers that are installed.
    """
    trackers: dict[str, Callable[[Path, Row], None]] = {"mlflow": _to_mlflow, "tensorboard": _to_tensorboard}
    installed = {name: log for name, log in trackers.items() if importlib.util.find_spec(name) is not None}
    for name, log in installed.items():
        with claimed(folder / LOGGED / f".{name}.lock"):
            for row in rows:
                mark = folder / LOGGED / f"{row.cell.key}.{name}"
                if row.measured is not None and not mark.exists():
                    log(folder, row)
                    mark.touch()
    return list(installed)


def figures(row: Row) -> dict[str, float]:
    """The final figures of a row, those that are defined."""
    if row.measured is None or row.timing is None:
        return {}
    found: dict[str, float | None] = {name: rate.value for name, rate in row.measured.counts.rates().items()}
    found |= {"auroc": row.measured.auroc, "best_epoch": row.measured.best_epoch, "seconds": row.timing.seconds}
    found |= {"torch_ms": row.timing.torch_ms, "openvino_ms": row.timing.openvino_ms}
    return {name: float(value) for name, value in found.items() if value is not None}


def options(row: Row) -> dict[str, str | int | float]:
    """The options of a row's cell."""
    cell = row.cell
    return {
        "approach": str(cell.approach),
        "topology": cell.topology,
        "initialisation": str(cell.initialisation),
        "augmentation": cell.views,
        "seed": cell.seed,
        "side_px": cell.side_px,
        "epochs": cell.protocol.epochs,
        "batch": cell.protocol.batch,
        "learning_rate": cell.protocol.learning_rate,
    }


def _to_tensorboard(folder: Path, row: Row) -> None:
    from torch.utils.tensorboard import SummaryWriter

    assert row.measured is not None
    writer: Any = SummaryWriter(str(folder / "tensorboard" / row.cell.key))
    for epoch, losses in enumerate(row.measured.history, start=1):
        writer.add_scalar("loss/train", losses.train_loss, epoch)
        writer.add_scalar("loss/val", losses.val_loss, epoch)
    for name, value in figures(row).items():
        writer.add_scalar(f"test/{name}", value, row.measured.best_epoch)
    writer.close()


def _to_mlflow(folder: Path, row: Row) -> None:
    # A study is a folder that can be copied, so its runs are files; MLflow 3 wants to be told that this is meant.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow: Any = importlib.import_module("mlflow")  # belongs to no extra: never needed, used where it is there
    assert row.measured is not None
    mlflow.set_tracking_uri((folder / "mlruns").resolve().as_uri())
    mlflow.set_experiment("gonogo")
    with mlflow.start_run(run_name=row.cell.key):
        mlflow.log_params(options(row))
        for epoch, losses in enumerate(row.measured.history, start=1):
            mlflow.log_metrics({"train_loss": losses.train_loss, "val_loss": losses.val_loss}, step=epoch)
        mlflow.log_metrics(figures(row))
