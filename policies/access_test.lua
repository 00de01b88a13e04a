-- `vws policy test`: each case is a question and what access.lua must answer. What a case does not give is plain: user `ann`
-- (uid 1000, groups ann and staff) launches `web` from a public image; other verbs are about her workspace.

-- `verb` on ann's workspace by `bob`, who has this entry in its access list.
local function shared(name, verb, right, verdict, code)
    return {
        name = name,
        input = {
            request = { verb = verb },
            caller = { user = "bob", gids = { 1001, 60 }, groups = { "bob", "guests" } },
            workspace = { access = right and { { kind = "group", id = 60, right = right } } or {} },
        },
        expect = { verdict = verdict, code = code },
    }
end

return {
    { name = "everybody may launch", input = {}, expect = { verdict = "permit", code = "launch" } },
    {
        name = "an image of somebody else's is private",
        input = { request = { images = { { name = "matlab", visibility = "private", owner = 7 } } } },
        expect = { verdict = "deny", code = "image-private", text = "image `matlab` is private and belongs to uid 7" },
    },
    {
        name = "one's own private image is good",
        input = { request = { images = { { visibility = "private", owner = 1000 } } } },
        expect = { verdict = "permit" },
    },
    {
        name = "an address is given, not named",
        input = { request = { nics = { { network = "lan", address = "10.0.0.9" } } } },
        expect = { verdict = "deny", code = "static-address", text = "10.0.0.9" },
    },
    {
        name = "unless the network's label allows it",
        input = { request = { nics = { { network = "lan", address = "10.0.0.9", labels = { ["static-addresses"] = "yes" } } } } },
        expect = { verdict = "permit", code = "launch" },
    },
    {
        name = "a network can be for some groups",
        input = { request = { nics = { { network = "lab", labels = { groups = "physics chemistry" } } } } },
        expect = { verdict = "deny", code = "network-group" },
    },
    {
        name = "and is for members of one of them",
        input = { request = { nics = { { network = "lab", labels = { groups = "physics staff" } } } } },
        expect = { verdict = "permit" },
    },

    { name = "an owner may do everything", input = { request = { verb = "destroy" } }, expect = { verdict = "permit", code = "owner" } },
    {
        name = "an administrator may do everything",
        input = { request = { verb = "destroy" }, caller = { user = "root" } },
        expect = { verdict = "permit", code = "administrator" },
    },
    shared("a stranger sees nothing", "view", nil, "deny", "not-shared"),
    shared("who may view sees", "view", "view", "permit", "granted"),
    shared("who may view does not start", "start", "view", "deny", "not-shared"),
    shared("who may use starts", "start", "use", "permit", "granted"),
    shared("who may use does not destroy", "destroy", "use", "deny", "not-shared"),
    shared("who may manage destroys", "destroy", "manage", "permit", "granted"),

    { name = "anybody imports images", input = { request = { verb = "image-import" } }, expect = { verdict = "permit" } },
    {
        name = "only an image's owner changes it",
        input = { request = { verb = "image-manage", images = { { owner = 7 } } } },
        expect = { verdict = "deny", code = "image-owner" },
    },
    {
        name = "its owner does",
        input = { request = { verb = "image-manage", images = { { owner = 1000 } } } },
        expect = { verdict = "permit", code = "image-owner" },
    },
    {
        name = "an image that is not there belongs to nobody",
        input = { request = { verb = "image-manage", images = {} } },
        expect = { verdict = "deny", code = "image-unknown" },
    },
    {
        name = "hosts are for administrators",
        input = { request = { verb = "host-manage" } },
        expect = { verdict = "deny", code = "administrators-only" },
    },
}
