"""A log in a file, which is an SQLite database. This page is the common ground of its modules.

**The modules.** `writer.SqliteEventLog` is the log: one engine writes it. `reader.LogFile` is the
half that only reads, for any process. `file` knows the tables, the version of the form of a file,
and the meaning of the errors of SQLite. `rows` makes a row of an event and an event of a row.
`summary` stores beside the events the sum of them, `checksums` compares one with the other, `prune`
takes out old Vects. `texts` stores what attempts write. `lock` decides which process may write, and
shows which one does, `wakeup` wakes the engine for others, `wal` keeps the write-ahead log small.

**The files.** `runs.db` is the database. While it is open, `runs.db-wal` has the newest commits,
and `runs.db-shm` is memory that the processes share; both are SQLite's, and a process that is
killed leaves them for the next. On Linux there is no other file: the lock lies on the database
itself, and the socket has an abstract name. Elsewhere the lock has a file of its own.

**A commit** is one transaction for each tick, on the driving thread:

    append, append, ...      rows are made and checked, nothing is written: it can be discarded
    commit
      stat                   is the file still at its path? writes to another file would be lost
      BEGIN IMMEDIATE        no other program writes; waits for one that does
      INSERT events          the rows, each with a checksum that goes on from the one before
      UPDATE vects, plans    the sum of the events: the state of each Vect, its number of events
      INSERT log_texts       the last text of the attempts that these events end
      DELETE requests        the requests that were taken, and INSERT answers: in one transaction
                             with their events, so each is carried out once, whoever dies when
      SELECT max(requests)   has a new request come meanwhile?
      COMMIT                 FULL: on the disk; NORMAL: with the system, a power cut may lose it
    tidy                     now and then: has the write-ahead log grown?

A failure in it leaves the file as it was before, and the log takes no event any more: an event must
not follow one that is missing. One failure does not count: SQLITE_BUSY, another program that keeps
the file locked. That passes, so the commit is tried again, for as long as it takes.

**Who may touch what.**

- Events are written by the one process that has the lock of `lock`, on the thread that drives its
  engine. Its connection is `_writer`; code that uses it, or `_side_writer`, takes `_lock`.
- Subscribers store their positions through `_side_writer`, on threads of their own: it is NORMAL,
  since an older position only costs one more delivery, and nobody needs to wait for the disk.
- Text of attempts at work is written through `_side_writer` as well, once a second, on a thread
  that lives only while there are such attempts. If it cannot be written, the log takes no event any
  more.
- Requests are written by any process: a row that is no valid request is answered with the reason.
  An engine claims requests by `_side_writer`, before it carries them out; the sender may take back
  one that is not claimed. Clients write one statement per transaction.
- Facts that an engine shows of itself, in the table `engine`, are written by `_side_writer` too: no
  behaviour depends on them. Whether a thread drives the engine is no row but a lock on one byte
  more, since it changes with each call.
- Readers have a connection for each call, and read in transactions of a thousand rows: a long one
  prevents a restart of the write-ahead log. They lock nothing that a writer waits for.
- Only `file` and `lock` open or close the file: to close any descriptor of it drops the locks that
  SQLite has for the whole process (POSIX).
- No connection lives through a fork: SQLite has in memory which locks its process has.

**What is trusted.** No data that is read. A row counts if its checksum follows from the one before;
the tables beside the events count if they agree with the events. Damage is a `LogCorruptError`, and
the file is left as it is. Each opening checks the newest thousand rows against all that, and an
opening for writing also the events of all open Vects; `verify()` checks the rest.

**The form has a version** (`PRAGMA user_version`). Each entry of `file.MIGRATIONS` leads from one
to the next, so making a file is the first of them. To change the form: add a migration; add to
`file._SHOWN_AS` how a file without it is read; add a golden log of the version before
(`tests/golden`).

**What was tried, or considered, and is not done.**

- A lock file beside the database: a hard link or a mount gives the log another name, so two engines
  could write. The lock lies on the file itself, where the system can do that.
- `wal_checkpoint` after each commit, or by SQLite's own rule alone: it finds no moment without a
  reader if dashboards read again and again. See `wal`.
- A connection that readers keep open: they would stand at an old moment, and hold the log there.
- The summary made by a view or a trigger. A view reads all events; a trigger is a second program,
  in SQL, that a test of the first one does not see, and it runs for each row, not for each Vect.
- No index of events by Vect, or no count of them. They cost a page each per commit, together more
  than half as much processor time as the bare insert; but without them, reading one Vect means
  reading all others, and an index that has lost an entry could not be noticed: a step whose success
  is committed would run again.
- Pages smaller than SQLite's 4,096 bytes, so that a commit writes less. Sizes from 512 to 2,048
  bytes each saved something in one run and not in the next, and with FULL nothing beyond chance
  (`docs/performance.md`); large outputs would spread over more pages.
- A process or thread that commits for the engine, so that it need not wait for the disk: a step may
  start only when its start is committed, so everything would still wait.
"""

from oautom.events.sqlite.writer import SqliteEventLog

__all__ = ["SqliteEventLog"]
