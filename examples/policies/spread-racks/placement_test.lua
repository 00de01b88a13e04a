local racks = {
    a1 = { labels = { rack = "a" } }, a2 = { labels = { rack = "a" } },
    b1 = { labels = { rack = "b" }, free = { vcpus = 4, memory_mib = 4096 } },
}
local function web(host)
    return { host = host, labels = { app = "web" } }
end

return {
    { name = "the first goes where most is free", input = { request = { labels = { app = "web" } } }, hosts = racks, expect = { host = "a1" } },
    {
        name = "the second to another rack",
        input = { request = { labels = { app = "web" } }, placements = { web("a1") } },
        hosts = racks,
        expect = { host = "b1", ranking = { "b1", "a2", "a1" } },
    },
    {
        name = "the third to another host",
        input = { request = { labels = { app = "web" } }, placements = { web("a1"), web("b1") } },
        hosts = racks,
        expect = { host = "a2" },
    },
    {
        name = "other applications do not count",
        input = { request = { labels = { app = "db" } }, placements = { web("a1") } },
        hosts = racks,
        expect = { host = "a1" },
    },
}
