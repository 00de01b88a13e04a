-- How much anybody may have. Every number that a site changes stands at the top; leave one out for no limit.
-- The file runs anew before every decision. The manual is README.md in this folder.

local HOUR, DAY = 3600, 86400

-- The lease of who names none, and the longest that anybody gets.
local LEASE = { default_seconds = 8 * HOUR, max_seconds = 14 * DAY }

-- What one user may have at a time.
local PER_USER = {
    workspaces = 50,
    running = 25,
    vcpus = 64,
    memory_mib = 256 * 1024,
    disk_gib = 2000,
    reserved_minutes = 25 * 14 * 24 * 60,
    addresses = 100,
}

-- What a group that is named nowhere may have at a time: no limits. Users of one group share these.
local PER_GROUP = {}

-- Exceptions by name; a number that is not given here is the one above.
local USERS = {
    -- ann = { vcpus = 128 },
}
local GROUPS = {
    -- students = { running = 20, vcpus = 40, memory_mib = 80 * 1024 },
}

-- In the order in which they are compared; the first that is exceeded is the reason.
local KINDS = {
    { field = "workspaces", noun = "workspaces" },
    { field = "running", noun = "running workspaces" },
    { field = "vcpus", noun = "vCPUs" },
    { field = "memory_mib", noun = "MiB of memory" },
    { field = "disk_gib", noun = "GiB of disk" },
    { field = "reserved_minutes", noun = "reserved minutes" },
    { field = "addresses", noun = "addresses" },
}

-- The lease that the request will get, and what to lower it to (nil: nothing).
local function lease(seconds)
    if seconds == 0 then
        return LEASE.default_seconds, LEASE.default_seconds, "lease-default"
    elseif LEASE.max_seconds and seconds > LEASE.max_seconds then
        return LEASE.max_seconds, LEASE.max_seconds, "lease-maximum"
    end
    return seconds, nil, nil
end

-- What the request would add. The workspace's own share is not in the usage that a policy is shown.
local function added(request, workspace, seconds)
    local minutes = math.ceil(seconds / 60)
    if request.verb == "start" or request.verb == "revert" then
        return { running = 1 }
    elseif request.verb == "resize" then
        -- What grows counts as a whole; what shrinks is never refused.
        local function grown(now, before)
            return now > before and now or 0
        end
        return {
            vcpus = grown(request.vcpus, workspace.vcpus),
            memory_mib = grown(request.memory_mib, workspace.memory_mib),
            disk_gib = grown(request.disk_gib, workspace.disk_gib),
        }
    elseif request.verb == "renew" then
        return { reserved_minutes = minutes }
    end
    return {
        workspaces = 1,
        running = request.target == "stopped" and 0 or 1,
        vcpus = request.vcpus,
        memory_mib = request.memory_mib,
        disk_gib = request.disk_gib,
        reserved_minutes = minutes,
        addresses = request.addresses,
    }
end

-- The first limit that would be exceeded: a refusal, or nothing.
local function exceeded(who, scope, limits, exceptions, usage, add)
    for _, kind in ipairs(KINDS) do
        local asked = add[kind.field] or 0
        local limit = exceptions[kind.field] or limits[kind.field]
        local used = usage[kind.field]
        if limit and asked > 0 and used + asked > limit then
            return deny(string.gsub(kind.field, "_", "-") .. "-per-" .. scope, string.format(
                "%s has %d of %d %s, %d asked; at most %d more are possible",
                who, used, limit, kind.noun, asked, math.max(limit - used, 0)))
        end
    end
    return nil
end

local function decide(input)
    local request, usage = input.request, input.usage
    local seconds, lowered, reason = lease(request.duration_seconds)
    local add = added(request, input.workspace, seconds)

    local owner = input.workspace and input.workspace.owner_name or input.caller.user
    local refusal = exceeded(string.format("user `%s`", owner), "user", PER_USER, USERS[owner] or {}, usage.owner, add)
    if refusal then
        return refusal
    end
    local group = request.group
    if group then
        refusal = exceeded(string.format("group `%s`", group), "group", PER_GROUP, GROUPS[group] or {}, usage.group, add)
        if refusal then
            return refusal
        end
    end

    -- These go on under the lease that there is.
    local leased = request.verb ~= "start" and request.verb ~= "resize" and request.verb ~= "revert"
    if lowered and leased then
        return restrict({
            duration_seconds = lowered,
            code = reason,
            text = reason == "lease-default" and string.format("no lease was named: %d seconds", lowered)
                or string.format("a lease of %d seconds was asked, %d are the most", request.duration_seconds, lowered),
        })
    end
    return permit("within-limits")
end

return { decide = decide }
