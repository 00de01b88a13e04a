-- An academic site after the group rules of the Workspace Service: each group has a number of reserved minutes at a time, of running
-- workspaces, of vCPUs in one request, and a longest lease; 0 is no limit. Refusals name what is there, what is asked and what is allowed.
local GROUPS = require("./lib/groups")

local function decide(input)
    local request, usage = input.request, input.usage
    local name = request.group or "none"
    local group = GROUPS[name]
    if group == nil then
        return deny("group-unknown", string.format("group `%s` has no allocation here; name another with --group", name))
    end
    local minutes = math.ceil(request.duration_seconds / 60)
    local running = request.target == "stopped" and 0 or 1
    if request.verb == "start" or request.verb == "revert" or request.verb == "resize" then
        -- Under the lease that there is.
        minutes = 0
    end
    if request.verb == "renew" or request.verb == "resize" then
        running = 0
    end
    -- What there is, what is asked, what is allowed, and what it is called.
    local rules = {
        { usage.group.running, running, group.max_running, "running-per-group", "running workspaces" },
        { 0, request.vcpus, group.max_vcpus, "vcpus-per-request", "vCPUs in one request" },
        { usage.group.reserved_minutes, minutes, group.max_reserved_minutes, "reserved-minutes-per-group", "reserved minutes" },
    }
    for _, rule in ipairs(rules) do
        local used, asked, most = rule[1], rule[2], rule[3]
        if most > 0 and asked > 0 and used + asked > most then
            return deny(rule[4], string.format("group `%s` has %d %s, %d asked, %d allowed", name, used, rule[5], asked, most))
        end
    end
    local longest = group.max_minutes * 60
    local leased = request.verb == "launch" or request.verb == "restore" or request.verb == "renew"
    if leased and longest > 0 and (request.duration_seconds == 0 or request.duration_seconds > longest) then
        return restrict{ duration_seconds = longest, code = "lease-of-group", text = string.format("group `%s`: %d minutes at most", name, group.max_minutes) }
    end
    return permit("group", string.format("group `%s`", name))
end

return { decide = decide }
