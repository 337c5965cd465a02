"""The file of a log: opening it, its tables, and the meaning of its errors.

Its form has a version. A new file has version 0, which has no tables; each migration leads from one
version to the next, so the making of a new log is the first of them.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal

from oautom.errors import LogCorruptError, LogError, LogVersionError, SettingError, shown
from oautom.events.sqlite.lock import Connected, connected, disconnected
from oautom.events.sqlite.texts import LOG_TEXTS, NO_LOG_TEXTS
from oautom.machine.tables import VECT_ENDS
from oautom.processes import forked

BUSY_SECONDS = 5.0
"""Seconds that a write waits for one of another process. Tests make it shorter."""

_PAGE_BYTES_MAX: Final = 65_536
_WAL_KEPT_BYTES: Final = 4 * 2**20  # of the write-ahead log, at its restart
_JOURNAL_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")  # sqlite.org/fileformat2.html, 3

FAULTS: Final = (sqlite3.Error, OSError, OverflowError, UnicodeDecodeError)
"""The errors of SQLite and of the system; `Database.error` translates them."""

# SQLITE_ERROR means a wrong statement. Ours are right, so the file must be damaged.
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)

_NOT_ALLOWED: Final = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)

_SIZE_MIN: Final = 512  # of a database with a table

_APPLICATION_ID: Final = 0x6F41746D  # "oAtm": says to `file` and to us whose database it is

_EVENTS: Final = """CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    time TEXT NOT NULL,
    flow TEXT NOT NULL,
    vect TEXT NOT NULL,
    step TEXT,
    attempt INTEGER,
    name TEXT NOT NULL,
    source TEXT,
    dest TEXT NOT NULL,
    data TEXT NOT NULL,
    crc INTEGER NOT NULL
)"""

_VECT_EVENTS: Final = """CREATE INDEX vect_events
ON events (vect, seq, flow, dest, time) WHERE step IS NULL"""

_ENDS: Final = ", ".join(map(repr, sorted(VECT_ENDS)))
_EVENTS_OF_VECT: Final = "CREATE INDEX events_of_vect ON events (vect)"

_VECTS: Final = """CREATE TABLE vects (
    first_seq INTEGER PRIMARY KEY,
    vect TEXT NOT NULL,
    flow TEXT NOT NULL,
    state TEXT NOT NULL,
    created TEXT NOT NULL,
    changed TEXT NOT NULL,
    events INTEGER
)"""

_PLANS: Final = """CREATE TABLE plans (
    name TEXT PRIMARY KEY,
    planned TEXT NOT NULL,
    seq INTEGER NOT NULL
) WITHOUT ROWID"""

# The summary from the events themselves, for a file whose version lacks these tables.
# No index is used: the new tables must not be made from one that is damaged.
_TOLD_OF_VECTS: Final = """
SELECT first.seq AS first_seq, first.vect AS vect, first.flow AS flow, last.dest AS state,
    first.time AS created, last.time AS changed, NULL AS events
