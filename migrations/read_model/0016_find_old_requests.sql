-- What compliance was asked long ago is forgotten, the oldest first, without reading the others.

CREATE INDEX ON compliance_request (answered_at) WHERE answered_at IS NOT NULL;
