-- What `wrk.rs` has wrk send: single-line orders, each with an idempotency key of its own,
-- a random user of a million and a random SKU. Arguments: path, a word that no other run has, the
-- first SKU, how many SKUs. Answers are not looked at here, which would cost wrk more than
-- sending: the bench counts stock.

local threads = 0

function setup(thread)
    threads = threads + 1
    thread:set("number", threads)
end

function init(arguments)
    local path, run = arguments[1], arguments[2]
    local first, skus = tonumber(arguments[3]), tonumber(arguments[4])
    local head = "POST " .. path .. " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        .. "Idempotency-Key: " .. run .. "-" .. number .. "-"
    local sent = 0
    math.randomseed(number)
    request = function()
        sent = sent + 1
        local body = '{"user": "user-' .. math.random(1000000)
            .. '", "lines": [{"sku": "sku-' .. (first + math.random(skus) - 1) .. '", "quantity": 1}]}'
        return head .. sent .. "\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
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
