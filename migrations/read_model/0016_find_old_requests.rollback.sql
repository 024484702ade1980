-- Nothing is forgotten.

DROP INDEX compliance_request_answered_at_idx;
