-- No host holds more than MOST workspaces of one owner, whatever else is free.
local MOST = 2

local function filter(input, host)
    if host.workspaces_of_owner >= MOST then
        return false, "owner-has-enough-here", string.format("the owner has %d of %d workspaces on it", host.workspaces_of_owner, MOST)
    end
    return true
end

local function rank(input)
    return {
        { term = "placements", by = "owner", weight = -1 },
        { term = "free_memory_ratio", weight = -0.1 },
    }
end

return { rank = rank, filter = filter }
