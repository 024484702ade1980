-- A log can no longer be closed. One that is closed is opened first: this is refused by its trigger.

DROP FUNCTION open_log();
DROP FUNCTION close_log();
DROP FUNCTION is_log_closed();
DROP FUNCTION refuse_growth();
