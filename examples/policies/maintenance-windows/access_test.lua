local function at(name, now, verb, expect, user)
    return { name = name, input = { now = now, request = { verb = verb }, caller = { user = user or "ann" } }, expect = expect }
end

return {
    at("before it everything goes on", "2027-01-16 19:59", "launch", { verdict = "permit" }),
    at("in it nothing begins", "2027-01-16 20:00", "launch", { verdict = "deny", code = "maintenance", text = "until Sunday, 00:00 UTC" }),
    at("nor starts", "2027-01-16 23:59", "start", { verdict = "deny", code = "maintenance" }),
    at("what runs can be stopped", "2027-01-16 21:00", "stop", { verdict = "permit", code = "owner" }),
    at("and saved", "2027-01-16 21:00", "serialize", { verdict = "permit", code = "owner" }),
    at("administrators test", "2027-01-16 21:00", "launch", { verdict = "permit" }, "root"),
    at("after it everything goes on", "2027-01-17 00:00", "launch", { verdict = "permit" }),
}
