-- Nobody tells how old the oldest snapshot is.
DROP FUNCTION oldest_snapshot_seconds();
