-- A key belongs to the client that sent it: another client's same key is another command.
--
-- The log says already whose a command was, in `meta`, so that events which were stored before count
-- for their client without being touched. The first event of a stream still needs no entry. Nothing
-- is computed for it either, and append() is as it was.

DROP INDEX event_idempotence_key;
CREATE UNIQUE INDEX event_idempotence_key
    ON event (stream_id, idempotence_key, coalesce(meta ->> 'actor', ''), partition)
    WHERE idempotence_key IS NOT NULL AND version > 1;

-- Of the notes that are there nobody knows any more whose they are; '' is no client's name.
ALTER TABLE command_note ADD COLUMN client text NOT NULL DEFAULT '';
ALTER TABLE command_note DROP CONSTRAINT command_note_pkey;
ALTER TABLE command_note ADD PRIMARY KEY (stream_id, idempotence_key, client, partition);

DROP FUNCTION note_commands(smallint[], uuid[], text[], text[], integer[]);
CREATE FUNCTION note_commands(
    note_partition smallint[],
    note_stream uuid[],
    note_key text[],
    note_fingerprint text[],
    note_version integer[],
    -- A service of the release before, which is still running, says nothing of clients.
    note_client text[] DEFAULT '{}'
)
RETURNS void
LANGUAGE sql
SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
    INSERT INTO command_note (partition, stream_id, idempotence_key, fingerprint, version, client)
    SELECT noted.partition, noted.stream_id, noted.key, noted.fingerprint, noted.version,
           coalesce(noted.client, '')
    FROM unnest(note_partition, note_stream, note_key, note_fingerprint, note_version, note_client)
        AS noted (partition, stream_id, key, fingerprint, version, client)
    ORDER BY noted.stream_id, noted.key, noted.client
    ON CONFLICT DO NOTHING
$$;

REVOKE ALL ON FUNCTION note_commands(smallint[], uuid[], text[], text[], integer[], text[])
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION note_commands(smallint[], uuid[], text[], text[], integer[], text[])
    TO command_service;
