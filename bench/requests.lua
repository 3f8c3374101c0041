-- What wrk sends: sessions that take turns, or are drawn at random. Says what came of it in one line of JSON.

local first, step, count, at_random
local before_id, after_id
local requests, turn = {}, 0

local function request_of(number)
  return before_id .. string.format("%043d", first + step * number) .. after_id
end

function init(args)
  first, step, count = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
  at_random = args[4] == "random"
  math.randomseed(tonumber(args[5]))
  local headers = { ["Cookie"] = "bff=#", ["X-CSRF"] = "1", ["Sec-Fetch-Site"] = "same-origin" }
  before_id, after_id = wrk.format("GET", nil, headers):match("^(.-)#(.*)$")
  for number = 0, at_random and -1 or count - 1 do
    table.insert(requests, request_of(number))
  end
end

function request()
  if at_random then
    return request_of(math.random(0, count - 1))
  end
  turn = turn % count + 1
  return requests[turn]
end

function done(summary, latency)
  local failed = summary.errors
  local line = '{"requests": %d, "microseconds": %d, "errors": %d, "p50": %d, "p99": %d}\n'
  io.write(string.format(line, summary.requests, summary.duration,
    failed.connect + failed.read + failed.write + failed.status + failed.timeout,
    latency:percentile(50), latency:percentile(99)))
end
