"""Jobs that callers submit."""
