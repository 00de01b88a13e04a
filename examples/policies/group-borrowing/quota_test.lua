local function ask(name, group, vcpus, of_group, of_site, expect)
    return {
        name = name,
        input = { request = { group = group, vcpus = vcpus }, usage = { group = { vcpus = of_group }, site = { vcpus = of_site } } },
        expect = expect,
    }
end

return {
    ask("within the share", "physics", 8, 392, 900, { verdict = "permit", code = "guaranteed" }),
    ask("above it is borrowed, for a short time", "physics", 8, 400, 700, { verdict = "restrict", code = "borrowed", duration_seconds = 7200 }),
    ask("nothing is left to borrow", "physics", 8, 400, 895, { verdict = "deny", code = "nothing-to-borrow", text = "5 of the site's" }),
    ask("a group without a share borrows everything", "guests", 1, 0, 0, { verdict = "restrict", code = "borrowed" }),
    ask("no group borrows too", false, 1, 0, 899, { verdict = "restrict" }),
    { name = "a renewal takes nothing more", input = { request = { verb = "renew" } }, expect = { code = "held-already" } },
}
