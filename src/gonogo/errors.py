"""The exceptions gonogo raises. Each message says what was expected, what was found and what to do next."""

from __future__ import annotations


class GonogoError(Exception):
    """Base of every error that gonogo raises on purpose."""


class InputError(GonogoError):
    """An input cannot be used; the message names it and the next step."""


class ImageError(InputError):
    """A picture cannot be read safely: undecodable, truncated, or larger than the limits allow."""


class UnlocatedError(InputError):
    """The part was not found in a picture, or does not match the parts that the ROI config was fitted to."""


class DatasetError(InputError):
    """A data set is malformed, or its splits share a part."""


class WeightsError(InputError):
    """Pretrained weights are missing, unreadable or for another architecture."""


class RecipeError(InputError):
    """A recipe, an ROI config or a setting is malformed."""


class BundleError(InputError):
    """A bundle is incomplete, was changed after it was sealed, or does not reproduce its golden scores."""


class SignatureError(BundleError):
    """A required signature is missing, of something else, or by a key that is unknown, revoked or not allowed to."""


class MissingExtraError(InputError):
    """A command needs a package that only an optional extra installs; the message names the extra."""


class LedgerError(InputError):
    """A ledger, or a frame beside it, cannot be opened, read or written; nothing was recorded."""


class UnfitError(GonogoError):
    """The input is well formed but not suitable for the request (exit code 1)."""


class ParityError(UnfitError):
    """The exported graph does not reproduce the trained network."""
