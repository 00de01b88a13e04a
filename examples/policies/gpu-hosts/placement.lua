-- GPU hosts (label `gpu`, its value the model) are for who asks for one by the workspace's label `gpu`: a model, or `any`.
-- Everybody else goes there only when no other host has room.
local function filter(input, host)
    local wanted = input.request.labels.gpu
    if wanted == nil or host.labels.gpu == wanted then
        return true
    elseif host.labels.gpu == nil then
        return false, "no-gpu", "the host has no GPU"
    elseif wanted ~= "any" then
        return false, "other-gpu", string.format("the host has a %s, a %s is asked for", host.labels.gpu, wanted)
    end
    return true
end

local function rank(input)
    return {
        { term = "label", label = "gpu", weight = input.request.labels.gpu and 100 or -100 },
        { term = "free_memory_ratio", weight = -1 },
    }
end

return { filter = filter, rank = rank, consider = 128 }
