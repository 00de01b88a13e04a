return {
    {
        name = "the fullest that still has room",
        hosts = { empty = {}, half = { free = { vcpus = 16, memory_mib = 32768 } }, nearly = { free = { vcpus = 4, memory_mib = 8192 } } },
        expect = { host = "nearly", ranking = { "nearly", "half", "empty" } },
    },
    {
        name = "a large request goes to the empty one",
        input = { request = { vcpus = 24 } },
        hosts = { empty = {}, half = { free = { vcpus = 16 } } },
        expect = { host = "empty", refused = { half = "no-room" } },
    },
    {
        name = "of two alike the one that is in use already",
        hosts = { a = {}, b = { workspaces = 3 } },
        expect = { host = "b" },
    },
}
