-- The rows can be computed again from the log, so nothing is lost: after going up again they are back
-- with `orderly rebuild transactions` and `orderly rebuild transitions`.

DROP TABLE card_transition;
DROP TABLE card_transaction;
