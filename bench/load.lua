-- wrk over the requests that sign.c wrote: each goes out once, each thread has a part of its own.
-- wrk ... -s load.lua URL -- FILE LENGTH COUNT THREADS [PAUSE]
-- PAUSE: milliseconds between an answer and the connection's next request.
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  length, left = tonumber(args[2]), math.floor(tonumber(args[3]) / tonumber(args[4]))
  file = assert(io.open(args[1], "rb"))
  file:setvbuf("full", 1048576)
  file:seek("set", number * left * length)
  if args[5] then
    function delay() return tonumber(args[5]) end
  end
end

local last

function request()
  if left > 0 then
    left = left - 1
    last = file:read(length)
  end -- else what follows is sent twice: run.py counts, and says that more must be signed
  return last
end

-- One line of JSON for run.py.
function done(summary, latency, _)
  io.write(string.format(
    '\n{"requests":%d,"us":%d,"refused":%d,"broken":%d,"p50":%d,"p99":%d}\n',
    summary.requests, summary.duration, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
