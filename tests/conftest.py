"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says nothing on a busy machine, nor where it is the first to import something.
settings.register_profile("headrace", deadline=None)
settings.load_profile("headrace")
