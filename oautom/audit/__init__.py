"""Internal. A second opinion on a log: whether it can have come about."""
