"""Columns of a collection and of search results."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

OWN: Final = ("id", "sequence", "length", "sha", "vector")
"""Columns that every collection has, in this order; label columns follow."""
VERIFIED: Final = pa.schema(
    [
        ("alignment_score", pa.int32()),
        ("identity", pa.float32()),
        ("query_coverage", pa.float32()),
        ("target_coverage", pa.float32()),
        ("query_start", pa.int32()),
        ("query_end", pa.int32()),
        ("target_start", pa.int32()),
        ("target_end", pa.int32()),
        ("cigar", pa.string()),
    ]
)
"""Columns that a verified search adds (`Alignment`)."""
RESERVED: Final = (*OWN, "vectors", "query", "rank", "similarity", "found_by", *VERIFIED.names)
"""Names that a label column cannot have: our own, and those of a search result. `unirna.vectorstore.names` has the rule."""
