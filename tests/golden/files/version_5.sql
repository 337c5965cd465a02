PRAGMA auto_vacuum=INCREMENTAL;
PRAGMA application_id=1866560621;
PRAGMA user_version=5;
BEGIN TRANSACTION;
CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    seq INTEGER NOT NULL,
    refusal TEXT
, error TEXT);
CREATE TABLE engine (name TEXT PRIMARY KEY, told TEXT NOT NULL) WITHOUT ROWID;
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
INSERT INTO "events" VALUES(8,'2026-11-24T12:00:07+00:00','report','daily@2026-11-24T00:00:00Z',NULL,NULL,'plan.created',NULL,'planned','{"plan":"daily","planned":"2026-11-24T00:00:00Z"}',3628947028);
INSERT INTO "events" VALUES(9,'2026-11-24T12:00:08+00:00','report','daily@2026-11-24T01:00:00Z',NULL,NULL,'plan.skipped',NULL,'skipped','{"reason":"full","plan":"daily","planned":"2026-11-24T01:00:00Z"}',3448747598);
INSERT INTO "events" VALUES(15,'2026-11-24T12:00:14+00:00','report','tuesday',NULL,NULL,'vect.created',NULL,'pending','{"params":{},"graph":{"count":[]}}',4025858148);
INSERT INTO "events" VALUES(16,'2026-11-24T12:00:15+00:00','report','tuesday',NULL,NULL,'vect.started','pending','running','{}',2463114111);
INSERT INTO "events" VALUES(17,'2026-11-24T12:00:16+00:00','report','tuesday','count',1,'step.started','pending','running','{}',1179988631);
INSERT INTO "events" VALUES(18,'2026-11-24T12:00:17+00:00','report','tuesday','count',1,'step.succeeded','running','success','{"output":7}',1832340612);
INSERT INTO "events" VALUES(19,'2026-11-24T12:00:18+00:00','report','tuesday',NULL,NULL,'vect.succeeded','running','success','{}',3943043805);
INSERT INTO "events" VALUES(20,'2026-11-24T12:00:19+00:00','report','open',NULL,NULL,'vect.created',NULL,'pending','{"params":{},"graph":{"count":[]}}',657968345);
INSERT INTO "events" VALUES(21,'2026-11-24T12:00:20+00:00','report','open',NULL,NULL,'vect.started','pending','running','{}',2234838022);
INSERT INTO "events" VALUES(22,'2026-11-24T12:00:21+00:00','report','open','count',1,'step.started','pending','running','{}',1469718077);
CREATE TABLE gaps (
    last_seq INTEGER PRIMARY KEY,
    first_seq INTEGER NOT NULL,
    crc INTEGER NOT NULL
);
INSERT INTO "gaps" VALUES(7,1,3971366413);
INSERT INTO "gaps" VALUES(14,10,4286562831);
CREATE TABLE given_up (
    name TEXT NOT NULL,
    seq INTEGER NOT NULL,
    error TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    time TEXT NOT NULL,
    PRIMARY KEY (name, seq)
) WITHOUT ROWID;
CREATE TABLE log_texts (
    vect TEXT NOT NULL,
    step TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    start INTEGER NOT NULL,
    chunk BLOB NOT NULL,
    PRIMARY KEY (vect, step, attempt, start)
) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('head','22 1469718077');
INSERT INTO "meta" VALUES('id','9b79a373f50aae2fe747a13a1e713627');
INSERT INTO "meta" VALUES('name',X'2F746D702F76352E6462');
CREATE TABLE plans (
    name TEXT PRIMARY KEY,
    planned TEXT NOT NULL,
    seq INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO "plans" VALUES('daily','2026-11-24T02:00:00Z',10);
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
INSERT INTO "pruned" VALUES(1,7,7,'monday','report','success','2026-11-30T04:11:32.363775+00:00','2026-11-30T04:11:32.567903+00:00');
INSERT INTO "pruned" VALUES(10,14,5,'daily@2026-11-24T02:00:00Z','report','success','2026-11-24T12:00:13+00:00','2026-11-30T04:11:32.567903+00:00');
CREATE TABLE requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    vect TEXT NOT NULL,
    action TEXT NOT NULL,
    data TEXT NOT NULL
, until REAL, claimed INTEGER);
CREATE TABLE vects (
    first_seq INTEGER PRIMARY KEY,
    vect TEXT NOT NULL,
    flow TEXT NOT NULL,
    state TEXT NOT NULL,
    created TEXT NOT NULL,
    changed TEXT NOT NULL,
    events INTEGER
);
INSERT INTO "vects" VALUES(15,'tuesday','report','success','2026-11-24T12:00:14+00:00','2026-11-24T12:00:18+00:00',5);
INSERT INTO "vects" VALUES(20,'open','report','running','2026-11-24T12:00:19+00:00','2026-11-24T12:00:20+00:00',3);
CREATE INDEX events_of_vect ON events (vect);
CREATE UNIQUE INDEX vects_by_id ON vects (vect);
CREATE INDEX vects_of_flow ON vects (flow);
CREATE INDEX open_vects ON vects (first_seq) WHERE state NOT IN ('cancelled', 'failed', 'success');
CREATE INDEX skips ON events (seq) WHERE step IS NULL AND dest = 'skipped';
CREATE INDEX pruned_by_id ON pruned (vect);
DELETE FROM "sqlite_sequence";
COMMIT;
