"""Screening: a library and criteria in, a ranked shortlist and a report out, in one pass and flat memory."""

from unirna.base.job_settings import ScreenConfig
from unirna.screen.criteria import Criteria, ScreenError
from unirna.screen.job import screen_library

__all__ = ["Criteria", "ScreenConfig", "ScreenError", "screen_library"]
