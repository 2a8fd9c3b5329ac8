"""What every room may use, of the standard library alone: wording, console commands, and text that people paste or drop."""

from unirna.base.command import command
from unirna.base.containers import refusal_of
from unirna.base.pasted import Pasted, PastedRecord, is_name, parse_text
from unirna.base.tables import PastedError
from unirna.base.wording import counted, percent

__all__ = ["Pasted", "PastedError", "PastedRecord", "command", "counted", "is_name", "parse_text", "percent", "refusal_of"]
