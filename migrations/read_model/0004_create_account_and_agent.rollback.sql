-- The rows can be computed again from the log: after the way back and forth, with `orderly rebuild`.

DROP TABLE agent;
DROP TABLE account;
