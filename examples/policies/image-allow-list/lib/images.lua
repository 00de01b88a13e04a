-- sha256 -> who looked at it and when; `vws image info` shows an image's digest.
return {
    ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"] = "debian-12, carla, 2026-11-03",
    ["60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"] = "alma-9, carla, 2026-11-20",
}