FROM (
    SELECT min(seq) AS first_seq, max(seq) AS last_seq FROM events NOT INDEXED
    WHERE step IS NULL AND dest NOT IN ('planned', 'skipped') GROUP BY vect
) JOIN events AS first ON first.seq = first_seq JOIN events AS last ON last.seq = last_seq
"""
_TOLD_OF_PLANS: Final = """
SELECT name, max(rtrim(planned, 'Z')) || 'Z' AS planned, max(seq) AS seq FROM (
    SELECT json_extract(data, '$.plan') AS name, json_extract(data, '$.planned') AS planned, seq
    FROM events NOT INDEXED
    WHERE step IS NULL AND dest IN ('pending', 'planned', 'skipped')
    UNION ALL
    SELECT rtrim(rtrim(vect, replace(vect, '@', '')), '@'),
        substr(vect, length(rtrim(vect, replace(vect, '@', ''))) + 1), first_seq
    FROM pruned
) WHERE name <> '' AND planned GLOB '[0-9]*-*-*T*:*:*Z' GROUP BY name
"""

_REQUESTS: Final = """CREATE TABLE requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    vect TEXT NOT NULL,
    action TEXT NOT NULL,
    data TEXT NOT NULL
)"""

_PRUNED: Final = """CREATE TABLE pruned (
    first_seq INTEGER PRIMARY KEY,
    last_seq INTEGER NOT NULL,
    events INTEGER NOT NULL,
    vect TEXT NOT NULL,
    flow TEXT NOT NULL,
    state TEXT NOT NULL,
    ended TEXT NOT NULL,
    pruned TEXT NOT NULL
)"""

_GAPS: Final = """CREATE TABLE gaps (
    last_seq INTEGER PRIMARY KEY,
    first_seq INTEGER NOT NULL,
    crc INTEGER NOT NULL
)"""

_GIVEN_UP: Final = """CREATE TABLE given_up (
    name TEXT NOT NULL,
    seq INTEGER NOT NULL,
    error TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    time TEXT NOT NULL,
    PRIMARY KEY (name, seq)
) WITHOUT ROWID"""

_ANSWERS: Final = """CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    seq INTEGER NOT NULL,
    refusal TEXT
)"""

_CLIENTS: Final = (
    "ALTER TABLE requests ADD COLUMN until REAL",  # when the sender gives up; NULL for never
    "ALTER TABLE requests ADD COLUMN claimed INTEGER",  # the engine that has claimed it
    "ALTER TABLE answers ADD COLUMN error TEXT",
    "CREATE TABLE engine (name TEXT PRIMARY KEY, told TEXT NOT NULL) WITHOUT ROWID",
)

_STARTS: Final = (
    "CREATE TABLE starts (pool TEXT NOT NULL, time INTEGER NOT NULL)",  # microseconds since 1970
    "CREATE INDEX starts_of_pool ON starts (pool, time)",
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('id', lower(hex(randomblob(16))))",
        _EVENTS,
        _VECT_EVENTS,
        _REQUESTS,
        "CREATE TABLE positions (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID",
        _PRUNED,
        _GAPS,
    ),
    (_GIVEN_UP,),
    (_ANSWERS,),
    (
        "DROP INDEX vect_events",
        _EVENTS_OF_VECT,
        _VECTS,
        f"INSERT INTO vects {_TOLD_OF_VECTS} ORDER BY first_seq",
        """UPDATE vects SET events = (SELECT count(*) FROM events WHERE vect = vects.vect
        AND seq >= first_seq AND (step IS NOT NULL OR dest NOT IN ('planned', 'skipped')))""",
        "CREATE UNIQUE INDEX vects_by_id ON vects (vect)",
        "CREATE INDEX vects_of_flow ON vects (flow)",
        f"CREATE INDEX open_vects ON vects (first_seq) WHERE state NOT IN ({_ENDS})",
        _PLANS,
        f"INSERT INTO plans {_TOLD_OF_PLANS}",
        "CREATE INDEX skips ON events (seq) WHERE step IS NULL AND dest = 'skipped'",
        "CREATE INDEX pruned_by_id ON pruned (vect)",
    ),
    (*_CLIENTS, LOG_TEXTS),
    _STARTS,
)
"""Each leads from one version to the next; the first from 0, a file without tables."""

_NO_GIVEN_UP: Final = "SELECT '' AS name, 0 AS seq, '' AS error, 0 AS attempts, '' AS time LIMIT 0"
_NO_ANSWERS: Final = "SELECT 0 AS id, 0 AS seq, '' AS refusal, 0 AS time, '' AS error LIMIT 0"
_BEFORE_CLIENTS: Final = (
    ("requests", "SELECT *, NULL AS until, NULL AS claimed FROM main.requests"),
    ("answers", "SELECT *, NULL AS error FROM main.answers"),
    ("engine", "SELECT '' AS name, '' AS told LIMIT 0"),
)

_SHOWN_AS: Final[tuple[tuple[tuple[str, str], ...], ...]] = (
    (),
    (("given_up", _NO_GIVEN_UP),),
    (("answers", _NO_ANSWERS),),
    (("vects", _TOLD_OF_VECTS), ("plans", _TOLD_OF_PLANS)),
    (*_BEFORE_CLIENTS, ("log_texts", NO_LOG_TEXTS)),
    (("starts", "SELECT '' AS pool, 0 AS time LIMIT 0"),),
)
"""For each migration, views that stand for the tables which a file lacks before it.

