-- Places buy orders with unique keys.
--   wrk -s put.lua URL -- RUN SHARE PACE
-- RUN    eight hexadecimal digits that no other run uses
-- SHARE  how much of the requests repeats an earlier key of this run, 0 to 1
-- PACE   requests per second; 0 means as fast as the answers come

dofile("summary.lua")

local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } orderly_time;
  int clock_gettime(int clock, orderly_time *now);
]]
local MONOTONIC = 1
-- An earlier key that is this far behind has been answered: it is more than the connections.
local ANSWERED = 256

local head = '{"currency":"EUR","amount":"123.45","idempotence_key":"%s-4000-8000-%012x"}'
local headers = { ["Content-Type"] = "application/json" }
local run, share, pace
local sent, repeated = 0, 0
local time = ffi.new("orderly_time")
local due

function init(args)
  run, share, pace = args[1], tonumber(args[2]), tonumber(args[3])
  if pace == 0 then
    delay = nil
  end
end

function request()
  local number = sent
  if sent > ANSWERED and repeated < share * (sent + repeated) then
    repeated = repeated + 1
    number = math.random(0, sent - ANSWERED)
  else
    sent = sent + 1
  end
  local key = run .. "-0000"
  return wrk.format("PUT", "/buy_order", headers, string.format(head, key, number))
end

local function now_ms()
  ffi.C.clock_gettime(MONOTONIC, time)
  return tonumber(time.seconds) * 1000 + tonumber(time.nanoseconds) / 1e6
end

-- Each request has its moment, however long the answers before it took.
function delay()
  local now = now_ms()
  due = (due or now) + 1000 / pace
  return math.max(0, due - now)
end
