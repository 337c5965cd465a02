PRAGMA auto_vacuum=INCREMENTAL;
PRAGMA application_id=1866560621;
PRAGMA user_version=2;
BEGIN TRANSACTION;
CREATE TABLE events (
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
);
INSERT INTO "events" VALUES(8,'2026-11-24T12:00:07+00:00','report','daily@2026-11-24T00:00:00Z',NULL,NULL,'plan.created',NULL,'planned','{"plan":"daily","planned":"2026-11-24T00:00:00Z"}',2174522668);
INSERT INTO "events" VALUES(9,'2026-11-24T12:00:08+00:00','report','daily@2026-11-24T01:00:00Z',NULL,NULL,'plan.skipped',NULL,'skipped','{"reason":"full","plan":"daily","planned":"2026-11-24T01:00:00Z"}',2008460926);
INSERT INTO "events" VALUES(15,'2026-11-24T12:00:14+00:00','report','tuesday',NULL,NULL,'vect.created',NULL,'pending','{"params":{},"graph":{"count":[]}}',3824256915);
INSERT INTO "events" VALUES(16,'2026-11-24T12:00:15+00:00','report','tuesday',NULL,NULL,'vect.started','pending','running','{}',4265514291);
INSERT INTO "events" VALUES(17,'2026-11-24T12:00:16+00:00','report','tuesday','count',1,'step.started','pending','running','{}',49269108);
INSERT INTO "events" VALUES(18,'2026-11-24T12:00:17+00:00','report','tuesday','count',1,'step.succeeded','running','success','{"output":7}',3845780411);
INSERT INTO "events" VALUES(19,'2026-11-24T12:00:18+00:00','report','tuesday',NULL,NULL,'vect.succeeded','running','success','{}',897777597);
INSERT INTO "events" VALUES(20,'2026-11-24T12:00:19+00:00','report','open',NULL,NULL,'vect.created',NULL,'pending','{"params":{},"graph":{"count":[]}}',2441812989);
INSERT INTO "events" VALUES(21,'2026-11-24T12:00:20+00:00','report','open',NULL,NULL,'vect.started','pending','running','{}',3456462164);
INSERT INTO "events" VALUES(22,'2026-11-24T12:00:21+00:00','report','open','count',1,'step.started','pending','running','{}',1304199345);
CREATE TABLE gaps (
    last_seq INTEGER PRIMARY KEY,
    first_seq INTEGER NOT NULL,
    crc INTEGER NOT NULL
);
INSERT INTO "gaps" VALUES(7,1,1738451478);
INSERT INTO "gaps" VALUES(14,10,823439541);
CREATE TABLE given_up (
    name TEXT NOT NULL,
    seq INTEGER NOT NULL,
    error TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    time TEXT NOT NULL,
    PRIMARY KEY (name, seq)
) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('head','22 1304199345');
INSERT INTO "meta" VALUES('id','d2f65cb40e1efa970993cadf3a6f8ab7');
CREATE TABLE positions (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "positions" VALUES('billing',12);
CREATE TABLE pruned (
    first_seq INTEGER PRIMARY KEY,
    last_seq INTEGER NOT NULL,
    events INTEGER NOT NULL,
    vect TEXT NOT NULL,
    flow TEXT NOT NULL,
    state TEXT NOT NULL,
    ended TEXT NOT NULL,
    pruned TEXT NOT NULL
);
INSERT INTO "pruned" VALUES(1,7,7,'monday','report','success','2026-11-30T02:33:34.100361+00:00','2026-11-30T02:33:34.152367+00:00');
INSERT INTO "pruned" VALUES(10,14,5,'daily@2026-11-24T02:00:00Z','report','success','2026-11-24T12:00:13+00:00','2026-11-30T02:33:34.152367+00:00');
CREATE TABLE requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    vect TEXT NOT NULL,
    action TEXT NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX vect_events
ON events (vect, seq, flow, dest, time) WHERE step IS NULL;
DELETE FROM "sqlite_sequence";
COMMIT;
