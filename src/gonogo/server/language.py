"""English and German texts via gettext. The code contains the English text; ``locale/`` contains the translations."""

from __future__ import annotations

import functools
import gettext
from pathlib import Path

from babel import Locale, negotiate_locale

from gonogo.errors import InputError

LANGUAGES = ("en", "de")
LANGUAGE_NAMES = {code: Locale.parse(code).display_name or code for code in LANGUAGES}
LOCALES = Path(__file__).parent / "locale"


def N_(message: str) -> str:  # noqa: N802 (gettext's own name for it)
    """Mark a message for translation without translating it; it is translated when it is shown."""
    return message


class RefusedError(InputError):
    """A request cannot be fulfilled; the message is shown in the user's language.

    Args:
        message: English, marked with `N_`, with ``%(name)s`` placeholders.
        values: Values for the placeholders.
    """

    def __init__(self, message: str, **values: str | int) -> None:
        self.message, self.values = message, values
        super().__init__(message % values)

    def text(self, language: str) -> str:
        """Return the translated message."""
        return translations(language).gettext(self.message) % self.values


@functools.cache
def translations(language: str) -> gettext.NullTranslations:
    """Return the catalogue of a language; English needs none."""
    return gettext.translation("messages", LOCALES, [language], fallback=language == "en")


def choose(setting: str | None, accept_language: str) -> str:
    """Choose the language: the user's setting, else the first supported language of the browser, else English."""
    if setting in LANGUAGES:
        return setting
    wanted = [piece.split(";")[0].strip() for piece in accept_language.split(",")]
    return negotiate_locale(wanted, LANGUAGES, sep="-") or "en"
