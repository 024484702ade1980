-- All labels are counted over again, for which there is nothing to be found.

DROP INDEX fraud_label_labelled_at_id_idx;
