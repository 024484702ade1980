-- Tokens say no more of which log they are. The role stays: it belongs to the cluster and may be in
-- use by another database.

REVOKE SELECT ON log_head FROM log_head_reader;
DROP TABLE log_identity;
