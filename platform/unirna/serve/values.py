"""Stored values as plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any


def plain_row(row: dict[str, Any], own: Collection[str]) -> dict[str, Any]:
    """A row of a collection as the service gives it: id, length, sequence, and all other columns under `labels`."""
    labels = {name: plain(value) for name, value in row.items() if name not in own}
    return {"id": row["id"], "length": row["length"], "sequence": row["sequence"], "labels": labels}


def plain(value: Any) -> Any:
    """A label's value as JSON has it: no NaN or infinity (they become null), times in ISO 8601, bytes in hexadecimal."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (date, time)):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    return float(value) if isinstance(value, Decimal) else str(value)
