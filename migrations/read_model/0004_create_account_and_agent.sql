-- Accounts and agents as clients list them: by name, one client's or everybody's.
-- What is gone stays as a row that no list shows: a page may still be asked for by what was its last
-- reference. The tables name no keys of each other: account and agent are streams of their own, and
-- in a log with several partitions the agent may arrive first.

CREATE TABLE account (
    id uuid PRIMARY KEY,
    client text NOT NULL,
    -- Compared byte by byte, so that the order is the same on every machine.
    name text COLLATE "C" NOT NULL,
    email text NOT NULL,
    region text NOT NULL,
    vip boolean NOT NULL,
    closed_at timestamptz
);
-- One index per kind of page; both carry the whole page key, so that no page needs a sort.
CREATE INDEX ON account (client, name, id) WHERE closed_at IS NULL;
CREATE INDEX ON account (name, id) WHERE closed_at IS NULL;

CREATE TABLE agent (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL,
    client text NOT NULL,
    name text COLLATE "C" NOT NULL,
    email text NOT NULL,
    blocked boolean NOT NULL,
    removed_at timestamptz
) WITH (fillfactor = 80);
CREATE INDEX ON agent (account_id, name, id) WHERE removed_at IS NULL;
CREATE INDEX ON agent (client, name, id) WHERE removed_at IS NULL;
CREATE INDEX ON agent (name, id) WHERE removed_at IS NULL;
-- Letter case does not count in an e-mail address. One agent at a time has it.
CREATE INDEX ON agent (lower(email)) WHERE removed_at IS NULL;
