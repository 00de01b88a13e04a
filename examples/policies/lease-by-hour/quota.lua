-- By day machines are for work that people wait for: leases are short. What begins at night may run until the morning, what begins at
-- the weekend for long. Hours are UTC. The shipped limits hold as well.
local shipped = require("./lib/shipped_quota")

local HOUR = 3600
local DAY_BEGINS, DAY_ENDS = 7, 18
local BY_DAY, AT_WEEKENDS = 4 * HOUR, 48 * HOUR

-- The longest lease that may begin now, and why.
local function most(now)
    local seconds = math.floor(now / 1e6)
    local hour = math.floor(seconds / HOUR) % 24
    -- 1970 began on a Thursday: 0 is Monday.
    local weekday = (math.floor(seconds / 86400) + 3) % 7
    if weekday >= 5 then
        return AT_WEEKENDS, "weekend"
    elseif hour >= DAY_BEGINS and hour < DAY_ENDS then
        return BY_DAY, "day"
    end
    local until_morning = (DAY_BEGINS * HOUR - seconds % 86400) % 86400
    return math.max(until_morning, HOUR), "night"
end

local LEASED = { launch = true, restore = true, renew = true }

local function decide(input)
    local verdict = shipped.decide(input)
    local asked = input.request.duration_seconds
    if verdict.kind == 1 or not LEASED[input.request.verb] then
        return verdict
    end
    local seconds, when = most(input.now)
    if asked == 0 or asked > seconds then
        return restrict{
            duration_seconds = seconds,
            code = "lease-by-" .. when,
            text = string.format("a lease that begins at this hour (%s) has %d seconds at most", when, seconds),
        }
    end
    return verdict
end

return { decide = decide }
