local function at(name, now, seconds, expect)
    return { name = name, input = { now = now, request = { duration_seconds = seconds } }, expect = expect }
end

return {
    at("four hours by day", "2027-01-15 10:00", 36000, { verdict = "restrict", code = "lease-by-day", duration_seconds = 14400 }),
    at("who asks less gets it", "2027-01-15 10:00", 3600, { verdict = "permit", code = "within-limits" }),
    at("until the morning by night", "2027-01-14 23:00", 86400, { verdict = "restrict", code = "lease-by-night", duration_seconds = 28800 }),
    at("one hour at least", "2027-01-15 06:50", 86400, { verdict = "restrict", duration_seconds = 3600 }),
    at("two days at weekends", "2027-01-16 10:00", 864000, { verdict = "restrict", code = "lease-by-weekend", duration_seconds = 172800 }),
    at("no lease named is the longest one", "2027-01-16 10:00", 0, { verdict = "restrict", duration_seconds = 172800 }),
    { name = "the shipped limits hold", input = { usage = { owner = { vcpus = 64 } } }, expect = { verdict = "deny", code = "vcpus-per-user" } },
    { name = "a start keeps its lease", input = { request = { verb = "start" } }, expect = { verdict = "permit" } },
}
