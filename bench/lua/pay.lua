-- Pays for orders by card, each with a key and a card of its own.
--   wrk -s pay.lua URL -- RUN
-- RUN    eight hexadecimal digits that no other run uses

dofile("summary.lua")

local body = '{"order":{"id":"%s-%d","name":"A lamp","cost":"123.00","currency":"INR"},' ..
  '"paymentMethod":"amazonpay","payment":{"card":"4%015d","type":"wallet","amount":"123.00",' ..
  '"currency":"INR"}}'
local run, sent = "", 0

function init(args)
  run = args[1]
end

function request()
  sent = sent + 1
  local headers = {
    ["Content-Type"] = "application/json",
    ["Idempotency-Key"] = run .. "-" .. sent,
  }
  return wrk.format("POST", "/transact", headers, string.format(body, run, sent, sent))
end
