"""Sequences to vectors at any size: a Ray Data job that streams files through a model into a collection."""

from unirna.base.job_settings import EmbedConfig
from unirna.embed.chance import calibrate
from unirna.embed.job import embed_collection

__all__ = ["EmbedConfig", "calibrate", "embed_collection"]
