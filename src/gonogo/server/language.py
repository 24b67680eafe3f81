"""The pages' texts in every language via gettext: English in the code, translations in ``locale/``."""

from __future__ import annotations

import functools
import gettext
from pathlib import Path

from babel import Locale, negotiate_locale

from gonogo.errors import InputError

LANGUAGES = ("en", "de", "fr")
LANGUAGE_NAMES = {code: Locale.parse(code).display_name or code for code in LANGUAGES}
LOCALES = Path(__file__).parent / "locale"


def direction(language: str) -> str:
    """Writing direction of a language, for ``<html dir>``: ``ltr``, or ``rtl`` as in Arabic and Hebrew."""
    return Locale.parse(language).text_direction


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


def told(failure: RefusedError | str, language: str) -> str:
    """Why something failed, in a language; a message without a translation stays as it is."""
    if isinstance(failure, RefusedError):
        return failure.text(language)
    return translations(language).gettext(failure) if failure else ""


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
