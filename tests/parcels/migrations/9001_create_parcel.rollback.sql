-- The rows can be computed again from the log.
DROP TABLE parcel;
