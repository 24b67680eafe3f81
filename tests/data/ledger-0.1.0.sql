-- A ledger as gonogo 0.1.0 wrote it: format 1, three verdicts and a review. Never to be changed.
PRAGMA application_id = 1196313649;
PRAGMA user_version = 1;
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    previous TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    at TEXT AS (body ->> '$.at') VIRTUAL,
    score REAL AS (body ->> '$.record.score') VIRTUAL,
    about INTEGER AS (body ->> '$.record.about') VIRTUAL,
    station TEXT AS (body ->> '$.record.station') VIRTUAL,
    trigger_id TEXT AS (body ->> '$.record.trigger_id') VIRTUAL,
    part TEXT AS (body ->> '$.record.part') VIRTUAL,
    lot TEXT AS (body ->> '$.record.lot') VIRTUAL,
    state TEXT AS (body ->> '$.record.state') VIRTUAL,
    cause TEXT AS (body ->> '$.record.cause') VIRTUAL,
    bundle_sha256 TEXT AS (body ->> '$.record.bundle_sha256') VIRTUAL,
    action TEXT AS (body ->> '$.record.action') VIRTUAL,
    who TEXT AS (body ->> '$.record.who') VIRTUAL,
    label TEXT AS (body ->> '$.record.label') VIRTUAL,
    defect TEXT AS (body ->> '$.record.defect') VIRTUAL
) STRICT;
CREATE UNIQUE INDEX entries_trigger ON entries (station, trigger_id) WHERE kind = 'verdict';
CREATE INDEX entries_tally ON entries (kind, at, state, lot, station, cause, bundle_sha256, action);
CREATE INDEX entries_kind ON entries (kind);
CREATE INDEX entries_state ON entries (kind, state);
CREATE INDEX entries_lot ON entries (lot) WHERE lot IS NOT NULL;
CREATE INDEX entries_part ON entries (part) WHERE part IS NOT NULL;
CREATE INDEX entries_action ON entries (action) WHERE action IS NOT NULL;
CREATE INDEX entries_about ON entries (about, action) WHERE about IS NOT NULL;
CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END;
CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END;
CREATE TRIGGER entries_follow BEFORE INSERT ON entries
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM entries)
  OR NEW.previous IS NOT coalesce((SELECT sha256 FROM entries ORDER BY seq DESC LIMIT 1), '0000000000000000000000000000000000000000000000000000000000000000')
BEGIN SELECT RAISE(ABORT, 'a row must follow the last one'); END;
INSERT INTO entries (seq, kind, body, previous, sha256) VALUES (1, 'opened', '{"at":"2026-11-29T19:26:47.351913Z","record":{"format":1,"ledger":"cedb9374c5e033e4a5aeb8bc537b8ba5"}}', '0000000000000000000000000000000000000000000000000000000000000000', '8c480a5abca1b5fe7728c976272bc1311ee768e7d21b6e3cf31e8b69d79088b4');
INSERT INTO entries (seq, kind, body, previous, sha256) VALUES (2, 'verdict', '{"at":"2026-01-12T08:00:00.000000Z","record":{"acquired_at":null,"bundle":null,"bundle_sha256":null,"cause":null,"device":"","go_below":null,"judged_at":null,"late":false,"lot":"L1","no_go_above":null,"part":"P0","product":null,"reason":"seen","score":-0.5,"state":"go","station":"left","timings_ms":{},"trigger_id":"T0","triggered_at":"2026-01-12T08:00:00.000000Z","views":[{"box_xyxy":null,"frame_sha256":"169b5b823c62b64ca7e5f8456a13c8d5d06f4ece522a58bc2b8a784dcf3609b0","kind":null,"kind_share":null,"name":"main","reason":"seen","score":-0.5,"state":"go","timings_ms":{}}]}}', '8c480a5abca1b5fe7728c976272bc1311ee768e7d21b6e3cf31e8b69d79088b4', '1bc045a19794dba44f23f44e79d3d3b1c9a950f242fc085d93a9a7039b143f28');
INSERT INTO entries (seq, kind, body, previous, sha256) VALUES (3, 'verdict', '{"at":"2026-01-12T08:00:00.000000Z","record":{"acquired_at":null,"bundle":null,"bundle_sha256":null,"cause":null,"device":"","go_below":null,"judged_at":null,"late":false,"lot":"L1","no_go_above":null,"part":"P1","product":null,"reason":"seen","score":0.5,"state":"no_go","station":"left","timings_ms":{},"trigger_id":"T1","triggered_at":"2026-01-12T08:00:00.000000Z","views":[{"box_xyxy":null,"frame_sha256":"f64551fcd6f07823cb87971cfb91446425da18286b3ab1ef935e0cbd7a69f68a","kind":null,"kind_share":null,"name":"main","reason":"seen","score":0.5,"state":"no_go","timings_ms":{}}]}}', '1bc045a19794dba44f23f44e79d3d3b1c9a950f242fc085d93a9a7039b143f28', 'a8a39db3744b27e7adbfe098568a8056afa79d505b1bdcab869ddd113266ef9d');
INSERT INTO entries (seq, kind, body, previous, sha256) VALUES (4, 'verdict', '{"at":"2026-01-12T08:00:00.000000Z","record":{"acquired_at":null,"bundle":null,"bundle_sha256":null,"cause":"dark","device":"","go_below":null,"judged_at":null,"late":false,"lot":"L1","no_go_above":null,"part":"P2","product":null,"reason":"seen","score":null,"state":"fault","station":"left","timings_ms":{},"trigger_id":"T2","triggered_at":"2026-01-12T08:00:00.000000Z","views":[{"box_xyxy":null,"frame_sha256":"3946ca64ff78d93ca61090a437cbb6b3d2ca0d488f5f9ccf3059608368b27693","kind":null,"kind_share":null,"name":"main","reason":"seen","score":null,"state":"fault","timings_ms":{}}]}}', 'a8a39db3744b27e7adbfe098568a8056afa79d505b1bdcab869ddd113266ef9d', 'f906809df0510742505c17c21570ab03246e6f3b2e136dbec5f3992865c5fb55');
INSERT INTO entries (seq, kind, body, previous, sha256) VALUES (5, 'action', '{"at":"2026-01-12T08:00:00.000000Z","record":{"about":3,"action":"review","defect":"crack","details":{},"label":"bad","station":null,"who":"anna"}}', 'f906809df0510742505c17c21570ab03246e6f3b2e136dbec5f3992865c5fb55', '1880bae5a365dbbcef8d2f2e7ecbdbe4d8893de285ca364f6e6547c0bf412271');
