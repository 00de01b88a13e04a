-- Each group is guaranteed a share of the site's vCPUs. What others leave unused may be borrowed, with short leases and only while a
-- reserve stays free, so that who is owed a share gets it back soon.
local SITE_VCPUS = 1000
local RESERVE = 100
local GUARANTEED = { physics = 400, chemistry = 300, students = 100 }
local BORROWED_SECONDS = 2 * 3600

local function decide(input)
    local request, usage = input.request, input.usage
    -- These take no more vCPUs than are counted already.
    if request.verb == "renew" or request.verb == "start" or request.verb == "revert" then
        return permit("held-already")
    end
    local share = GUARANTEED[request.group or ""] or 0
    local wanted = usage.group.vcpus + request.vcpus
    if wanted <= share then
        return permit("guaranteed", string.format("%d of the %d guaranteed vCPUs", wanted, share))
    end
    local free = SITE_VCPUS - RESERVE - usage.site.vcpus
    if request.vcpus > free then
        return deny("nothing-to-borrow", string.format(
            "group `%s` has %d of %d guaranteed vCPUs, %d asked, and %d of the site's are free to borrow",
            request.group or "none", usage.group.vcpus, share, request.vcpus, math.max(free, 0)))
    end
    return restrict{
        duration_seconds = BORROWED_SECONDS,
        code = "borrowed",
        text = string.format("%d vCPUs above the %d guaranteed ones are borrowed: 2 hours at most", wanted - share, share),
    }
end

return { decide = decide }
