"""Files that hold other files, or compressed text that nobody here unpacks: told by their first bytes."""

from __future__ import annotations

from typing import Final

CONTAINERS: Final = (
    (b"PK\x03\x04", "is a zip archive or an Excel workbook. Unpack it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "is an Excel workbook. Save the sheet as CSV"),
    (b"\xfd7zXZ\x00", "is compressed with xz. Decompress it first: xz -d"),
    (b"7z\xbc\xaf", "is a 7z archive. Unpack it first"),
    (b"Rar!", "is a rar archive. Unpack it first"),
    (b"%PDF", "is a PDF. Save its sequences as text"),
    (b"\x89HDF", "is an HDF5 file. Export its sequences as FASTA or CSV"),
    (b"ARROW1", "is an Arrow file. Save it as Parquet or CSV"),
    (b"BAM\x01", "is a BAM file. Convert it: samtools fastq"),
)
"""First bytes of files that are not read, and what to do with them."""
LONGEST: Final = 8
"""Bytes of a file that `refusal_of` looks at."""


def refusal_of(head: bytes) -> str:
    """Why a file cannot be read, with the way out; empty where its first bytes are none of a known container.

    Args:
        head: its first bytes, decompressed.
    """
    return next((text for mark, text in CONTAINERS if head.startswith(mark)), "")
