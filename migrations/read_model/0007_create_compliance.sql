-- What compliance knows: every agent and whether it is blocked, and what it has asked for itself.

-- A function of the log, like every view. Removed agents stay, so that a page that ended with one
-- still leads on.
CREATE TABLE compliance_agent (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL,
    name text NOT NULL,
    email text NOT NULL,
    region text NOT NULL,
    is_blocked boolean NOT NULL,
    created_at timestamptz NOT NULL,
    removed_at timestamptz,
    -- Of the stream: an event that is known already changes nothing, however late it comes again.
    version integer NOT NULL
) WITH (fillfactor = 80);
-- Agents whose names begin alike, all or the blocked ones, page by page; one with an e-mail address;
-- those of an account.
CREATE INDEX ON compliance_agent ((lower(name) COLLATE "C"), id) WHERE removed_at IS NULL;
CREATE INDEX ON compliance_agent ((lower(name) COLLATE "C"), id)
    WHERE is_blocked AND removed_at IS NULL;
CREATE INDEX ON compliance_agent (lower(email)) WHERE removed_at IS NULL;
CREATE INDEX ON compliance_agent (account_id, (lower(name) COLLATE "C"), id)
    WHERE removed_at IS NULL;

-- No function of the log: what somebody asked for is here first, then goes out as a command, and
-- its outcome comes back. It is written with synchronous_commit=on, whatever the server's default.
CREATE TABLE compliance_request (
    -- The idempotence key of the command as well, so that it can be sent again without harm.
    id uuid PRIMARY KEY,
    -- Requests for one agent go out in this order.
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    agent_id uuid NOT NULL,
    action text NOT NULL CHECK (action IN ('block', 'unblock')),
    reason text,
    requested_by text NOT NULL,
    -- Tells a repeat from another request with the same key.
    fingerprint text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state text NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'sent', 'done', 'unchanged', 'refused')),
    -- Why it was refused, or what it waits for.
    detail text,
    -- How often it was tried to send it, and when it is to be tried next.
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The first time.
    sent_at timestamptz,
    answered_at timestamptz,
    CHECK ((answered_at IS NULL) = (state IN ('waiting', 'sent')))
) WITH (fillfactor = 70);
CREATE INDEX ON compliance_request (due_at, number) WHERE answered_at IS NULL;
CREATE INDEX ON compliance_request (agent_id, number) WHERE answered_at IS NULL;
