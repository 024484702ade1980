-- Reads the pages whose paths stand in a file, one after the other and from the start again.
--   wrk -s get.lua URL -- FILE METHOD

dofile("summary.lua")

local requests = {}
local turn = 0

function init(args)
  for path in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format(args[2], path)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end
