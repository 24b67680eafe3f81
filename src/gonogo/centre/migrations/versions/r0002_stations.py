"""Rows are received by one statement, and a station's login sees and writes the chains of that station alone.

``receive`` locks a chain, compares what it has already and stores the rest: one round trip for a batch. Row-level
security compares ``chains.login`` with the login of the connection; the owner of the tables is not bound by it. There
is no foreign key from ``entries`` to ``chains`` any more: ``entries_follow`` refuses a row of an unknown chain.
"""

from __future__ import annotations

from alembic import op

from gonogo.errors import LedgerError

revision = "0002"
down_revision = "0001"

# As in revision 0001, but a row of an unknown chain is broken too.
_FOLLOW = """
CREATE OR REPLACE FUNCTION entries_follow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = gonogo, pg_temp AS $$
DECLARE
  broken record;
BEGIN
  SELECT each.chain, each.seq INTO broken
  FROM (
    SELECT *, lag(seq) OVER follow AS seq_before, lag(sha256) OVER follow AS sha256_before
    FROM added WINDOW follow AS (PARTITION BY chain ORDER BY seq)
  ) AS each
  LEFT JOIN chains ON chains.id = each.chain
  WHERE chains.id IS NULL
    OR each.seq <> coalesce(each.seq_before, chains.seq) + 1
    OR each.previous <> coalesce(each.sha256_before, chains.sha256)
    OR each.sha256 <> encode(
      sha256(convert_to(concat_ws(E'\\n', each.previous, each.seq, each.kind, each.body), 'UTF8')), 'hex')
  ORDER BY 1, 2 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'row % of chain % does not match its hash or does not follow the last row', broken.seq,
      coalesce((SELECT name FROM chains WHERE id = broken.chain), 'no ' || broken.chain)
      USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  UPDATE chains SET seq = last.seq, sha256 = last.sha256, seen_at = clock_timestamp()
  FROM (SELECT DISTINCT ON (chain) chain, seq, sha256 FROM added ORDER BY chain, seq DESC) AS last
  WHERE chains.id = last.chain;
  RETURN NULL;
END $$"""

# Consecutive rows; their texts are joined by U+001E, which no JSON text can hold. Outcome: 'stored', with the new head;
# 'forked' or 'gap', after which nothing was stored.
_RECEIVE = """
CREATE FUNCTION receive(
  target integer, first bigint, before text, kinds text, bodies text, hashes text,
  OUT outcome text, OUT last_seq bigint, OUT last_sha256 text
) LANGUAGE plpgsql AS $$
DECLARE
  kind_of text[] := string_to_array(kinds, E'\x1e');
  body_of text[] := string_to_array(bodies, E'\x1e');
  hash_of text[] := string_to_array(hashes, E'\x1e');
  count integer := cardinality(hash_of);
  known integer;
BEGIN
  SELECT chains.seq, chains.sha256 INTO last_seq, last_sha256
  FROM chains WHERE id = target FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'no chain % that this login may write', target USING ERRCODE = 'insufficient_privilege';
  END IF;
  known := least(count, greatest(0, last_seq - first + 1));
  IF count <> cardinality(body_of) OR count <> cardinality(kind_of) OR known > 0 AND NOT EXISTS (
    SELECT FROM entries WHERE chain = target AND seq = first + known - 1 AND sha256 = hash_of[known])
  THEN
    outcome := 'forked';
  ELSIF known = count THEN
    outcome := 'stored';
  ELSIF first > last_seq + 1 THEN
    outcome := 'gap';
  ELSIF known = 0 AND before <> last_sha256 THEN
    outcome := 'forked';
  ELSE
    INSERT INTO entries (chain, seq, kind, body, previous, sha256)
    SELECT target, first + number - 1, kind, body, previous, sha256
    FROM (
      SELECT *, lag(sha256, 1, before) OVER (ORDER BY number) AS previous
      FROM unnest(kind_of, body_of, hash_of) WITH ORDINALITY AS each (kind, body, sha256, number)
    ) AS row
    WHERE number > known;
    outcome := 'stored'; last_seq := first + count - 1; last_sha256 := hash_of[count];
  END IF;
END $$"""

_MINE = "chain IN (SELECT id FROM chains WHERE login = current_user)"
_RIGHTS = (
    "ALTER TABLE chains ADD COLUMN login name",
    "CREATE INDEX chains_login ON chains (login)",
    "ALTER TABLE chains ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE entries ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE alarms ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY own ON chains USING (login = current_user)",
    f"CREATE POLICY own ON entries USING ({_MINE})",
    f"CREATE POLICY own ON alarms USING ({_MINE})",
    "ALTER VIEW ledger_rows SET (security_invoker = true)",
)


def upgrade() -> None:
    """Bring tables of revision 0001 up to date."""
    dropped = "ALTER TABLE entries DROP CONSTRAINT entries_chain_fkey"
    for statement in (_FOLLOW, dropped, _RECEIVE, *_RIGHTS):
        op.get_bind().exec_driver_sql(statement.replace("%", "%%"))


def downgrade() -> None:
    """Refuse: rows of stations are never deleted."""
    raise LedgerError("the tables of a centre cannot be taken back to an older version. Restore a backup instead.")
