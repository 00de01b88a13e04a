local good = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
local bad = string.rep("a", 64)

return {
    { name = "a listed image starts", input = { request = { images = { { digest = good } } } }, expect = { verdict = "permit" } },
    {
        name = "another does not, whatever its name",
        input = { request = { images = { { name = "debian-12", digest = bad } } } },
        expect = { verdict = "deny", code = "image-not-listed", text = "sha256 aaaaaaaaaaaa..." },
    },
    {
        name = "nor as a data disk",
        input = { request = { images = { { digest = good }, { name = "data", digest = bad } } } },
        expect = { verdict = "deny", text = "`data`" },
    },
    { name = "administrators look at it", input = { caller = { user = "root" }, request = { images = { { digest = bad } } } }, expect = { verdict = "permit" } },
    {
        name = "the shipped rules hold",
        input = { request = { images = { { digest = good, visibility = "private", owner = 7 } } } },
        expect = { verdict = "deny", code = "image-private" },
    },
}
