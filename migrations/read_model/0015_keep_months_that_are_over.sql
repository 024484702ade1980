-- What accounts used in a month that is over, added up once instead of for every request. Both tables
-- follow from billing's others: whoever changes one of those for a time before a month's end deletes
-- the month's row, in the same transaction, and it is added up again when it is asked for. Rows of its
-- accounts count for nothing without it, and are replaced then.

CREATE TABLE billing_month (
    -- Its first day.
    month date PRIMARY KEY,
    accounts integer NOT NULL,
    -- Region -> the sum of its invoices, as text.
    regions jsonb NOT NULL
);

CREATE TABLE billing_month_account (
    month date NOT NULL,
    account_id uuid NOT NULL,
    agents integer NOT NULL,
    microseconds bigint NOT NULL,
    total numeric NOT NULL,
    PRIMARY KEY (month, account_id)
);
CREATE INDEX ON billing_month_account (month, total DESC);
