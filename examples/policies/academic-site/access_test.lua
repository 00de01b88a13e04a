local function ask(name, group, image, groups, expect)
    return {
        name = name,
        input = { request = { group = group, images = { { name = image } } }, caller = { groups = groups } },
        expect = expect,
    }
end

return {
    ask("a member launches the course's image", "course101", "course101.lab1", { "course101" }, { verdict = "permit", code = "launch" }),
    ask("but no other", "course101", "debian-12", { "course101" }, { verdict = "deny", code = "image-directory", text = "begin with `course101.`" }),
    ask("any image where none is said", "physics", "debian-12", { "physics" }, { verdict = "permit" }),
    ask("who is no member does not", "course101", "course101.lab1", { "physics" }, { verdict = "deny", code = "group-member" }),
    ask("nor who has no group", false, "debian-12", { "guests" }, { verdict = "deny", code = "group-member" }),
    { name = "the shipped rules hold", input = { request = { verb = "stop" } }, expect = { verdict = "permit", code = "owner" } },
}
