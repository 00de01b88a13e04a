-- Which host. Those that lack room or do not answer are gone already when this file is asked; what stands here says which of
-- the others is best. Terms are summed up by the core over every host; the highest sum wins, ties go to the first name.
-- The manual is README.md in this folder.

local function rank(input)
    return {
        -- Best fit: fill hosts up, so that large requests still find an empty one.
        { term = "free_memory_ratio", weight = -1 },
        { term = "free_vcpus_ratio", weight = -1 },
        -- Spread: one failing rack should not take all of an owner's workspaces. A host without the label is a rack of its own.
        { term = "placements", by = "owner", label = "rack", weight = -0.5 },
    }
end

-- Whether those who launched with --preemptible make room when a request that is not pre-emptible finds no host: they said that they
-- do. `false`, or no line: nobody is ever displaced; a function decides each time.
local preempt = true

return { rank = rank, preempt = preempt }
