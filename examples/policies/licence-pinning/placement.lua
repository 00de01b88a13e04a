-- Windows guests run on the hosts whose licence covers them, and nothing else does: a licence is paid by host.
-- Hosts with a licence have the label `windows-licence` (its value is the contract's number).
local function is_windows(input)
    local os = input.request.operating_system
    return os ~= nil and string.sub(string.lower(os), 1, 7) == "windows"
end

local function needs_labels(input)
    return { ["windows-licence"] = is_windows(input) }
end

local function rank(input)
    -- Fill licensed hosts before the next one needs a licence.
    return { { term = "free_memory_ratio", weight = -1 } }
end

return { needs_labels = needs_labels, rank = rank }
