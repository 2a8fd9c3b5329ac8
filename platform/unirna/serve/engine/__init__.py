"""What the service answers, without HTTP or Ray."""
