local hosts = { f = { labels = { tier = "fast" } }, b = { labels = { tier = "bulk" }, free = { disk_gib = 800 } }, n = {} }

return {
    { name = "fast disks for who asks", input = { request = { labels = { tier = "fast" } } }, hosts = hosts, expect = { host = "f", refused = { b = "label", n = "label" } } },
    { name = "anywhere else for who does not", hosts = hosts, expect = { host = "n", ranking = { "n", "b", "f" } } },
    { name = "large disks are bulk", input = { request = { disk_gib = 500 } }, hosts = hosts, expect = { host = "b" } },
    { name = "a tier that nobody has", input = { request = { labels = { tier = "tape" } } }, hosts = hosts, expect = { verdict = "deny", code = "no-eligible-host" } },
}
