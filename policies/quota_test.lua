-- `vws policy test`: what quota.lua must answer. When PER_USER or LEASE change, change what is expected here.

-- A request of `ann`, who has this much.
local function used(name, request, owner, expect)
    return { name = name, input = { request = request, usage = { owner = owner } }, expect = expect }
end

return {
    used("who has nothing gets it", {}, {}, { verdict = "permit", code = "within-limits" }),
    used("the last vCPU is given", { vcpus = 1 }, { vcpus = 63 }, { verdict = "permit" }),
    used("one more is not", { vcpus = 2 }, { vcpus = 63 },
        { verdict = "deny", code = "vcpus-per-user", text = "user `ann` has 63 of 64 vCPUs, 2 asked; at most 1 more" }),
    used("memory is counted", { memory_mib = 2048 }, { memory_mib = 262144 }, { verdict = "deny", code = "memory-mib-per-user" }),
    used("workspaces are counted", {}, { workspaces = 50 }, { verdict = "deny", code = "workspaces-per-user" }),
    used("what runs is counted", {}, { running = 25 }, { verdict = "deny", code = "running-per-user" }),
    used("what does not run takes no such place", { target = "stopped" }, { running = 25 }, { verdict = "permit" }),
    used("addresses are counted", { addresses = 1 }, { addresses = 100 }, { verdict = "deny", code = "addresses-per-user" }),
    used("a start counts running alone", { verb = "start" }, { running = 24, vcpus = 64 }, { verdict = "permit" }),
    used("and is refused when that is full", { verb = "start" }, { running = 25 }, { verdict = "deny", code = "running-per-user" }),
    used("a renewal counts minutes", { verb = "renew", duration_seconds = 7200 }, { reserved_minutes = 503940 },
        { verdict = "deny", code = "reserved-minutes-per-user" }),
    used("what a resize grows counts", { verb = "resize", memory_mib = 4096 }, { memory_mib = 262144 },
        { verdict = "deny", code = "memory-mib-per-user" }),
    used("what it shrinks does not", { verb = "resize", memory_mib = 1024 }, { memory_mib = 262144 }, { verdict = "permit" }),
    used("who names no lease gets the default one", { duration_seconds = 0 }, {},
        { verdict = "restrict", code = "lease-default", duration_seconds = 28800 }),
    used("a lease has a maximum", { duration_seconds = 1209601 }, {},
        { verdict = "restrict", code = "lease-maximum", duration_seconds = 1209600 }),
    { name = "groups have no limits of their own", input = { usage = { group = { vcpus = 100000 } } }, expect = { verdict = "permit" } },
}
