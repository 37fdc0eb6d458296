-- What `wrk.rs` has wrk send: reads of random paths of a file. Argument: the file, a path a line.
-- Answers are not looked at here, which would cost wrk more than sending: the bench reads
-- some again.

function init(arguments)
    local requests = {}
    for path in io.lines(arguments[1]) do
        requests[#requests + 1] = "GET " .. path .. " HTTP/1.1\r\nHost: localhost\r\n\r\n"
    end
    math.randomseed(1)
    request = function()
        return requests[math.random(#requests)]
    end
end

function done(summary, latency, requests)
    local errors = summary.errors
    local lost = errors.connect + errors.read + errors.write + errors.timeout
    -- Whole microseconds.
    print(string.format("done: %d %d %d %d %d %d %d %d", summary.requests, summary.duration, lost,
        errors.status, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
        latency.max))
end
