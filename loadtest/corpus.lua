-- wrk script: sends the requests of a corpus file (loadtest/src/corpus.rs writes it) one after the other,
-- each thread from a place of its own. What each run and thread sends differs in its serial numbers.
--
--   wrk -t 2 -c 64 -d 10s -s loadtest/corpus.lua URL -- FILE RUN [close]
local threads = 0
function setup(thread)
  thread:set("index", threads)
  threads = threads + 1
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local run, close = tonumber(args[2]), args[3] == "close"
  count = tonumber(file:read("*l"))
  heads, tails = {}, {}
  for i = 1, count do
    local length, at = file:read("*l"):match("(%S+) (%S+)")
    local text = file:read(tonumber(length))
    file:read("*l")
    if close then text = text:gsub("Connection: keep%-alive", "Connection: close", 1) end
    at = tonumber(at)
    if at < 0 then
      heads[i] = text
    else
      -- A shorter header before it moves it.
      if close then at = text:find("000000000", 1, true) - 1 end
      heads[i], tails[i] = text:sub(1, at), text:sub(at + 10)
    end
  end
  file:close()
  serial = 100000000 + run * 4000000 + index * 2000000
  at = (run * 7001 + index * math.floor(count / 2)) % count
end

function request()
  at = at % count + 1
  local tail = tails[at]
  if not tail then return heads[at] end
  serial = serial + 1
  return heads[at] .. serial .. tail
end

function done(summary, latency)
  io.write(string.format('{"answered": %d, "errors": %d, "wrong": %d, "micros": %d}\n', summary.requests,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    summary.errors.status, summary.duration))
end
