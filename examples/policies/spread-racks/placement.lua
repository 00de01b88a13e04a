-- Workspaces with the same label `app` go to different racks, then to different hosts: one failing rack takes one replica.
-- A host without the label `rack` is a rack of its own.
local function rank(input)
    return {
        { term = "placements", by = "label", match = "app", label = "rack", weight = -100 },
        { term = "placements", by = "label", match = "app", weight = -10 },
        { term = "free_memory_ratio", weight = 1 },
    }
end

return { rank = rank }