So a file of an older version can be read as it is, only slower. If two stand for one table, the
first one counts, that of the older version.
"""


class Database:
    """Opens connections to the file of a log: always to the same file, or not at all.

    Args:
        path: The file.
        read_only: Change nothing, and make no file.

    Attributes:
        is_old: Whether its version is an older one: `migrate` brings it up to date.

    Raises:
        LogCorruptError: The file is damaged, or is no log; it is left as it was.
        LogVersionError: The version of the file is unknown; the file is left as it was.
        LogError: The file cannot be opened.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path = path
        self._name = os.fspath(path)
        self.process = forked.here
        self._is_another = False
        self._stamp: tuple[int, int] | None = None
        with self.told("opened"):
            if not read_only and _is_half_made(path):
                _connect(path, "rw").close()  # SQLite rolls back what is not safe
            version = _version(path)
        if read_only and version == 0:
            raise LogError(f"log '{path}' has not been made yet; open it for writing first")
        if version > len(MIGRATIONS):
            raise LogVersionError(str(path), version, len(MIGRATIONS))
        with self.told("opened"):
            if version == 0:
                _migrate(path, 0)
            self._version = version or len(MIGRATIONS)
            self.stat = path.stat()
            with self._connected("read") as connection:
                self._check_schema(connection)
                self._check_name(connection)
                self._log = id_of(connection, path)

    @property
    def is_old(self) -> bool:
        """Whether the version of the file is an older one, which can only be read."""
        return self._version < len(MIGRATIONS)

    def migrate(self) -> None:
        """Bring the file up to date, if its version is an older one."""
        if self.is_old:
            with self.told("brought up to date"):
                self.check_is_there()
                _migrate(self.path, self._version)
            self._version = len(MIGRATIONS)

    @contextmanager
    def told(self, doing: str) -> Iterator[None]:
        """Raise errors of SQLite and of the system as those of the log."""
        try:
            yield
        except FAULTS as error:
            raise self.error(doing, error) from error

    def error(self, doing: str, error: Exception) -> LogError:
        """Return an error of SQLite or of the system as an error of the log, with a remedy."""
        code = getattr(error, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF
        is_no_text = isinstance(error, UnicodeDecodeError) or "decode to UTF-8" in str(error)
        if primary in _DAMAGED or is_no_text:
            return LogCorruptError(str(self.path), str(error))
        if code == sqlite3.SQLITE_READONLY and os.access(self.path, os.W_OK):
            # SQLite treats a file with an unknown header as read-only.
            return LogCorruptError(str(self.path), "its header makes it read-only")
        remedy = _REMEDIES.get(primary or 0, "check that the disk is there, and start again")
        if primary == sqlite3.SQLITE_BUSY:
            remedy = f"another program has kept it locked for {BUSY_SECONDS:g} s: end that program"
        return LogError(f"log '{self.path}' cannot be {doing}: {error}; {remedy}")

    def check_process(self) -> None:
        """Refuse to go on in a forked child.

        Raises:
            EngineError: This process is a forked child.
        """
        self.process.check(
            f"log '{self.path}'",
            "open it anew in the forked process: SqliteEventLog(path, read_only=True)",
        )

    def is_there(self) -> bool:
        """Whether the file at its path is the one that was opened."""
        try:
            found = os.stat(self._name)
        except OSError:
            return False
        if self._is_another:
            return False
        return found.st_ino == self.stat.st_ino and found.st_dev == self.stat.st_dev

    def has_its_log(self) -> bool:
        """Whether the file still has the log that was opened, as far as it can be read.

        Another one may have been copied over it, or made in its place with the same inode. It is
        looked into only where the file itself has changed, which an engine does but now and then:
        it writes to the write-ahead log.
        """
        try:
            found = os.stat(self._name)
            if (found.st_size, found.st_mtime_ns) != self._stamp:
                with self.reading():
                    self._stamp = found.st_size, found.st_mtime_ns
        except (OSError, LogError):
            return False
        return self.is_there()

    @property
    def version(self) -> tuple[int, int]:
        """The version of the file, and the newest known version."""
        return self._version, len(MIGRATIONS)

    def check_is_there(self) -> None:
        """Refuse to go on with a file that is not at its path any more.

        Raises:
            LogError: The file has been deleted, moved or replaced.
        """
        if not self.is_there():
            raise LogError(
                f"log '{self.path}' has been deleted, moved or replaced while it was open; put "
                "the file back and start again"
            )

    def writing(self, synchronous: str = "FULL") -> sqlite3.Connection:
        """Return a new connection for writing, to be used by one thread at a time.

        Raises:
            LogError: The file is not at its path any more.
        """
        self.check_process()
        self.check_is_there()
        connection = _connect(self.path, "rw")
        try:
            self.check_is_there()
            connection.execute(f"PRAGMA synchronous={synchronous}")
            connection.execute(f"PRAGMA journal_size_limit={_WAL_KEPT_BYTES}").fetchall()
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def reading(self, doing: str = "read") -> Iterator[sqlite3.Connection]:
        """Give a connection for reading, in one transaction: all that is read is of one moment.

        Raises:
            LogError: The file cannot be read, or has another log than the one that was opened, as
                after a copy over it.
        """
        with self._connected(doing) as connection:
            if id_of(connection, self.path) != self._log:
                self._is_another = True
                self.check_is_there()
            yield connection

    @contextmanager
    def _connected(self, doing: str) -> Iterator[sqlite3.Connection]:
        self.check_process()
        self.check_is_there()
        with self.told(doing), closing(_connect_to_read(self.path, self._version)) as connection:
            self.check_is_there()
            connection.execute("BEGIN")
            yield connection

    def _check_name(self, connection: sqlite3.Connection) -> None:
        """Refuse a file that is open under another name (a hard link), or was when its writer died.

        SQLite writes first to a file beside that name: under this name the newest events would be
        missing, and be lost by the next write.

        Raises:
            LogError: It is, or was.
        """
        name = _name_kept(connection)
        if name is None or name == str(self.path) or not self._has_name(name):
            return
        beside, beside_other = _wal_of(self.path), _wal_of(Path(name))
        if beside_other.exists() and not (beside.exists() and beside.samefile(beside_other)):
            raise LogError(
                f"log '{self.path}' cannot be opened: its other name is '{name}', under which it "
                "is open, or was when its program died, so that its newest events are in "
                f"'{beside_other}'; open it under that name"
            )

    def _has_name(self, name: str) -> bool:
        try:
            return os.path.samestat(os.stat(name), self.stat)
        except (OSError, ValueError):
            return False

    def keep_name(self, connection: sqlite3.Connection) -> None:
        """Store the name under which the file is open in the file itself, before any commit.

        Written only if the name differs from last time.
        """
        if _name_kept(connection) != str(self.path):
            sql = "INSERT OR REPLACE INTO meta VALUES ('name', ?)"
            connection.execute(sql, (os.fsencode(self.path),))
            checkpoint(connection)

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        """Compare the tables with those of the version: a bit may have flipped there as well."""
        found = dict(connection.execute(_SCHEMA).fetchall())
        for name, sql in _wanted_schema(self._version).items():
            if found.get(name) != sql:
                raise LogCorruptError(str(self.path), f"its table or index '{name}' has changed")


class UnopenedDatabase(Database):
    """The file of a log that is not open yet: read as it is each time, if it exists.

    Args:
        path: The file.
        found: Called with the id of the log, before it is read.
    """

    def __init__(self, path: Path, found: Callable[[str], object]) -> None:
        self.path = path
        self.process = forked.NOBODY
        self._found = found

    @property
    def is_made(self) -> bool:
        """Whether the file has a log."""
        with self.told("opened"):
            return _version(self.path) > 0

    @property
    def is_old(self) -> bool:
        """Whether the version of the file is an older one, which can only be read."""
        with self.told("opened"):
            return 0 < _version(self.path) < len(MIGRATIONS)

    @property
    def version(self) -> tuple[int, int]:
        """The version of the file, 0 if there is none, and the newest known version."""
        with self.told("opened"):
            return _version(self.path), len(MIGRATIONS)

    def is_there(self) -> bool:
        """Whether a file exists at the path, of any kind."""
        return self.path.exists()

    def has_its_log(self) -> bool:
        """Whether there is a file: each look opens the log that it has then."""
        return self.is_there()

    @contextmanager
    def reading(self, doing: str = "read") -> Iterator[sqlite3.Connection]:
        """Give a connection to the file; to a log without events if there is none."""
        if self.is_made:
            with Database(self.path, read_only=True).reading(doing) as connection:
                self._found(id_of(connection, self.path))
                yield connection
            return
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            _run_migrations(connection, 0)
            self._found(id_of(connection, self.path))
            yield connection

    def writing(self, synchronous: str = "FULL") -> sqlite3.Connection:
        """Return a new connection for writing to an existing file; as `Database.writing`."""
        return Database(self.path, read_only=True).writing(synchronous)


def id_of(connection: sqlite3.Connection, path: Path) -> str:
    """Return the identity of a log.

    Raises:
        LogCorruptError: The log has lost it.
    """
    row = connection.execute("SELECT value FROM meta WHERE name = 'id'").fetchone()
    if row is None:
        raise LogCorruptError(str(path), "it has no id")
    return str(row[0])


_SCHEMA: Final = "SELECT name, type || ' ' || tbl_name || ' ' || sql FROM sqlite_schema"

_REMEDIES: Final = {
    sqlite3.SQLITE_FULL: "the disk is full: make room and start again",
    sqlite3.SQLITE_IOERR: (
        "the disk may be full or gone, or the file larger than this process may make it: make "
        "room and start again"
    ),
    sqlite3.SQLITE_READONLY: (
        "this process may not write it: change its permissions, or open it with read_only=True"
    ),
    sqlite3.SQLITE_CANTOPEN: "check that it is a file, and that this process may use its folder",
    sqlite3.SQLITE_CONSTRAINT: "another program has written to it: let only one engine do so",
}


def is_busy(error: Exception) -> bool:
    """Whether another program is writing: the call can be tried again, and nothing was done."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY


def checkpoint(connection: sqlite3.Connection) -> None:
    """Copy the write-ahead log into the file, unless a process reads: then a later call does it."""
    connection.execute("PRAGMA busy_timeout=0")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}")


def real_path(path: object) -> Path:
    """Return the one real path of the file of a log, from any of its names.

    Raises:
        SettingError: The argument is no path.
        LogError: The folder of the file is missing or cannot be read, or the path is a folder.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise SettingError(f"the path of a log must be text or a Path, not {shown(path)}")
    try:
        real = Path(os.path.realpath(os.fspath(path)))
        real.stat()
    except (TypeError, ValueError) as error:  # bytes, or a NUL in it
        raise SettingError(f"the path of a log cannot be {shown(path)}: {error}") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise SettingError(f"the path of a log is too long: {shown(path)}") from error
    with reached(real):
        if not real.parent.is_dir():
            raise LogError(
                f"log '{real}' cannot be opened: there is no folder '{real.parent}'; make it first"
            )
        if real.is_dir():
            raise LogError(f"log '{real}' cannot be opened: it is a folder; name a file in it")
    return real


def check_beside(path: Path) -> None:
    """Refuse to write a log if a symbolic link stands where a file of it belongs.

    SQLite follows none of these (O_NOFOLLOW), but its error does not say what is wrong.

    Raises:
        LogError: There is one.
    """
    for ending in ("-journal", "-wal", "-shm"):
        file = path.with_name(path.name + ending)
        with reached(path):
            is_link = file.is_symlink()
        if is_link:
            raise LogError(
                f"log '{path}' cannot be opened: '{file}' belongs to it, and is a symbolic link to "
                "another file; remove that link"
            )


@contextmanager
def reached(path: Path) -> Iterator[None]:
    """Raise an error of the log if its file cannot even be looked up."""
    try:
        yield
    except OSError as error:
        raise LogError(
            f"log '{path}' cannot be opened: {error}; check that this process may read its "
            "folder, and that the disk is there"
        ) from error


def check_journal(path: Path, journal: str) -> None:
    """Refuse to write a log where SQLite cannot use a write-ahead log.

    Raises:
        LogError: The file system gives processes no shared memory, as those of a network.
    """
    if journal != "wal":
        raise LogError(
            f"log '{path}' cannot be opened: SQLite cannot share it, its journal is '{journal}'; "
            "keep it on a disk of this machine"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_half_made(path: Path) -> bool:
    """Whether the first page of a file is not safe on the disk yet.

    A process that makes a log and dies before that leaves a journal beside it. As long as there is
    one, the file can only be opened for writing. Later changes do not need it: they go to the
    write-ahead log.
    """
    file = path.with_name(f"{path.name}-journal")
    if not 0 < _size(path) <= _PAGE_BYTES_MAX or file.is_symlink():
        return False
    try:
        with file.open("rb") as journal:
            return journal.read(len(_JOURNAL_MAGIC)) == _JOURNAL_MAGIC
    except FileNotFoundError:
        return False


class _Connection(sqlite3.Connection):
    """A connection that is counted while it is open."""

    known: Connected | None = None

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._process = forked.here

    def close(self) -> None:
        if not self._process.is_here:
            _of_parents.append(self)
            return
        super().close()
        if self.known is not None:
            known, self.known = self.known, None
            disconnected(known)


# Connections that a fork has found open. SQLite: "Do not even call sqlite3_close() on a database
# connection from a child process if the connection was opened in the parent."
_of_parents: list[sqlite3.Connection] = []


def _connect(path: Path, mode: Literal["ro", "rw", "rwc", "ro&immutable=1"]) -> sqlite3.Connection:
    uri = f"{path.as_uri()}?mode={mode}"
    known = connected(path)
    try:
        connection = sqlite3.connect(
            uri,
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )
    except BaseException:
        if known is not None:
            disconnected(known)
        raise
    connection.known = known
    try:
        connection.execute("PRAGMA cell_size_check=ON")
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("SELECT 1 FROM sqlite_schema").fetchone()  # only this really opens it
    except FAULTS:
        connection.close()
        raise
    return connection


def _connect_to_read(path: Path, version: int) -> sqlite3.Connection:
    """Return a connection for reading, opened so that SQLite may clean up after it."""
    try:
        connection = _connect(path, "rw")
    except sqlite3.OperationalError as error:
        is_not_allowed = error.sqlite_errorcode & 0xFF in _NOT_ALLOWED
        if not is_not_allowed or _is_in_use(path):
            raise
        # To read beside a writer, SQLite needs two files. If it may not make them, and they do not
        # exist, no process writes.
        connection = _connect(path, "ro&immutable=1")
    try:
        for name, what in chain.from_iterable(_SHOWN_AS[version:]):
            connection.execute(f"CREATE TEMP VIEW IF NOT EXISTS {name} AS {what}")
        connection.execute("PRAGMA query_only=ON")
    except FAULTS:
        connection.close()
        raise
    return connection


def _is_in_use(path: Path) -> bool:
    """Whether a process has the file open, or has died with it open."""
    return _wal_of(path).exists()


def _wal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _name_kept(connection: sqlite3.Connection) -> str | None:
    row = connection.execute("SELECT value FROM meta WHERE name = 'name'").fetchone()
    return os.fsdecode(row[0]) if row is not None and isinstance(row[0], bytes) else None


def _version(path: Path) -> int:
    """Return the version of a file, without changing the file; 0 if there is none."""
    size = 0 if _is_half_made(path) else _size(path)
    if 0 < size < _SIZE_MIN:  # SQLite would treat it as empty, and write over it
        raise LogCorruptError(str(path), "file is not a database")
    return _version_of_made(path) if size else 0


def _version_of_made(path: Path) -> int:
    is_in_use = _is_in_use(path)
    with closing(_connect(path, "ro" if is_in_use else "ro&immutable=1")) as connection:
        ((application_id,),) = connection.execute("PRAGMA application_id").fetchall()
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
        ((page_bytes,),) = connection.execute("PRAGMA page_size").fetchall()
        ((objects,),) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    if (application_id, version, objects) == (0, 0, 0):
        return 0  # its maker died before it had a table
    if not is_in_use and path.stat().st_size % page_bytes:
        raise LogCorruptError(str(path), "its last page is cut short")
    if application_id != _APPLICATION_ID:
        raise LogCorruptError(str(path), "it is a database of another program")
    if version < 1:
        raise LogCorruptError(str(path), f"it cannot have version {version}")
    return int(version)


def _migrate(path: Path, version: int) -> None:
    """Bring a file up to date, in one transaction, so that it has one version at any time."""
    with closing(_connect(path, "rwc")) as connection:
        if version == 0:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # `prune` needs it
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("BEGIN IMMEDIATE")
        _run_migrations(connection, version)
        connection.execute("COMMIT")


def _run_migrations(connection: sqlite3.Connection, version: int) -> None:
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")


@cache
def _wanted_schema(version: int) -> dict[str, str]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in chain.from_iterable(MIGRATIONS[:version]):
            connection.execute(statement)
        return dict(connection.execute(_SCHEMA).fetchall())
