local function ask(name, vcpus, owner, site, expect, user)
    return {
        name = name,
        input = { request = { vcpus = vcpus }, caller = { user = user or "ann" }, usage = { owner = { vcpus = owner }, site = { vcpus = site } } },
        expect = expect,
    }
end

return {
    ask("while much is free anybody may", 16, 32, 1000, { verdict = "permit" }),
    ask("when it is nearly full, who has much may not", 4, 32, 1797, { verdict = "deny", code = "site-nearly-full", text = "1797 of the site's 2000" }),
    ask("who has little may", 4, 4, 1797, { verdict = "permit" }),
    ask("administrators may", 16, 0, 1900, { verdict = "permit" }, "root"),
    ask("the shipped limits hold", 4, 62, 1000, { verdict = "deny", code = "vcpus-per-user" }),
}
