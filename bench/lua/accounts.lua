-- Opens accounts with unique keys and e-mail addresses.
--   wrk -s accounts.lua URL -- RUN
-- RUN    eight hexadecimal digits that no other run uses

dofile("summary.lua")

local body = '{"name":"Ann","email":"%s-%d@accounts.example","region":"emea","vip":false}'
local headers = { ["Content-Type"] = "application/json" }
local run
local sent = 0

function init(args)
  run = args[1]
end

function request()
  sent = sent + 1
  headers["Idempotency-Key"] = run .. "-" .. sent
  return wrk.format("POST", "/accounts", headers, string.format(body, run, sent))
end
