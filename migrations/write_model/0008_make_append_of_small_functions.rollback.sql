-- Back to one append() with everything in it, and to one row per budget.

DO $$
DECLARE
    made regprocedure;
BEGIN
    FOR made IN
        SELECT p.oid::regprocedure FROM pg_proc AS p
        WHERE p.pronamespace = 'public'::regnamespace
          AND (p.proname = 'append' OR p.proname LIKE 'append\_%')
          AND p.proname NOT IN ('append_of_0002', 'append_of_0004')
    LOOP
        EXECUTE format('DROP FUNCTION %s', made);
    END LOOP;
END
$$;
DROP TYPE append_refusal;
DROP INDEX command_note_noted_at;
DROP FUNCTION set_budget_limit(text, numeric);
DROP FUNCTION move_budget(text, smallint, numeric);
DROP FUNCTION share_budget(text, numeric, smallint, numeric);
DROP FUNCTION lock_budget(text);
ALTER TABLE budget
    ADD COLUMN spent numeric NOT NULL DEFAULT 0 CHECK (spent >= 0 AND spent <> 'NaN');
UPDATE budget AS b
SET spent = (SELECT coalesce(sum(s.spent), 0) FROM budget_share AS s WHERE s.name = b.name);
ALTER TABLE budget ADD CHECK (spent <= limit_value);
DROP TABLE budget_share;
ALTER FUNCTION append_of_0004(
    integer[], smallint[], uuid[], text[], integer[], text[], text[], text[], text[],
    integer[], text[], text[], text[], uuid[]
) RENAME TO append;
GRANT EXECUTE ON FUNCTION append(
    integer[], smallint[], uuid[], text[], integer[], text[], text[], text[], text[],
    integer[], text[], text[], text[], uuid[]
) TO command_service;
