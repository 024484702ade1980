-- Every month is added up for every request again.

DROP TABLE billing_month_account;
DROP TABLE billing_month;
