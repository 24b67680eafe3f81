"""What a person types to sign a change: reason, meaning, passphrase. The same in forms and in requests of scripts."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Depends, Form
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from gonogo.server.auth.signing_keys import LONGEST_PASSPHRASE

LONGEST_REASON = 400
Meaning = Literal["approved", "reviewed", "responsible"]
"""What a signature means (21 CFR 11.50); the template ``signature.html`` names them."""


class SignatureFields(BaseModel):
    """Reason, meaning and passphrase; the passphrase is shown in no log and no error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    passphrase: Annotated[SecretStr, Field(max_length=LONGEST_PASSPHRASE * 4)] = SecretStr("")
    reason: Annotated[str, Field(max_length=LONGEST_REASON)] = ""
    meaning: Meaning = "approved"

    @property
    def given(self) -> bool:
        """Whether there is a passphrase."""
        return bool(self.passphrase.get_secret_value())


def _from_form(
    passphrase: Annotated[str, Form(max_length=LONGEST_PASSPHRASE * 4)] = "",
    reason: Annotated[str, Form(max_length=LONGEST_REASON)] = "",
    meaning: Annotated[Meaning, Form()] = "approved",
) -> SignatureFields:
    return SignatureFields(passphrase=SecretStr(passphrase), reason=reason, meaning=meaning)


SignatureForm = Annotated[SignatureFields, Depends(_from_form)]
"""Type of a handler argument: the signature of a form, which may be empty."""
UNSIGNED = SignatureFields()
