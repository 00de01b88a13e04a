local two = { { host = "h1" }, { host = "h1" } }

return {
    { name = "the first goes anywhere", expect = { host = "h1" } },
    { name = "the next goes elsewhere", input = { placements = { { host = "h1" } } }, expect = { host = "h2" } },
    {
        name = "a host that has enough of them is refused",
        input = { placements = two },
        expect = { host = "h2", refused = { h1 = "owner-has-enough-here" } },
    },
    {
        name = "and when all have, the request is",
        input = { placements = two },
        hosts = { h1 = {} },
        expect = { verdict = "deny", code = "no-eligible-host", text = "2 of 2 workspaces on it" },
    },
    { name = "others' workspaces do not count", input = { placements = { { host = "h1", owner = 7 }, { host = "h1", owner = 7 } } }, expect = { host = "h1" } },
}
