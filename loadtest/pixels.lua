-- wrk script: each thread sends COUNT pixels, each with a name of its own, a user agent of FILE and a
-- Swedish address, then asks for the tag until every pixel is answered, and stops.
--
--   wrk -s loadtest/pixels.lua URL -- FILE COUNT
local threads = 0

function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end

function init(args)
  agents = {}
  for line in io.lines(args[1]) do agents[#agents + 1] = line end
  -- wrk asks the first thread for one request that it only looks at.
  count, sent, answered = tonumber(args[2]), id == 0 and -1 or 0, 0
end

function request()
  if sent == count then
    return wrk.format("GET", "/tag.js?site=open", { Host = "127.0.0.1" })
  end
  sent = sent + 1
  local address = string.format("2.%d.%d.%d", 64 + sent % 64, sent % 251, 1 + sent % 253)
  return wrk.format("GET", string.format("/p.gif?site=open&e=%d-%d&u=https%%3A%%2F%%2Fwww.open.example%%2F%d", id, sent, sent % 1000), {
    Host = "127.0.0.1",
    ["User-Agent"] = agents[1 + sent % #agents],
    ["X-Forwarded-For"] = address,
  })
end

function response(status, headers, body)
  if headers["content-type"] == "image/gif" and status == 200 then answered = answered + 1 end
  if answered == count then wrk.thread:stop() end
end
