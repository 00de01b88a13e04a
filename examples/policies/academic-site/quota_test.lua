local function ask(name, request, group, expect)
    request.group = request.group or "course101"
    return { name = name, input = { request = request, usage = { group = group } }, expect = expect }
end

return {
    ask("within everything", { vcpus = 2, duration_seconds = 3600 }, {}, { verdict = "permit", code = "group" }),
    ask("running workspaces", { duration_seconds = 3600 }, { running = 30 },
        { verdict = "deny", code = "running-per-group", text = "has 30 running workspaces, 1 asked, 30 allowed" }),
    ask("a stopped one does not run", { target = "stopped", duration_seconds = 3600 }, { running = 30 }, { verdict = "permit" }),
    ask("vCPUs in one request", { vcpus = 3, duration_seconds = 3600 }, {}, { verdict = "deny", code = "vcpus-per-request" }),
    ask("reserved minutes", { duration_seconds = 3600 }, { reserved_minutes = 5941 },
        { verdict = "deny", code = "reserved-minutes-per-group", text = "5941 reserved minutes, 60 asked, 6000 allowed" }),
    ask("the longest lease", { duration_seconds = 86400 }, {}, { verdict = "restrict", duration_seconds = 7200 }),
    ask("no lease named", { duration_seconds = 0 }, {}, { verdict = "restrict", code = "lease-of-group", duration_seconds = 7200 }),
    ask("each group has its own", { group = "physics", vcpus = 16, duration_seconds = 86400 }, { running = 19 }, { verdict = "permit" }),
    ask("a group without an allocation", { group = "guests" }, {}, { verdict = "deny", code = "group-unknown" }),
    {
        name = "a start takes no minutes",
        input = { request = { verb = "start" }, workspace = { group = "course101" }, usage = { group = { reserved_minutes = 6000 } } },
        expect = { verdict = "permit" },
    },
}
