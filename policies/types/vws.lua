---@meta vws
-- Types of what policies see and may call, for LuaLS; made by `vws policy new` from the daemon's schema.

---An image of the catalogue.
---@class (exact) Image
---@field id string 32 hexadecimal digits
---@field name string its name in the catalogue
---@field digest string sha256 of its bytes; empty while it is being imported
---@field owner number uid
---@field visibility "private"|"public" who may use it
---@field format "raw"|"qcow2" format of the disk
---@field size_mib number size that the guest sees
---@field size_bytes number size of the file

---A network interface.
---@class (exact) Nic
---@field kind "user"|"bridge"|"network" what it is plugged into
---@field source? string name of the bridge or network on the hosts
---@field mac? string MAC address
---@field inbound_kib_per_second number limit; 0: none
---@field outbound_kib_per_second number limit; 0: none
---@field network? string the site's network that it names
---@field address? string address asked for, or, once there is a workspace, given
---@field labels table<string, string> the network's labels

---Who else may do what with a workspace.
---@class (exact) Grant
---@field kind "user"|"group" whose id it is
---@field id number uid or gid
---@field right "view"|"use"|"manage" each includes the ones before it

---What is asked.
---@class (exact) Request
---@field verb string launch, start, view, ... (the manual has them all)
---@field name string of the workspace or object
---@field images Image[] the root disk's first
---@field memory_mib number memory
---@field vcpus number virtual processors
---@field disk_gib number sum of all disks
---@field duration_seconds number lease asked for; 0: none was named
---@field end_action? "stop"|"serialize"|"destroy" what happens at the lease's end
---@field nics Nic[] network interfaces
---@field labels table<string, string> any key may be asked for
---@field operating_system? string what the caller says the guest is
---@field group? string group that is charged
---@field target? "stopped"|"running"|"paused" state asked for
---@field host? string host that the caller insists on
---@field backend? string backend that the request is bound to
---@field needs string[] capabilities that the host must have
---@field access Grant[] who else may
---@field addresses number addresses of networks' pools that it takes, or has
---@field cluster? string the cluster that it is a member of
---@field role? string its role in the cluster
---@field preemptible boolean whether others may have its room

---Who asks, as the bus says.
---@class (exact) Caller
---@field uid number user id
---@field user string user name
---@field gids number[] group ids, primary first
---@field groups string[] their names, same order
---@field admin boolean root, or in the administrators' group
---@field system boolean the daemon itself

---What it is about.
---@class (exact) Workspace
---@field id string 32 hexadecimal digits
---@field name string its name
---@field owner number uid
---@field owner_name string user name
---@field group? string group that is charged
---@field state string running, stopped, serialized, ...
---@field target string the state that it is on its way to
---@field host? string the host that it is on
---@field labels table<string, string> any key may be asked for
---@field access Grant[] who else may
---@field operating_system? string what the guest is said to be
---@field image string what its root disk was made from
---@field vcpus number virtual processors
---@field memory_mib number memory
---@field disk_gib number sum of all disks
---@field lease_from number microseconds since 1970 UTC
---@field lease_until? number microseconds since 1970 UTC; nil: no end
---@field end_action "stop"|"serialize"|"destroy" what happens at the lease's end
---@field created_at number microseconds since 1970 UTC
---@field preemptible boolean whether others may have its room

---What somebody has; the workspace that the request is about is not counted.
---@class (exact) Sums
---@field workspaces number serialized ones too
---@field running number that run
---@field vcpus number held on hosts
---@field memory_mib number held on hosts
---@field disk_gib number held on hosts
---@field reserved_minutes number leases from begin to end
---@field addresses number of networks' pools, of serialized ones too

---What is used and reserved now.
---@class (exact) Usage
---@field owner Sums of the workspace's owner, or the caller
---@field group Sums of the group that is charged
---@field site Sums of everybody

---A present workspace of the same owner or the charged group.
---@class (exact) Placement
---@field name string its name
---@field owner number uid
---@field group? string group that is charged
---@field host? string nil: serialized
---@field labels table<string, string> any key may be asked for
---@field running boolean whether it runs
---@field preemptible boolean whether others may have its room
---@field vcpus number virtual processors
---@field memory_mib number memory
---@field disk_gib number disks

---What a host has or has left.
---@class (exact) Amounts
---@field vcpus number virtual processors
---@field memory_mib number memory
---@field disk_gib number disk

---A host that has room.
---@class (exact) Host
---@field name string its name
---@field backend string the plugin that it is reached by
---@field labels table<string, string> the site's labels; any key may be asked for
---@field free Amounts what is free for new workspaces
---@field capacity Amounts what it gives out
---@field workspaces number workspaces on it
---@field workspaces_of_owner number of the request's owner
---@field workspaces_of_group number of the charged group
---@field accelerator? string how guests run: kvm, tcg, ...
---@field arch? string for instance x86_64
---@field hypervisor? string its name and version
---@field capabilities table<string, boolean> what it can do

---What access.lua is asked.
---@class (exact) AccessInput
---@field request Request what is asked
---@field caller Caller who asks
---@field workspace? Workspace what it is about; nil for a launch
---@field now number microseconds since 1970 UTC

---What quota.lua is asked.
---@class (exact) QuotaInput
---@field request Request what is asked
---@field caller Caller who asks
---@field workspace? Workspace what it is about; nil for a launch
---@field usage Usage what is used and reserved now
---@field now number microseconds since 1970 UTC

---What placement.lua is asked.
---@class (exact) PlacementInput
---@field request Request what is asked
---@field caller Caller who asks
---@field workspace? Workspace what it is about; nil for a launch
---@field placements Placement[] the first 256
---@field placements_total number how many there are
---@field now number microseconds since 1970 UTC

---What permit(), deny() and restrict{} make.
---@class Verdict

---@class (exact) Restriction
---@field duration_seconds? number
---@field memory_mib? number
---@field vcpus? number
---@field preemptible? boolean
---@field code? string
---@field text? string

---A term of a ranking.
---@class (exact) Term
---@field term string
---@field weight number
---@field label? string
---@field value? string
---@field missing? number
---@field by? string
---@field match? string

---@class (exact) AccessPolicy
---@field decide fun(input: AccessInput): Verdict

---@class (exact) QuotaPolicy
---@field decide fun(input: QuotaInput): Verdict

---@class (exact) PlacementPolicy
---@field needs_labels? table<string, any>|fun(input: PlacementInput): table<string, any>?
---@field rank? fun(input: PlacementInput): Term[]
---@field consider? number
---@field filter? fun(input: PlacementInput, host: Host): any, string?, string?
---@field score? fun(input: PlacementInput, host: Host): number
---@field preempt? boolean|fun(input: PlacementInput, host: Host, victims: Workspace[]): any, string?, string?

---Go on.
---@param code? string
---@param text? string
---@return Verdict
function permit(code, text) end

---No: a stable code for machines, a sentence with the numbers for people.
---@param code string
---@param text string
---@return Verdict
function deny(code, text) end

---Go on with at most this: name one or more amounts.
---@param fields Restriction
---@return Verdict
function restrict(fields) end

---Whether the list has the value.
---@param list any[]
---@param value any
---@return boolean
function contains(list, value) end
