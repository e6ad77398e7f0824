-- wrk script: sends COUNT pixels, each with a name of its own, a user agent of FILE and a Swedish
-- address, then asks for the tag until every pixel is answered. Exit status 1 where a pixel got anything
-- but the GIF. For one thread; PREFIX tells several processes apart.
--
--   wrk -t 1 -c 16 -d 300s -s loadtest/pixels.lua URL -- FILE COUNT PREFIX
function init(args)
  agents = {}
  for line in io.lines(args[1]) do agents[#agents + 1] = line end
  count, prefix = tonumber(args[2]), args[3]
  -- wrk asks for one request that it only looks at.
  sent, answered, wrong = -1, 0, 0
end

function request()
  if sent == count then
    return wrk.format("GET", "/tag.js?site=open", { Host = "127.0.0.1" })
  end
  sent = sent + 1
  local path = "/p.gif?site=open&e=%s-%d&u=https%%3A%%2F%%2Fwww.open.example%%2F%d"
  return wrk.format("GET", string.format(path, prefix, sent, sent % 1000), {
    Host = "127.0.0.1",
    ["User-Agent"] = agents[1 + sent % #agents],
    ["X-Forwarded-For"] = string.format("2.%d.%d.%d", 64 + sent % 64, sent % 251, 1 + sent % 253),
  })
end

function response(status, headers)
  if status ~= 200 then wrong = wrong + 1 end
  if headers["content-type"] == "image/gif" then answered = answered + 1 end
  -- wrk itself would wait for the end of its duration.
  if answered == count then os.exit(wrong == 0 and 0 or 1) end
end
