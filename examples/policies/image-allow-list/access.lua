-- Only bytes that somebody looked at are started: a name can be given to another image tomorrow, a digest cannot.
-- Administrators may start anything (to look at it). Everything else is as shipped.
local shipped = require("./lib/shipped_access")
local ALLOWED = require("./lib/images")

local CHECKED = { launch = true }

local function decide(input)
    if CHECKED[input.request.verb] and not input.caller.admin then
        for _, image in ipairs(input.request.images) do
            if not ALLOWED[image.digest] then
                return deny("image-not-listed", string.format(
                    "image `%s` (sha256 %s...) is not on the site's list; ask an administrator to look at it",
                    image.name, string.sub(image.digest, 1, 12)))
            end
        end
    end
    return shipped.decide(input)
end

return { decide = decide }
