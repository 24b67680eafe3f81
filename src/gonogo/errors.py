"""The exceptions gonogo raises. Each message says what was expected, what was found and what to do next."""

from __future__ import annotations


class GonogoError(Exception):
    """Base of every error that gonogo raises on purpose."""


class InputError(GonogoError):
    """Something the user handed over cannot be used; the message names it and the next step."""


class ImageError(InputError):
    """A picture cannot be read safely: undecodable, truncated, or larger than the limits allow."""


class UnlocatedError(InputError):
    """The part was not found in a picture, or is not as it was taught."""


class DatasetError(InputError):
    """A data set is malformed, or its splits leak."""


class WeightsError(InputError):
    """Pretrained weights are missing, unreadable or made for another architecture."""


class RecipeError(InputError):
    """A recipe or a setting is malformed."""


class BundleError(InputError):
    """A bundle is incomplete, was changed after it was sealed, or does not reproduce its golden scores."""


class MissingExtraError(InputError):
    """A command needs a package that only an optional extra installs; the message names the extra."""


class LedgerError(InputError):
    """A ledger, or a frame beside it, cannot be opened, read or written; nothing was recorded."""


class UnfitError(GonogoError):
    """The input is well formed but not fit for what was asked (exit code 1)."""


class ParityError(UnfitError):
    """The exported graph does not reproduce the trained network."""
