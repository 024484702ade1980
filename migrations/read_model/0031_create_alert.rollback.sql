-- The rows can be computed again from the log, so nothing is lost: after going up again they are back
-- with `orderly rebuild alerts` and `orderly rebuild silences`.

DROP TABLE alert_silence;
DROP TABLE alert;
