"""An e-mail at the end of each shift. What it says is composed by the caller; see `gonogo.station.digest`."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

from gonogo.errors import LedgerError
from gonogo.ledger import Ledger
from gonogo.ledger.cursors import Cursor, cursor_path, read_cursor, write_cursor
from gonogo.ledger.records import Opened
from gonogo.results.credentials import read_secret, tls_context
from gonogo.results.delivery import DeliveryError
from gonogo.results.lanes import LaneState
from gonogo.results.settings import EmailResults

_GRACE = timedelta(minutes=2)
"""Parts of a shift are recorded a little after its end."""


@dataclass(frozen=True, kw_only=True)
class DigestText:
    """What one mail says."""

    subject: str
    body: str


Compose = Callable[[datetime, datetime], DigestText | None]
"""Returns what to say of the time from the first moment to the second; ``None`` if no part was judged."""


def shift_ends(settings: EmailResults, after: datetime, until: datetime) -> list[datetime]:
    """Return the moments at which shifts end, after the first moment and up to the second."""
    zone = ZoneInfo(settings.zone)
    day, found = after.astimezone(zone).date(), []
    while day <= until.astimezone(zone).date():
        starts = (datetime.combine(day, time.fromisoformat(each), zone) for each in settings.shifts)
        found += [moment for moment in starts if after < moment.astimezone(UTC) <= until]
        day += timedelta(days=1)
    return found


class Digests:
    """Sends one mail for each shift that has ended; its cursor is the end of the last one."""

    def __init__(
        self,
        ledger: Path,
        station: str,
        settings: EmailResults,
        compose: Compose,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Store the arguments; nothing is opened yet."""
        self._ledger, self._station, self._settings = ledger, station, settings
        self._compose, self._now = compose, now
        self.cursor_path = cursor_path(ledger, station, settings.name)
        self._until: datetime | None = None
        self._waiting: list[datetime] = []
        self._delivered = 0
        self._trouble = ""

    def step(self) -> bool:
        """Send the mail of the oldest shift that has ended and was not reported.

        Returns:
            Whether more shifts wait.

        Raises:
            DeliveryError: the mail server is down or refuses.
            LedgerError: the ledger cannot be read.
            InputError: the cursor cannot be written, or the password cannot be read.
        """
        ready = self._now() - _GRACE
        if self._until is None:
            cursor = read_cursor(self.cursor_path)
            since = cursor.until if cursor is not None and cursor.until is not None else None
            self._until = since or self._begin(ready)
        self._waiting = shift_ends(self._settings, self._until, ready)
        if not self._waiting:
            return False
        start, end = self._until, self._waiting[0]
        starts = shift_ends(self._settings, end - timedelta(days=2), end - timedelta(seconds=1))
        start = max([start, *starts[-1:]])  # after a long pause, each mail still covers one shift
        text = self._compose(start, end)
        if text is not None:
            self._send(text, end)
            self._delivered += 1
        self._keep(end)
        return len(self._waiting) > 1

    def state(self) -> LaneState:
        """Return how far the digests are; each waiting shift counts as a row."""
        oldest = min(self._waiting, default=None)
        lag_s = 0.0 if oldest is None else max(0.0, (self._now() - oldest).total_seconds())
        return LaneState(
            name=self._settings.name,
            kind=self._settings.kind,
            at=datetime.now(UTC),
            lag_rows=len(self._waiting),
            lag_s=round(lag_s, 3),
            seq=0,
            delivered=self._delivered,
            trouble=self._trouble,
            refused=bool(self._trouble),
        )

    def close(self) -> None:
        """Read the cursor again at the next step."""
        self._until = None

    def finish(self) -> None:
        """The cursor is written after each mail."""

    def _begin(self, now: datetime) -> datetime:
        """Begin with the shift that is running: nobody wants last year's shifts by mail."""
        before = shift_ends(self._settings, now - timedelta(days=2), now)
        self._keep(before[-1])
        return before[-1]

    def _keep(self, until: datetime) -> None:
        write_cursor(self.cursor_path, Cursor(until=until))
        self._until = until
        self._waiting = [each for each in self._waiting if each > until]

    def _message(self, text: DigestText, end: datetime) -> EmailMessage:
        with Ledger.open(self._ledger, create=False, read_only=True) as ledger:
            first = ledger.row(1)
        if first is None:
            raise LedgerError(f"{self._ledger}: the ledger has lost its first row.")
        message = EmailMessage()
        message["Subject"] = text.subject
        message["From"] = self._settings.sender
        message["To"] = ", ".join(self._settings.to)
        message["Date"] = self._now()
        # The same shift always has the same id, by which a mail system may drop a double.
        moment = end.astimezone(UTC).strftime("%Y%m%dT%H%M")
        name = cast("Opened", first.record).ledger
        message["Message-ID"] = f"<{name}.{self._station}.{self._settings.name}.{moment}@gonogo.invalid>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text.body)
        return message

    def _send(self, text: DigestText, end: datetime) -> None:
        settings = self._settings
        message = self._message(text, end)
        shown = f"{settings.host}:{_port(settings)}"
        password = (
            None
            if settings.password_file is None
            else read_secret(settings.password_file, "the mail server's password")
        )
        context = None if settings.security == "none" else tls_context(settings.ca_file)
        try:
            with (
                smtplib.SMTP_SSL(settings.host, _port(settings), timeout=settings.timeout_s, context=context)
                if settings.security == "tls"
                else smtplib.SMTP(settings.host, _port(settings), timeout=settings.timeout_s)
            ) as server:
                if settings.security == "starttls":
                    server.starttls(context=context)
                if settings.user is not None and password is not None:
                    server.login(settings.user, password)
                unknown = server.send_message(message)
        except (smtplib.SMTPAuthenticationError, smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused) as error:
            raise DeliveryError(f"{shown}: the mail server refuses ({type(error).__name__})", refused=True) from error
        except (OSError, smtplib.SMTPException) as error:
            raise DeliveryError(f"{shown}: the mail was not sent ({str(error) or type(error).__name__})") from error
        # Not sent again: the others have it.
        self._trouble = f"{shown}: the mail server refuses {', '.join(sorted(unknown))}" if unknown else ""


def _port(settings: EmailResults) -> int:
    return settings.port or {"starttls": 587, "tls": 465, "none": 25}[settings.security]
