-- Hosts say by the label `tier` what their disks are: `fast`, `bulk`, or nothing. A workspace says by its label `tier` what it needs;
-- who says nothing and is small goes anywhere but onto fast disks, and who is large goes to bulk.
local LARGE_GIB = 500

local function wanted(input)
    return input.request.labels.tier or (input.request.disk_gib >= LARGE_GIB and "bulk" or nil)
end

local function needs_labels(input)
    local tier = wanted(input)
    return tier and { tier = tier } or {}
end

local function rank(input)
    return {
        { term = "label", label = "tier", value = "fast", weight = wanted(input) == "fast" and 10 or -10 },
        { term = "free_disk_ratio", weight = 1 },
    }
end

return { needs_labels = needs_labels, rank = rank }
