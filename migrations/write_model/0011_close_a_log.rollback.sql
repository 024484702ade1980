-- A log can no longer be closed; one that is closed stays so until somebody opens it.

DROP FUNCTION open_log();
DROP FUNCTION close_log();
DROP FUNCTION is_log_closed();
DROP FUNCTION refuse_growth();
