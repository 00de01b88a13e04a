-- Best fit: the host that has the least left afterwards, by the amount that is scarcest on it. Large requests still find an empty one.
local function rank(input)
    return {
        { term = "free_vcpus_ratio", weight = -1 },
        { term = "free_memory_ratio", weight = -1 },
        { term = "free_disk_ratio", weight = -0.25 },
        -- Never the empty ones first: a host with any workspace is better than one with none.
        { term = "workspaces", weight = 0.001 },
    }
end

return { rank = rank }
