local hosts = { plain = {}, a40 = { labels = { gpu = "a40" } }, l4 = { labels = { gpu = "l4" } } }
local function with(gpu)
    return { request = { labels = { gpu = gpu } } }
end

return {
    { name = "a model", input = with("l4"), hosts = hosts, expect = { host = "l4", refused = { plain = "no-gpu", a40 = "other-gpu" } } },
    { name = "any of them", input = with("any"), hosts = hosts, expect = { host = "a40", ranking = { "a40", "l4" } } },
    { name = "a model that nobody has", input = with("h100"), hosts = hosts, expect = { verdict = "deny", code = "no-eligible-host" } },
    { name = "who asks for none goes elsewhere", hosts = hosts, expect = { host = "plain" } },
    { name = "unless there is nothing else", hosts = { a40 = { labels = { gpu = "a40" } }, plain = { free = { vcpus = 1 } } }, expect = { host = "a40" } },
}
