-- After going up again what was asked is back with `orderly rebuild compliance_requests`.

DROP TABLE compliance_asked;
