-- Who may do what. Administrators and owners manage; the access list of a workspace shares it; private images are private.
-- The file runs anew before every decision. The manual is README.md in this folder.

-- Private images that groups may use beside their owners: image name -> Unix groups.
local SHARED_IMAGES = {
    -- ["matlab-2026"] = { "engineering" },
}

-- Unix groups whose members may launch; empty: everybody.
local MAY_LAUNCH = {}

-- Who may name an address of a network's pool instead of getting the next free one: administrators, and everybody on networks
-- with this label (its value does not matter). Groups of a network's label `groups`, separated by spaces, may use it; without the
-- label everybody may.
local STATIC_LABEL, GROUPS_LABEL = "static-addresses", "groups"

-- What an entry of the access list must allow for each verb. Each right includes the ones before it.
local LEVEL = { view = 1, use = 2, manage = 3 }
local NEEDED = {
    view = "view",
    console = "use", start = "use", stop = "use", reboot = "use", pause = "use", resume = "use",
    serialize = "manage", restore = "manage", renew = "manage", destroy = "manage", change = "manage",
    resize = "manage", snapshot = "manage", revert = "manage", migrate = "manage", ["save-image"] = "manage",
    ["bundle-export"] = "manage",
}

-- The caller's right on the workspace by its access list: 0 for none.
local function granted(caller, access)
    local level = 0
    for _, grant in ipairs(access) do
        local mine = grant.kind == "user" and grant.id == caller.uid
            or grant.kind == "group" and contains(caller.gids, grant.id)
        if mine and LEVEL[grant.right] > level then
            level = LEVEL[grant.right]
        end
    end
    return level
end

local function may_use(caller, image)
    if image.visibility == "public" or image.owner == caller.uid then
        return true
    end
    for _, group in ipairs(SHARED_IMAGES[image.name] or {}) do
        if contains(caller.groups, group) then
            return true
        end
    end
    return false
end

-- Why the caller may not have this NIC, or nothing.
local function refused_nic(caller, nic)
    local groups = nic.network and nic.labels[GROUPS_LABEL]
    if groups then
        local member = false
        for group in string.gmatch(groups, "%S+") do
            member = member or contains(caller.groups, group)
        end
        if not member then
            return deny("network-group", string.format("network `%s` is for the groups %s; user `%s` is in none of them",
                nic.network, groups, caller.user))
        end
    end
    if nic.address and not nic.labels[STATIC_LABEL] then
        return deny("static-address", string.format(
            "address %s on network `%s` was named; naming one is for administrators here: leave it out to get the next free one",
            nic.address, nic.network))
    end
    return nil
end

local function may_launch(caller)
    if #MAY_LAUNCH == 0 then
        return true
    end
    for _, group in ipairs(MAY_LAUNCH) do
        if contains(caller.groups, group) then
            return true
        end
    end
    return false
end

local function decide(input)
    local request, caller, workspace = input.request, input.caller, input.workspace
    local verb = request.verb

    if caller.admin then
        return permit("administrator")
    end

    if verb == "launch" then
        if not may_launch(caller) then
            return deny("launch-group", string.format("user `%s` is in none of the groups that may launch: %s",
                caller.user, table.concat(MAY_LAUNCH, ", ")))
        end
        for _, image in ipairs(request.images) do
            if not may_use(caller, image) then
                return deny("image-private", string.format(
                    "image `%s` is private and belongs to uid %d; ask its owner to make it public", image.name, image.owner))
            end
        end
        for _, nic in ipairs(request.nics) do
            local refusal = refused_nic(caller, nic)
            if refusal then
                return refusal
            end
        end
        return permit("launch")
    end

    if verb == "image-import" then
        return permit("image-import")
    end
    if verb == "image-manage" then
        for _, image in ipairs(request.images) do
            if image.owner ~= caller.uid then
                return deny("image-owner", string.format("image `%s` belongs to uid %d", image.name, image.owner))
            end
        end
        return #request.images > 0 and permit("image-owner") or deny("image-unknown", "the request names no image")
    end

    local needed = NEEDED[verb]
    if needed == nil or workspace == nil then
        return deny("administrators-only", string.format("`%s` is for administrators", verb))
    end
    if workspace.owner == caller.uid then
        return permit("owner")
    end
    if granted(caller, workspace.access) >= LEVEL[needed] then
        return permit("granted")
    end
    return deny("not-shared", string.format(
        "workspace `%s` belongs to `%s`; `%s` needs the right to %s it; its owner can grant that",
        workspace.name, workspace.owner_name, verb, needed))
end

return { decide = decide }
