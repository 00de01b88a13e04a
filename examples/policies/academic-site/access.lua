-- Members of a group with an allocation launch images whose name begins with the group's directory. Everything else is as shipped.
local shipped = require("./lib/shipped_access")
local GROUPS = require("./lib/groups")

local function decide(input)
    local request, caller = input.request, input.caller
    if request.verb == "launch" and not caller.admin then
        local name = request.group or "none"
        local group = GROUPS[name]
        if group == nil or not contains(caller.groups, name) then
            return deny("group-member", string.format("user `%s` is no member of a group with an allocation that is called `%s`", caller.user, name))
        end
        for _, image in ipairs(request.images) do
            if group.images ~= "" and string.sub(image.name, 1, #group.images) ~= group.images then
                return deny("image-directory", string.format("image `%s` is not one of group `%s`: those begin with `%s`", image.name, name, group.images))
            end
        end
    end
    return shipped.decide(input)
end

return { decide = decide }
