"""A log in a file, which is an SQLite database. This page is what its modules have in common.

**Who does what.** `writer.SqliteEventLog` is the log: one engine writes it. `reader.LogFile` is the
half that only reads, for any process. `file` knows where the tables are, which version of the form
a file has, and what the errors of SQLite mean. `rows` makes a row of an event and an event of a
row. `summary` keeps beside the events what they add up to, `checksums` holds one against the other,
`prune` takes old Vects out. `texts` keeps what attempts write. `lock` says who may write, and who
does, `wakeup` wakes the engine for others, `wal` keeps the write-ahead log small.

**The files.** `runs.db` is the database. While it is open, `runs.db-wal` holds what was committed
last, and `runs.db-shm` is memory that the processes share; both are SQLite's, and a process that is
killed leaves them for the next. On Linux there is no other file: the lock lies on the database
itself, and the socket has an abstract name. Elsewhere the lock has a file of its own.

**A commit** is one transaction for each tick, on the thread that drives:

    append, append, ...      rows are made and checked, nothing is written: it can be discarded
    commit
      stat                   is the file still at its path? what is written elsewhere is lost
      BEGIN IMMEDIATE        no other program writes; waits for one that does
      INSERT events          the rows, each with a checksum that goes on from the one before
      UPDATE vects, plans    what they add up to: how each Vect stands, how many events it has
      INSERT log_texts       the last that the attempts have written which these events end
      DELETE requests        what others have asked for, and INSERT answers: at once with what
                             came of it, so it is done once, whoever dies when
      SELECT max(requests)   has anybody asked meanwhile?
      COMMIT                 FULL: on the disk; NORMAL: with the system, a power cut may lose it
    tidy                     now and then: has the write-ahead log grown?

Whatever fails in it leaves the file as it was before, and the log takes no event any more: what
follows must not stand behind what is missing. One failure is none: SQLITE_BUSY, another program
that keeps the file locked. That passes, so it is tried again, for as long as it takes.

**Who may touch what.**

- Events are written by the one process that holds the lock of `lock`, on the thread that drives its
  engine. Its connection is `_writer`; whoever uses it, or `_side_writer`, holds `_lock`.
- Subscribers keep their positions through `_side_writer`, on threads of their own: it is NORMAL,
  since an older position costs one delivery more, and nobody shall wait for the disk for it.
- What attempts at work write is written through `_side_writer` as well, once a second, on a thread
  that there is only while some do. Where it cannot be written, no event is taken any more.
- Requests are written by anybody: a row that is no request that makes sense is answered with why.
  An engine claims them by `_side_writer`, before anything comes of them; whoever has asked may take
  back what is not claimed. Clients write one statement a transaction.
- What an engine tells of itself, in the table `engine`, is written by `_side_writer` too: nothing
  depends on it. Whether somebody drives it is no row but a lock on one byte more, since that
  changes with each call.
- Readers have a connection for each call, and read in transactions of a thousand rows: a long one
  keeps the write-ahead log from being begun anew. They lock nothing that a writer waits for.
- Nothing but `file` and `lock` opens or closes the file: to close any descriptor of it takes away
  the locks that SQLite has for the whole process (POSIX).
- No connection lives through a fork: SQLite has in memory which locks its process holds.

**What is trusted.** Nothing that is read. A row counts when its checksum follows from the one
before; the tables beside the events count when they say what the events say. Damage is a
`LogCorruptError`, and the file is left as it is. On each opening the newest thousand rows are held
against all that, and for writing the events of all open Vects too; the rest by `verify()`.

**The form has a version** (`PRAGMA user_version`). Each entry of `file.MIGRATIONS` leads from one
to the next, so making a file is the first of them. To change the form: add one; say in
`file._SHOWN_AS` how a file without it is read; add a golden log of the version that was
(`tests/golden`).

**What was tried, or thought of, and is not done.**

- A lock file beside the database: a hard link or a mount of the log is met under another name, so
  two engines could write. The lock lies on the file itself, where the system can do that.
- `wal_checkpoint` after each commit, or by SQLite's own rule alone: it finds no moment without a
  reader where dashboards look again and again. See `wal`.
- A connection that readers keep open: they would stand at an old moment, and hold the log there.
- The summary made by a view or a trigger. A view reads all events; a trigger is a second program,
  in SQL, that a test of the first one does not see, and it runs for each row, not for each Vect.
- No index of events by Vect, or no count of them. They cost a page each for each commit, together
  more than half as much processor time as the bare insert; but to read one Vect would be to read
  all others, and an index that has lost an entry could not be told: a step whose success is
  committed would run again.
- Pages smaller than SQLite's 4,096 bytes, so that a commit writes less. Of 512 to 2,048 bytes each
  saved something in one run and not in the next, and with FULL nothing that could be told from
  chance (`docs/performance.md`); large outputs would spread over more pages.
- A process or thread that commits for the engine, so that it need not wait for the disk: a step may
  start only when its start is committed, so there would be nobody who does not wait.
"""

from oautom.events.sqlite.writer import SqliteEventLog

__all__ = ["SqliteEventLog"]
