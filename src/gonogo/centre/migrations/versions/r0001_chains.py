"""The first tables: chains, their rows, and alarms.

As in a ledger file, only five columns of a row are stored as they came, and the hash covers them. What queries need
besides is ``facts``, computed by the database from ``body``, so that it can never disagree with it; the view
``ledger_rows`` shows its fields as columns. Triggers refuse every change of a row, and every row that does not continue
its chain.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gonogo.errors import LedgerError
from gonogo.ledger.formats import FACTS

revision = "0001"
down_revision = None

_TYPES = {"TEXT": 'text COLLATE "C"', "REAL": "double precision", "INTEGER": "bigint"}
_NO_HASH = "repeat('0', 64)"


def _json(path: str, kind: str) -> str:
    """Return the expression for ``$.a.b`` in ``content``, a jsonb."""
    value = f"content #>> '{{{path.removeprefix('$.').replace('.', ',')}}}'"
    return value if kind == "TEXT" else f"({value})::{_TYPES[kind]}"


# PostgreSQL's jsonb cannot hold U+0000, which JSON writes as \u0000: the facts leave it out, the body keeps it.
_FUNCTION = rf"""
CREATE FUNCTION row_facts(body text) RETURNS gonogo.facts LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  content jsonb := CASE WHEN strpos(body, '\u0000') > 0
    THEN regexp_replace(body, '(?<!\\)((?:\\\\)*)\\u0000', '\1', 'g') ELSE body END;
BEGIN
  RETURN ROW({", ".join(_json(path, kind) for kind, path in FACTS.values())})::gonogo.facts;
END $$"""

_TABLES = (
    f"CREATE TYPE facts AS ({', '.join(f'{name} {_TYPES[kind]}' for name, (kind, _) in FACTS.items())})",
    _FUNCTION,
    """CREATE TABLE entries (
  chain integer NOT NULL REFERENCES chains (id),
  seq bigint NOT NULL CHECK (seq > 0),
  kind text COLLATE "C" NOT NULL,
  body text COLLATE "C" NOT NULL,
  previous text COLLATE "C" NOT NULL,
  sha256 text COLLATE "C" NOT NULL,
  received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  facts facts GENERATED ALWAYS AS (row_facts(body)) STORED,
  PRIMARY KEY (chain, seq)
)""",
    "CREATE UNIQUE INDEX entries_trigger ON entries (chain, ((facts).station), ((facts).trigger_id))"
    " WHERE kind = 'verdict'",
    "CREATE INDEX entries_at ON entries (chain, ((facts).at))",
    "CREATE INDEX entries_attention ON entries (chain, ((facts).state), seq) WHERE (facts).state <> 'go'",
    "CREATE INDEX entries_lot ON entries (chain, ((facts).lot)) WHERE (facts).lot IS NOT NULL",
    "CREATE INDEX entries_part ON entries (chain, ((facts).part)) WHERE (facts).part IS NOT NULL",
    "CREATE INDEX entries_action ON entries (chain, ((facts).action), seq) WHERE (facts).action IS NOT NULL",
    "CREATE INDEX entries_about ON entries (chain, ((facts).about), ((facts).action)) WHERE (facts).about IS NOT NULL",
    "CREATE VIEW ledger_rows AS SELECT chain, seq, kind, body, previous, sha256, received_at, "
    f"{', '.join(f'(facts).{name} AS {name}' for name in FACTS)} FROM entries",
)

# The rows of one statement, of one chain or several: each must match its hash and follow the one before, the first the
# head of its chain. The function moves the head, so that a station's user needs no right to change `chains` itself.
_FOLLOW = """
CREATE FUNCTION entries_follow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = gonogo, pg_temp AS $$
DECLARE
  broken record;
BEGIN
  SELECT each.chain, each.seq INTO broken
  FROM (
    SELECT *, lag(seq) OVER follow AS seq_before, lag(sha256) OVER follow AS sha256_before
    FROM added WINDOW follow AS (PARTITION BY chain ORDER BY seq)
  ) AS each
  JOIN chains ON chains.id = each.chain
  WHERE each.seq <> coalesce(each.seq_before, chains.seq) + 1
    OR each.previous <> coalesce(each.sha256_before, chains.sha256)
    OR each.sha256 <> encode(
      sha256(convert_to(concat_ws(E'\\n', each.previous, each.seq, each.kind, each.body), 'UTF8')), 'hex')
  ORDER BY 1, 2 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'row % of chain % does not match its hash or does not follow the last row', broken.seq,
      (SELECT name FROM chains WHERE id = broken.chain) USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  UPDATE chains SET seq = last.seq, sha256 = last.sha256, seen_at = clock_timestamp()
  FROM (SELECT DISTINCT ON (chain) chain, seq, sha256 FROM added ORDER BY chain, seq DESC) AS last
  WHERE chains.id = last.chain;
  RETURN NULL;
END $$"""

_TRIGGERS = (
    _FOLLOW,
    "CREATE TRIGGER entries_follow AFTER INSERT ON entries REFERENCING NEW TABLE AS added"
    " FOR EACH STATEMENT EXECUTE FUNCTION entries_follow()",
    """CREATE FUNCTION entries_grow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the ledger only grows' USING ERRCODE = 'integrity_constraint_violation'; END $$""",
    "CREATE TRIGGER entries_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON entries"
    " FOR EACH STATEMENT EXECUTE FUNCTION entries_grow()",
)


def upgrade() -> None:
    """Create the tables."""
    now = sa.text("clock_timestamp()")
    op.create_table(
        "chains",
        sa.Column("id", sa.Integer, sa.Identity(always=True), primary_key=True),
        sa.Column("name", sa.Text(collation="C"), nullable=False, unique=True),
        sa.Column("forwarded", sa.Boolean, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("sha256", sa.Text, nullable=False, server_default=sa.text(_NO_HASH)),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.Column("clock_ahead_s", sa.Double),
        sa.Column("frames", sa.Text),
    )
    op.create_table(
        "alarms",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("chain", sa.Integer, sa.ForeignKey("chains.id"), nullable=False, index=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.Column("times", sa.Integer, nullable=False, server_default=sa.text("1")),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("peer", sa.dialects.postgresql.INET, server_default=sa.text("inet_client_addr()")),
    )
    for statement in (*_TABLES, *_TRIGGERS):
        op.get_bind().exec_driver_sql(statement.replace("%", "%%"))


def downgrade() -> None:
    """Refuse: rows of stations are never deleted."""
    raise LedgerError("the tables of a centre cannot be taken back to an older version. Restore a backup instead.")
