-- The last tenth of the site is for administrators and for who is small: a user who has little may still begin something when
-- the site is nearly full, a user who has much may not. The shipped limits hold as well.
local shipped = require("./lib/shipped_quota")

local SITE_VCPUS = 2000
local NEARLY_FULL = 0.9
local SMALL = 8

local GROWS = { launch = true, restore = true, resize = true }

local function decide(input)
    local usage, asked = input.usage, input.request.vcpus
    if GROWS[input.request.verb] and not input.caller.admin then
        local after = usage.site.vcpus + asked
        if after > SITE_VCPUS * NEARLY_FULL and usage.owner.vcpus + asked > SMALL then
            return deny("site-nearly-full", string.format(
                "%d of the site's %d vCPUs are in use; until more are free a user may have %d, you have %d and ask for %d",
                usage.site.vcpus, SITE_VCPUS, SMALL, usage.owner.vcpus, asked))
        end
    end
    return shipped.decide(input)
end

return { decide = decide }
