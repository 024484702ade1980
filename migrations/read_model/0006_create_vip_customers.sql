-- What vip_customers knows: VIP accounts, and when each of their agents was in use.
-- The same facts as billing's, in tables of its own: neither team waits for the other's changes.

CREATE TABLE vip_account (
    id uuid PRIMARY KEY,
    region text NOT NULL,
    opened_at timestamptz NOT NULL,
    closed_at timestamptz
);

-- Rows grow with every block; the room left on a page lets them stay there, beside their index.
CREATE TABLE vip_agent (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL,
    region text NOT NULL,
    created_at timestamptz NOT NULL,
    removed_at timestamptz,
    -- From creation to removal, except while blocked; what goes on has no upper bound.
    usage tstzmultirange NOT NULL,
    -- Of the stream: an event that is known already changes nothing, however late it comes again.
    version integer NOT NULL
) WITH (fillfactor = 50);
