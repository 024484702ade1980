-- Back to the append() that knows neither `require` nor `vacate`.

DROP FUNCTION append(
    integer[], smallint[], uuid[], text[], integer[], text[], text[], text[], text[],
    integer[], text[], text[], text[], uuid[]
);
ALTER FUNCTION append_of_0002(
    integer[], smallint[], uuid[], text[], integer[], text[], text[], text[], text[],
    integer[], text[], text[], text[], uuid[]
) RENAME TO append;
DROP FUNCTION note_commands(smallint[], uuid[], text[], text[], integer[]);
DROP TABLE command_note;
DROP FUNCTION hold_claims(text[], double precision);
DROP TABLE claim_hold;
GRANT EXECUTE ON FUNCTION append(
    integer[], smallint[], uuid[], text[], integer[], text[], text[], text[], text[],
    integer[], text[], text[], text[], uuid[]
) TO command_service;
