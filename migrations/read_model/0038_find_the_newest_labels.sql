-- How right rules are is counted over the labels that were put last, and no longer over all that there ever were.

CREATE INDEX ON fraud_label (labelled_at DESC, id DESC);
