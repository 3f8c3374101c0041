-- What wrk sends: sessions that take turns, or are drawn at random. Says what came of it in one line of JSON.

local first, step, count, at_random
local before_id, after_id
local requests, turn = {}, 0

local function request_of(number)
  return before_id .. string.format("%043d", first + step * number) .. after_id
end

-- As Chromium sends them with fetch() of a page of ours.
local headers = {
  ["Connection"] = "keep-alive",
  ["X-CSRF"] = "1",
  ["sec-ch-ua-platform"] = '"Linux"',
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36",
  ["sec-ch-ua"] = '"Not:A-Brand";v="8", "Chromium";v="150"',
  ["sec-ch-ua-mobile"] = "?0",
  ["Accept"] = "*/*",
  ["Sec-Fetch-Site"] = "same-origin",
  ["Sec-Fetch-Mode"] = "cors",
  ["Sec-Fetch-Dest"] = "empty",
  ["Referer"] = "http://localhost/",
  ["Accept-Encoding"] = "gzip, deflate, br, zstd",
  ["Accept-Language"] = "en-US,en;q=0.9",
  ["Cookie"] = "bff=#",
}

function init(args)
  first, step, count = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
  at_random = args[4] == "random"
  math.randomseed(tonumber(args[5]))
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
