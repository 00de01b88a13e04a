-- During a window nothing new begins; what runs is its owner's to stop, save and end. Announced before: the refusal says until when.
-- Everything else is as shipped.
local shipped = require("./lib/shipped_access")

-- Microseconds since 1970 UTC (`date -u -d '2027-01-16 20:00' +%s000000`), and what is done.
local WINDOWS = {
    { from = 1800129600000000, till = 1800144000000000, until_text = "Sunday, 00:00 UTC", what = "new switches in rack 3" },
}
local BEGINS = { launch = true, start = true, restore = true, resume = true, migrate = true, revert = true, resize = true, ["image-import"] = true }

local function decide(input)
    if BEGINS[input.request.verb] and not input.caller.admin then
        for _, window in ipairs(WINDOWS) do
            if input.now >= window.from and input.now < window.till then
                return deny("maintenance", string.format("maintenance until %s: %s", window.until_text, window.what))
            end
        end
    end
    return shipped.decide(input)
end

return { decide = decide }
