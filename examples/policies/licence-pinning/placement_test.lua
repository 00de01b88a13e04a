local hosts = { lin = {}, win = { labels = { ["windows-licence"] = "4711" } } }

return {
    { name = "windows goes to the licence", input = { request = { operating_system = "windows-11" } }, hosts = hosts, expect = { host = "win", refused = { lin = "label" } } },
    { name = "however it is written", input = { request = { operating_system = "Windows Server" } }, hosts = hosts, expect = { host = "win" } },
    { name = "linux does not", hosts = hosts, expect = { host = "lin", refused = { win = "label" } } },
    { name = "nor does what says nothing", input = { request = { operating_system = false } }, hosts = hosts, expect = { host = "lin" } },
    { name = "no licence, no windows", input = { request = { operating_system = "windows-11" } }, hosts = { lin = {} }, expect = { verdict = "deny", code = "no-eligible-host" } },
}
