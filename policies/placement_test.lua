-- `vws policy test`: which host placement.lua must choose. `free` is what a host has left of 32 vCPUs, 65536 MiB and 1000 GiB.

local half = { vcpus = 16, memory_mib = 32768 }

return {
    {
        name = "hosts are filled up",
        hosts = { a = {}, b = { free = half } },
        expect = { host = "b", ranking = { "b", "a" } },
    },
    {
        name = "an owner is spread over racks",
        input = { placements = { { host = "c" } } },
        hosts = {
            a = { labels = { rack = "r2" } },
            b = { labels = { rack = "r1" }, free = { vcpus = 28, memory_mib = 57344 } },
            c = { labels = { rack = "r1" } },
        },
        expect = { host = "a" },
    },
    {
        name = "others' workspaces do not count for that",
        input = { placements = { { host = "c", owner = 7 } } },
        hosts = {
            a = { labels = { rack = "r2" } },
            b = { labels = { rack = "r1" }, free = half },
            c = { labels = { rack = "r1" } },
        },
        expect = { host = "b" },
    },
    {
        name = "no room is the core's word",
        input = { request = { vcpus = 8 } },
        hosts = { a = { free = { vcpus = 7 } }, b = { enabled = false }, c = { up = false }, d = { capacity = { vcpus = 4 } } },
        expect = {
            verdict = "deny", code = "no-room-now", host = false,
            refused = { a = "no-room", b = "disabled", c = "down", d = "too-large" },
        },
    },
}
