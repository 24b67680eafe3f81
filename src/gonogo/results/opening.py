"""Open the destinations of a station; the packages of each are imported only where it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gonogo.ledger.cursors import expect_publishing
from gonogo.results.delivery import Destination
from gonogo.results.lanes import Lane
from gonogo.results.outbox import Outbox
from gonogo.results.settings import (
    EmailResults,
    FolderResults,
    MqttResults,
    ObjectStoreResults,
    ResultSettings,
    SqlResults,
    WebhookResults,
    pictures_of,
)


def open_lanes(
    ledger: Path, station: str, results: Sequence[ResultSettings], compose: Callable[[EmailResults], Lane]
) -> list[tuple[Lane, float]]:
    """Return a lane for each destination, with the interval between two looks for new rows; nothing is connected yet.

    Args:
        ledger: The ledger.
        station: Name of the station.
        results: Settings of the destinations.
        compose: Returns the lane of an e-mail digest.
    """
    expect_publishing(ledger, station, {each.name: pictures_of(each) != "none" for each in results})
    return [
        (
            compose(each)
            if isinstance(each, EmailResults)
            else Outbox(ledger, station, each, open_destination(each, station)),
            each.every_s,
        )
        for each in results
    ]


def open_destination(settings: ResultSettings, station: str) -> Destination:
    """Return a destination, not connected yet."""
    match settings:
        case FolderResults():
            from gonogo.results.files import Folder

            return Folder(settings.folder)
        case ObjectStoreResults():
            from gonogo.results.files import open_store

            return open_store(settings.url, settings.options_file)
        case SqlResults():
            from gonogo.results.sql import SqlTable

            return SqlTable(settings.url_file, settings.table)
        case WebhookResults():
            from gonogo.results.webhook import Webhook

            return Webhook(settings)
        case MqttResults():
            from gonogo.results.mqtt import Mqtt

            return Mqtt(settings, station)
        case EmailResults():
            raise AssertionError("a digest is a lane of its own")
