PRAGMA auto_vacuum=INCREMENTAL;
PRAGMA application_id=1866560621;
PRAGMA user_version=1;
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
INSERT INTO "events" VALUES(8,'2026-11-29T22:54:37.348908+00:00','report','tuesday',NULL,NULL,'vect.created',NULL,'pending','{"params":{},"graph":{"count":[],"send":["count"]}}',634592262);
INSERT INTO "events" VALUES(9,'2026-11-29T22:54:37.348908+00:00','report','tuesday',NULL,NULL,'vect.started','pending','running','{}',1284602313);
INSERT INTO "events" VALUES(10,'2026-11-29T22:54:37.348908+00:00','report','tuesday','count',1,'step.started','pending','running','{}',3101456411);
INSERT INTO "events" VALUES(11,'2026-11-29T22:54:37.349268+00:00','report','tuesday','count',1,'step.succeeded','running','success','{"output":{"rows":[1,2]}}',2866473370);
INSERT INTO "events" VALUES(12,'2026-11-29T22:54:37.349268+00:00','report','tuesday','send',1,'step.started','pending','running','{}',3504914115);
INSERT INTO "events" VALUES(13,'2026-11-29T22:54:37.349588+00:00','report','tuesday','send',1,'step.succeeded','running','success','{"output":"ok"}',912689863);
INSERT INTO "events" VALUES(14,'2026-11-29T22:54:37.349588+00:00','report','tuesday',NULL,NULL,'vect.succeeded','running','success','{}',1031509488);
INSERT INTO "events" VALUES(15,'2026-11-29T22:54:37.350007+00:00','report','wednesday',NULL,NULL,'vect.created',NULL,'pending','{"params":{},"graph":{"count":[],"send":["count"]}}',4246732372);
INSERT INTO "events" VALUES(16,'2026-11-29T22:54:37.350007+00:00','report','wednesday',NULL,NULL,'vect.started','pending','running','{}',2594312899);
INSERT INTO "events" VALUES(17,'2026-11-29T22:54:37.350007+00:00','report','wednesday','count',1,'step.started','pending','running','{}',2587547510);
INSERT INTO "events" VALUES(18,'2026-11-29T22:54:37.350340+00:00','report','wednesday','count',1,'step.succeeded','running','success','{"output":{"rows":[1,2]}}',1635948979);
INSERT INTO "events" VALUES(19,'2026-11-29T22:54:37.350340+00:00','report','wednesday','send',1,'step.started','pending','running','{}',1407332682);
INSERT INTO "events" VALUES(20,'2026-11-29T22:54:37.350634+00:00','report','wednesday','send',1,'step.succeeded','running','success','{"output":"ok"}',3550634224);
INSERT INTO "events" VALUES(21,'2026-11-29T22:54:37.350634+00:00','report','wednesday',NULL,NULL,'vect.succeeded','running','success','{}',587576021);
CREATE TABLE gaps (
    last_seq INTEGER PRIMARY KEY,
    first_seq INTEGER NOT NULL,
    crc INTEGER NOT NULL
);
INSERT INTO "gaps" VALUES(7,1,1151866939);
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('head','21 587576021');
INSERT INTO "meta" VALUES('id','0971792a587480bd2e0a750dde041b0f');
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
INSERT INTO "pruned" VALUES(1,7,7,'monday','report','success','2026-11-29T22:54:37.348396+00:00','2026-11-29T22:54:37.352159+00:00');
CREATE TABLE requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    vect TEXT NOT NULL,
    action TEXT NOT NULL,
    data TEXT NOT NULL
);
INSERT INTO "requests" VALUES(1,'2026-11-29T22:54:38.000000+00:00','wednesday','retry','{}');
CREATE INDEX vect_events
ON events (vect, seq, flow, dest, time) WHERE step IS NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('requests',1);
COMMIT;
