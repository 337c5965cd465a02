"""A log in a SQLite file."""

from oautom.events.sqlite.writer import SqliteEventLog

__all__ = ["SqliteEventLog"]
