-- Back to keys that are one for all clients. Where two clients have used the same key for one stream
-- this is refused by the indexes: the release before could not tell their commands apart.

DROP FUNCTION note_commands(smallint[], uuid[], text[], text[], integer[], text[]);
CREATE FUNCTION note_commands(
    note_partition smallint[],
    note_stream uuid[],
    note_key text[],
    note_fingerprint text[],
    note_version integer[]
)
RETURNS void
LANGUAGE sql
SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
    INSERT INTO command_note (partition, stream_id, idempotence_key, fingerprint, version)
    SELECT noted.partition, noted.stream_id, noted.key, noted.fingerprint, noted.version
    FROM unnest(note_partition, note_stream, note_key, note_fingerprint, note_version)
        AS noted (partition, stream_id, key, fingerprint, version)
    ORDER BY noted.stream_id, noted.key
    ON CONFLICT DO NOTHING
$$;

REVOKE ALL ON FUNCTION note_commands(smallint[], uuid[], text[], text[], integer[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION note_commands(smallint[], uuid[], text[], text[], integer[])
    TO command_service;

ALTER TABLE command_note DROP CONSTRAINT command_note_pkey;
ALTER TABLE command_note DROP COLUMN client;
ALTER TABLE command_note ADD PRIMARY KEY (stream_id, idempotence_key, partition);

DROP INDEX event_idempotence_key;
CREATE UNIQUE INDEX event_idempotence_key
    ON event (stream_id, idempotence_key, partition)
    WHERE idempotence_key IS NOT NULL AND version > 1;
