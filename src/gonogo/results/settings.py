"""``[[results]]`` of ``station.toml``: the destinations that each result is delivered to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from gonogo.config import Strict
from gonogo.schema import State

Seconds: TypeAlias = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Pictures: TypeAlias = Literal["none", "not_go", "all"]
Port: TypeAlias = Annotated[int, Field(ge=1, le=65_535)]


class Common(Strict):
    """What every destination has."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")
    """Unique in the station; a destination with a new name receives everything from ``first_row`` on."""
    include: tuple[State, ...] = Field(default=tuple(State), min_length=1)
    """States of the verdicts that are delivered."""
    decisions: bool = True
    """Deliver people's decisions on these parts too."""
    first_row: int = Field(default=1, ge=1)
    """First row of the ledger that is delivered; for a new destination of a long ledger."""
    every_s: Seconds = 1.0
    """Interval between two looks for new rows."""
    alarm_after_s: Seconds = 600.0
    """Age of the oldest row that is not delivered at which the station raises an alarm."""


class FolderResults(Common):
    """One JSON file for each result, in a folder for each day (UTC)."""

    kind: Literal["folder"]
    folder: Path
    pictures: Pictures = "none"
    """Copy the stored frames too: ``not_go`` those of parts that are not go."""


class ObjectStoreResults(Common):
    """The same files in an S3-compatible store or another file system of fsspec."""

    kind: Literal["object_store"]
    url: str = Field(pattern=r"^[a-z0-9+]+://[^@]+$")
    """``s3://bucket/folder``."""
    options_file: Path | None = None
    """TOML file with options of the file system, such as ``key``, ``secret`` and ``endpoint_url``, which only this user
    may open. Without, the environment of the station says them: ``AWS_ACCESS_KEY_ID``, ..."""
    pictures: Pictures = "none"


class SqlResults(Common):
    """One row for each result in a table of PostgreSQL or SQLite, which is created."""

    kind: Literal["sql"]
    url_file: Path
    """File with the URL, ``postgresql://user:password@host/database`` or ``sqlite:////folder/file.db``, which only this
    user may open."""
    table: str = Field(default="gonogo_results", pattern=r"^[a-z][a-z0-9_]{0,50}$")


class WebhookResults(Common):
    """Each result is posted as JSON, signed, and retried until the receiver answers 2xx."""

    kind: Literal["webhook"]
    url: str
    secret_file: Path
    """File with the secret of the signature, which only this user may open."""
    token_file: Path | None = None
    """File with a bearer token, which only this user may open."""
    ca_file: Path | None = None
    """Certificates that the receiver's must be signed by. Default: those of this machine."""
    timeout_s: Seconds = 10.0
    skip_refused: bool = False
    """Go on after a result that the receiver calls malformed (400, 409, 413, 415 or 422), and record that it was
    skipped. By default it holds back all later ones."""

    @field_validator("url")
    @classmethod
    def _names_a_host(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            port_is_valid = parts.port is None or parts.port > 0
        except ValueError:
            raise ValueError("expected a URL such as https://mes.example/hooks/gonogo") from None
        plain = value.isascii() and value.isprintable() and " " not in value
        if parts.scheme not in ("http", "https") or not parts.hostname or not plain or not port_is_valid:
            raise ValueError("expected a URL such as https://mes.example/hooks/gonogo")
        if parts.username is not None or parts.password is not None:
            raise ValueError("expected no user or password in the URL; use token_file")
        return value


class MqttResults(Common):
    """Each result is published to an MQTT 5 topic."""

    kind: Literal["mqtt"]
    host: str = Field(min_length=1, max_length=253)
    port: Port | None = None
    """Default: 8883 with TLS, otherwise 1883."""
    topic: str = Field(default="gonogo/{station}/results", min_length=1, max_length=200, pattern=r"^[^+#\x00]+$")
    """``{station}`` stands for the station's name."""
    qos: Literal[1, 2] = 1
    user: str | None = None
    password_file: Path | None = None
    """File with the password, which only this user may open."""
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    """Certificate of this client, and its key in the same file, which only this user may open."""
    timeout_s: Seconds = 10.0

    @model_validator(mode="after")
    def _fits_together(self) -> MqttResults:
        if self.password_file is not None and self.user is None:
            raise ValueError("user: expected the user that the password belongs to, found none")
        if not self.tls and (self.ca_file is not None or self.cert_file is not None):
            raise ValueError("tls: expected true with ca_file or cert_file, found false")
        return self


class EmailResults(Common):
    """One mail at the end of each shift in which a part was judged: a digest, not every result."""

    kind: Literal["email"]
    host: str = Field(min_length=1, max_length=253)
    port: Port | None = None
    """Default: 587 with ``starttls``, 465 with ``tls``, otherwise 25."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    ca_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    """File with the password, which only this user may open."""
    sender: str = Field(pattern=r"^[^\s@<>,]+@[^\s@<>,]+$")
    to: tuple[Annotated[str, Field(pattern=r"^[^\s@<>,]+@[^\s@<>,]+$")], ...] = Field(min_length=1, max_length=50)
    shifts: tuple[Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")], ...] = ("06:00", "14:00", "22:00")
    """Starts of the shifts, ascending, in local time of ``zone``."""
    zone: str = "UTC"
    """Time zone, such as ``Europe/Berlin``."""
    timeout_s: Seconds = 30.0

    @model_validator(mode="after")
    def _fits_together(self) -> EmailResults:
        if not self.shifts or list(self.shifts) != sorted(set(self.shifts)):
            raise ValueError(f"shifts: expected ascending times, found {', '.join(self.shifts) or 'none'}")
        if (self.user is None) != (self.password_file is None):
            raise ValueError("expected user and password_file together")
        if self.user is not None and self.security == "none":
            raise ValueError("security: expected starttls or tls with a password, found none")
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"zone: expected a time zone such as Europe/Berlin, found {self.zone!r}") from None
        return self


ResultSettings: TypeAlias = Annotated[
    FolderResults | ObjectStoreResults | SqlResults | WebhookResults | MqttResults | EmailResults,
    Field(discriminator="kind"),
]

KINDS = frozenset(("folder", "object_store", "sql", "webhook", "mqtt", "email"))
"""The kinds of destinations."""


def pictures_of(settings: ResultSettings) -> Pictures:
    """Return which pictures a destination receives."""
    return settings.pictures if isinstance(settings, FolderResults | ObjectStoreResults) else "none"
