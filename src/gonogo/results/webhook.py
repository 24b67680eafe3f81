"""Results as webhooks: each is posted as signed JSON until the receiver answers 2xx. Redirects are not followed."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from gonogo.results.credentials import read_secret, tls_context
from gonogo.results.delivery import Delivery, DeliveryError
from gonogo.results.settings import WebhookResults
from gonogo.results.signatures import signature

_MOST_RESPONSE_BYTES = 65_536
_MALFORMED = (400, 409, 413, 415, 422)
_TRY_AGAIN = (408, 425, 429)


class Webhook:
    """Posts to one address over a connection that is kept open."""

    def __init__(self, settings: WebhookResults) -> None:
        self._settings = settings
        self._parts = urlsplit(settings.url)
        self._shown = f"{self._parts.scheme}://{self._parts.netloc}{self._parts.path}"  # a query may hold a secret
        self._connection: http.client.HTTPConnection | None = None
        self._secret, self._token = "", ""

    def deliver(self, batch: Sequence[Delivery]) -> None:
        """Post each result."""
        if self._connection is None:
            self._connection = self._connect()
        for number, each in enumerate(batch):
            try:
                status = self._post(self._connection, each)
            except ssl.SSLCertVerificationError as error:
                raise DeliveryError(
                    f"{self._shown}: the certificate was not accepted ({error.verify_message}). Check ca_file.",
                    delivered=number,
                    refused=True,
                ) from error
            except (OSError, http.client.HTTPException) as error:
                raise DeliveryError(
                    f"{self._shown}: no answer ({str(error) or type(error).__name__})", delivered=number
                ) from error
            if not 200 <= status < 300:
                raise self._not_taken(each, status, number)

    def close(self) -> None:
        """Close the connection; the next delivery also reads secret and token again."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        settings, host = self._settings, self._parts.hostname or ""
        self._secret = read_secret(settings.secret_file, "the secret of the signature")
        self._token = "" if settings.token_file is None else read_secret(settings.token_file, "a bearer token")
        if self._parts.scheme == "http":
            return http.client.HTTPConnection(host, self._parts.port, timeout=settings.timeout_s)
        context = tls_context(settings.ca_file)
        return http.client.HTTPSConnection(host, self._parts.port, timeout=settings.timeout_s, context=context)

    def _post(self, connection: http.client.HTTPConnection, each: Delivery) -> int:
        """Post one result and return the status; once more where the receiver had closed an idle connection."""
        kept = connection.sock is not None
        try:
            return self._post_once(connection, each)
        except (ConnectionError, http.client.BadStatusLine):
            connection.close()
            if not kept:
                raise
            return self._post_once(connection, each)

    def _post_once(self, connection: http.client.HTTPConnection, each: Delivery) -> int:
        target = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        identity, now = each.document.result_id, int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "gonogo",
            "Idempotency-Key": identity,
            "webhook-id": identity,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(self._secret, identity, now, each.content),
        }
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        connection.request("POST", target, each.content, headers)
        response = connection.getresponse()
        response.read(_MOST_RESPONSE_BYTES)
        if not response.isclosed():  # more than anybody needs to acknowledge
            connection.close()
        return response.status

    def _not_taken(self, each: Delivery, status: int, number: int) -> DeliveryError:
        refused = 300 <= status < 500 and status not in _TRY_AGAIN
        advice = "It is tried again, and holds back all later ones." if refused else "It is tried again."
        return DeliveryError(
            f"{self._shown}: expected 2xx for {each.document.result_id}, found {status}. {advice}",
            delivered=number,
            refused=refused,
            malformed=status in _MALFORMED,
        )
