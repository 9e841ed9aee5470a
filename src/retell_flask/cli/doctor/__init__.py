"""``doctor``: checks of the whole set-up of one blueprint."""

from .command import doctor

__all__ = ["doctor"]
