//! The documents, version 1: what travels between the daemon and a backend plugin, as JSON.
//!
//! Owns: the shape of every request, reply and event. Rules: unknown members are ignored by both sides; an unknown method is
//! answered with the code `unsupported`; amounts carry their unit in the name; a member may be added, never changed.
//! The next document goes at the end of its group.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The version of the documents in this file.
pub const VERSION: u32 = 1;

/// A request: what `call` receives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Document version.
    pub v: u32,
    /// Idempotency key, `<job>/<step>` for durable work: a repeat after a crash carries the same key.
    pub id: String,
    /// Method name, for instance `workspace.start`.
    pub method: String,
    /// The call is given up by the daemon after so many milliseconds.
    pub deadline_ms: u64,
    /// Arguments: one of the structures below, by method.
    #[serde(default)]
    pub args: Value,
}

/// A reply: what `call` answers. Exactly one of `ok` and `err` is present.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// Document version.
    pub v: u32,
    /// The result, by method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<Value>,
    /// The failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub err: Option<Failure>,
}

/// Whether a failed call may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retry {
    /// The same call will fail again.
    Never,
    /// After a while, with back-off.
    Later,
    /// At once.
    Now,
}

/// A failure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// A stable code: one of [`codes`].
    pub code: String,
    /// Whether to try again.
    pub retry: Retry,
    /// What it is about: "disk `disk-0` of workspace ...".
    #[serde(default)]
    pub object: String,
    /// What is the case.
    pub message: String,
    /// What to do.
    #[serde(default)]
    pub remedy: String,
    /// For the operator's log.
    #[serde(default)]
    pub detail: String,
}

/// The codes of [`Failure`].
pub mod codes {
    /// The method, or a member's value, is not offered by this plugin or on this host.
    pub const UNSUPPORTED: &str = "unsupported";
    /// An argument is malformed.
    pub const INVALID: &str = "invalid";
    /// There is no such workspace, image or file on the host.
    pub const NOT_FOUND: &str = "not-found";
    /// The machine's state does not allow it.
    pub const STATE: &str = "state";
    /// No room: memory, vCPUs.
    pub const CAPACITY: &str = "capacity";
    /// The host's storage is full.
    pub const NO_SPACE: &str = "no-space";
    /// Bytes are damaged.
    pub const DAMAGED: &str = "damaged";
    /// The host does not answer.
    pub const UNREACHABLE: &str = "unreachable";
    /// The call was cancelled.
    pub const CANCELLED: &str = "cancelled";
    /// The deadline passed inside the plugin.
    pub const TIMED_OUT: &str = "timed-out";
    /// The hypervisor failed.
    pub const HYPERVISOR: &str = "hypervisor";
    /// The plugin failed (a panic, for instance).
    pub const INTERNAL: &str = "internal";
}

/// How many calls the plugin takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Concurrency {
    /// One at a time: a safe choice.
    Serial,
    /// Any number, but one at a time for each workspace (calls without a workspace: one at a time for each host).
    PerWorkspace,
    /// Any number.
    Parallel,
}

/// `describe` -> what the plugin is. Answered without a host and without side effects.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    /// Its name, as configured hosts refer to it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Licence, SPDX.
    #[serde(default)]
    pub licence: String,
    /// Document versions that it speaks.
    pub documents: Vec<u32>,
    /// How many calls at once.
    pub concurrency: Concurrency,
    /// Methods that it offers.
    pub methods: Vec<String>,
    /// JSON Schema of a host's settings.
    #[serde(default)]
    pub settings_schema: Value,
}

/// Arguments that name a host. `host.open`: connect to it; calling it again with other settings replaces them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostOpen {
    /// Name of the host.
    pub host: String,
    /// Its settings, by the plugin's schema.
    pub settings: Value,
}

/// `host.close`, `host.list`, `host.stats`, `image.list`: arguments.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostRef {
    /// Name of the host.
    pub host: String,
}

/// `host.probe`: arguments. A full probe boots a tiny guest; it may take as long as its deadline.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostProbe {
    /// Name of the host.
    pub host: String,
    /// Whether to boot a guest anew even if an earlier result is remembered.
    #[serde(default)]
    pub fresh: bool,
}

/// `host.probe` -> what the host is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HostFacts {
    /// Hypervisor and version.
    pub hypervisor: String,
    /// How guests run: `kvm`, `emulation`, `xen`, ...
    pub accelerator: String,
    /// What was seen that decided it.
    pub accelerator_reason: String,
    /// CPU architecture.
    pub arch: String,
    /// Real CPUs (threads).
    pub vcpus: u64,
    /// Real memory in MiB.
    pub memory_mib: u64,
    /// Room for disks, in GiB.
    pub disk_gib: u64,
    /// Capability name -> empty text if it can be done and enforced here, else the reason why not. See [`capabilities`].
    pub capabilities: BTreeMap<String, String>,
    /// Guests that are not the daemon's.
    #[serde(default)]
    pub foreign: Foreign,
    /// Identity of the storage that holds disks, as seen on the storage itself: hosts that answer the same one share it. Empty: unknown.
    #[serde(default)]
    pub storage_id: String,
}

/// Names of capabilities. A request that needs one that is absent is refused with its reason.
pub mod capabilities {
    /// Whole-disk images with BIOS.
    pub const BOOT_BIOS: &str = "boot-bios";
    /// Whole-disk images with UEFI.
    pub const BOOT_UEFI: &str = "boot-uefi";
    /// Kernel and initial RAM disk.
    pub const BOOT_KERNEL: &str = "boot-kernel";
    /// A relative weight of CPU time.
    pub const CPU_SHARES: &str = "cpu-shares";
    /// Rate limits of disks.
    pub const DISK_LIMITS: &str = "disk-limits";
    /// Rate limits of NICs on a user-mode network.
    pub const NIC_LIMITS_USER: &str = "nic-limits-user";
    /// Rate limits of NICs on a bridge or network.
    pub const NIC_LIMITS: &str = "nic-limits";
    /// NICs on a user-mode network.
    pub const NIC_USER: &str = "nic-user";
    /// NICs on a bridge of the host.
    pub const NIC_BRIDGE: &str = "nic-bridge";
    /// NICs on a network of the hypervisor.
    pub const NIC_NETWORK: &str = "nic-network";
    /// Pause and resume.
    pub const PAUSE: &str = "pause";
    /// Serialize and restore.
    pub const SERIALIZE: &str = "serialize";
    /// Serial console.
    pub const CONSOLE: &str = "console";
    /// Live migration to another host of the same backend.
    pub const MIGRATE: &str = "migrate";
    /// More or less memory, up to the machine's ceiling, while it runs.
    pub const RESIZE_MEMORY: &str = "resize-memory";
    /// More vCPUs, up to the machine's ceiling, while it runs.
    pub const RESIZE_VCPUS: &str = "resize-vcpus";
    /// Fewer vCPUs while it runs.
    pub const SHRINK_VCPUS: &str = "shrink-vcpus";
    /// Larger disks while it runs.
    pub const RESIZE_DISK: &str = "resize-disk";
    /// Snapshots of disks, without memory: of a machine that is off. A backend may refuse them for one that runs, with `unsupported`.
    pub const SNAPSHOT: &str = "snapshot";
    /// Snapshots with memory.
    pub const SNAPSHOT_MEMORY: &str = "snapshot-memory";
    /// Packets with a foreign source MAC or address are dropped at a NIC on a bridge or network.
    pub const ANTI_SPOOFING: &str = "anti-spoofing";
    /// Fixed addresses are given out by DHCP on a network of the hypervisor.
    pub const DHCP: &str = "dhcp";
    /// Figures of running machines: `host.stats`.
    pub const STATS: &str = "stats";
    /// Prefix: a bridge of the host that NICs can be plugged into, `bridge:br0`.
    pub const BRIDGE: &str = "bridge:";
    /// Prefix: a network of the hypervisor that NICs can be plugged into, `network:default`.
    pub const NETWORK: &str = "network:";
    /// Prefix: a CPU model that guests can have here, `cpu:qemu64`.
    pub const CPU: &str = "cpu:";
    /// Prefix: a machine type, `machine:pc-i440fx-7.2`.
    pub const MACHINE: &str = "machine:";
    /// Prefix: an accelerator that guests can run with here, `accelerator:emulation`.
    pub const ACCELERATOR: &str = "accelerator:";
}

/// Guests that are not the daemon's: they count as used and are never touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// How many.
    pub guests: u64,
    /// Their vCPUs.
    pub vcpus: u64,
    /// Their memory in MiB.
    pub memory_mib: u64,
}

/// `host.list` -> every machine of the daemon's on the host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HostListing {
    /// The daemon's machines.
    pub workspaces: Vec<MachineStatus>,
    /// The others.
    pub foreign: Foreign,
}

/// What a machine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineState {
    /// Runs.
    Running,
    /// Stands still, memory on the host.
    Paused,
    /// Defined or at least its disks are there; not running.
    Stopped,
    /// Its memory is in a file on the host, made by `workspace.save`.
    Saved,
    /// Nothing of it is on the host.
    Absent,
}

/// The status of one machine: the answer of most `workspace.*` methods, and an element of `host.list`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Workspace id.
    pub workspace: String,
    /// What it is doing.
    pub state: MachineState,
    /// Why, if the hypervisor tells: `shutdown`, `destroyed`, `crashed`, `forced`, ...
    #[serde(default)]
    pub reason: String,
    /// CPU model that the guest runs with, as in [`Exported::cpu`]: told by `workspace.start`, `.restore`, `.revert` and `.inspect`
    /// of a machine that runs; the guest moves only to where `cpu:MODEL` is a capability. Empty: not told, and not compared.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cpu: String,
    /// Opaque, at most 64 KiB; given back with every later call.
    #[serde(default)]
    pub plugin_state: Value,
}

/// `image.present`: arguments. Answer: [`ImagesMissing`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImagesPresent {
    /// Host.
    pub host: String,
    /// sha256 digests that will be needed: disks, kernels, initial RAM disks.
    pub digests: Vec<String>,
}

/// `image.present` -> those that are not on the host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ImagesMissing {
    /// Digests to send with `image.put`.
    pub missing: Vec<String>,
}

/// `image.put`: arguments; descriptor 0 is the file, readable from its start. Idempotent by digest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImagePut {
    /// Host.
    pub host: String,
    /// sha256 of the bytes. The daemon has verified it; the plugin stores the bytes under it.
    pub digest: String,
    /// Length.
    pub size_bytes: u64,
}

/// `image.remove`: arguments. An image in use is kept and the call fails with `state`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageRemove {
    /// Host.
    pub host: String,
    /// Digest.
    pub digest: String,
}

/// How the machine starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum BootDoc {
    /// From the root disk.
    Disk {
        /// `bios` or `uefi`.
        firmware: String,
    },
    /// With a kernel.
    Kernel {
        /// Digest of the kernel.
        kernel: String,
        /// Digest of the initial RAM disk, or empty.
        initrd: String,
        /// Command line.
        cmdline: String,
    },
}

/// What a disk is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum DiskSourceDoc {
    /// A linked clone of an image on the host.
    Image {
        /// Digest.
        digest: String,
        /// `raw` or `qcow2`; never probed.
        format: String,
    },
    /// A new, empty disk.
    Empty,
}

/// A disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiskDoc {
    /// `disk-0` is the root disk, then `disk-1`, ...
    pub name: String,
    /// What it is made from.
    pub source: DiskSourceDoc,
    /// Size that the guest sees, in MiB; 0: the image's own.
    pub size_mib: u64,
    /// Operations per second, 0 for no limit.
    #[serde(default)]
    pub iops: u64,
    /// KiB per second, 0 for no limit.
    #[serde(default)]
    pub kib_per_second: u64,
}

/// A NIC.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NicDoc {
    /// MAC address.
    pub mac: String,
    /// `user`, `bridge` or `network`.
    pub kind: String,
    /// Name of the bridge or network; empty for `user`.
    #[serde(default)]
    pub source: String,
    /// KiB per second into the guest, 0 for no limit.
    #[serde(default)]
    pub inbound_kib_per_second: u64,
    /// KiB per second out of the guest, 0 for no limit.
    #[serde(default)]
    pub outbound_kib_per_second: u64,
    /// Addresses that the guest is to use here, with the length of their prefix: `10.0.0.5/24`.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Drop what the guest sends from another MAC, or from another address than `addresses` if there are any.
    #[serde(default)]
    pub anti_spoofing: bool,
    /// Enter `addresses` into the DHCP service of the hypervisor's network while the machine is there.
    #[serde(default)]
    pub dhcp: bool,
}

/// The NoCloud seed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SeedDoc {
    /// `meta-data`: instance-id, local-hostname, public-keys.
    pub meta_data: String,
    /// `user-data`, verbatim.
    pub user_data: String,
    /// `network-config`; empty: no such file.
    #[serde(default)]
    pub network_config: String,
}

/// A machine: everything a plugin needs to make it. It is given whole with `stage`, `start` and `restore`, so that the
/// hypervisor's own definition can always be made anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MachineDoc {
    /// Workspace id, 32 hexadecimal digits: also the machine's UUID.
    pub workspace: String,
    /// The workspace's name, for display. A host name label.
    pub name: String,
    /// vCPUs.
    pub vcpus: u64,
    /// Relative weight of CPU time, 0 for the default.
    #[serde(default)]
    pub cpu_shares: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// vCPUs that it can have without a restart, 0: no more than `vcpus`.
    #[serde(default)]
    pub vcpus_max: u64,
    /// Memory in MiB that it can have without a restart, 0: no more than `memory_mib`.
    #[serde(default)]
    pub memory_max_mib: u64,
    /// How it starts.
    pub boot: BootDoc,
    /// Disks, root first; may be empty for a kernel image.
    pub disks: Vec<DiskDoc>,
    /// NICs.
    pub nics: Vec<NicDoc>,
    /// Seed.
    pub seed: SeedDoc,
    /// Which deployment this is, from 1.
    pub deployment: u64,
}

/// `workspace.stage`: make disks and seed, define the machine, do not start it. `workspace.start`: start it (defining it anew).
/// `workspace.restore`: continue from the save file that `workspace.import` or `workspace.save` left, under a definition made anew.
/// Answer: [`MachineStatus`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MachineArgs {
    /// Host.
    pub host: String,
    /// The machine.
    pub machine: MachineDoc,
    /// `start` and `restore`: leave it paused.
    #[serde(default)]
    pub paused: bool,
    /// What the plugin left.
    #[serde(default)]
    pub plugin_state: Value,
}

/// Arguments of `workspace.pause`, `.resume`, `.reboot`, `.inspect`, `.save` (memory into a file on the host, machine off),
/// `.destroy` (machine, disks, seed, save file and logs; absent is success), `.console` (answer: descriptor 0), `.log`
/// (answer: [`LogDoc`]). Answer, where not said otherwise: [`MachineStatus`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkspaceRef {
    /// Host.
    pub host: String,
    /// Workspace id.
    pub workspace: String,
    /// What the plugin left.
    #[serde(default)]
    pub plugin_state: Value,
}

/// `workspace.stop`: ask the guest, wait, then force. The answer's `reason` is `shutdown` or `forced`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkspaceStop {
    /// Host.
    pub host: String,
    /// Workspace id.
    pub workspace: String,
    /// Milliseconds to wait for the guest; 0: force at once.
    pub guest_timeout_ms: u64,
    /// What the plugin left.
    #[serde(default)]
    pub plugin_state: Value,
}

/// `workspace.export`: write the saved machine into the descriptors handed over, in the order of `streams`. The machine must be
/// `saved`. Answer: [`Exported`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkspaceExport {
    /// Host.
    pub host: String,
    /// Workspace id.
    pub workspace: String,
    /// `memory`, `disk-0`, ..., and `nvram` (the firmware's variables) for a UEFI machine: one descriptor each, same order, writable
    /// from their start.
    pub streams: Vec<String>,
    /// What the plugin left.
    #[serde(default)]
    pub plugin_state: Value,
}

/// `workspace.export` -> what the bundle is and needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Exported {
    /// Hypervisor and version.
    pub hypervisor: String,
    /// Accelerator.
    pub accelerator: String,
    /// Machine type, for instance `pc-i440fx-7.2`.
    pub machine_type: String,
    /// CPU model or baseline.
    pub cpu: String,
    /// Emulator and version.
    pub emulator: String,
    /// Whether it was paused when it was saved.
    pub paused: bool,
    /// Each disk stream: name -> how to read it.
    pub disks: Vec<ExportedDisk>,
}

/// A disk of a bundle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportedDisk {
    /// `disk-0`, ...
    pub name: String,
    /// `qcow2` or `raw`.
    pub format: String,
    /// Digest of the image that the stream is an overlay of; empty: complete in itself.
    #[serde(default)]
    pub backing_digest: String,
    /// `raw` or `qcow2`: format of that image.
    #[serde(default)]
    pub backing_format: String,
}

/// `workspace.import`: put a bundle's streams on the host as a `saved` machine. Descriptors: one for each of `streams`, readable.
/// The images that overlays need are on the host already. Answer: [`MachineStatus`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkspaceImport {
    /// Host.
    pub host: String,
    /// The machine.
    pub machine: MachineDoc,
    /// `memory`, `disk-0`, ...
    pub streams: Vec<String>,
    /// What `workspace.export` said, as the manifest kept it.
    pub exported: Exported,
}

/// `workspace.save_disk`: write the root disk of a stopped machine, complete in itself, into descriptor 0. Answer: [`SavedDisk`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SavedDisk {
    /// `qcow2` or `raw`.
    pub format: String,
    /// Size that a guest sees, in MiB.
    pub virtual_size_mib: u64,
}

/// `workspace.log` -> the kept console lines: a bounded number of the first bytes since the last start and the newest.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LogDoc {
    /// The text; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Bytes left out in the middle or at the front.
    pub omitted_bytes: u64,
}

/// `workspace.resize`: bring a machine to what `machine` says: vCPUs, memory, disk sizes and all rate limits. Running: as far as that is
/// possible without a restart. Not running: its disks; the rest comes with the next start. Nothing is made smaller that would lose data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MachineResize {
    /// Host.
    pub host: String,
    /// The machine as it shall be.
    pub machine: MachineDoc,
    /// What the plugin left.
    #[serde(default)]
    pub plugin_state: Value,
}

/// `workspace.resize` -> what has become of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Resized {
    /// The machine.
    pub status: MachineStatus,
    /// Members of the machine that take effect at its next start: `vcpus`, `memory_mib`, ...
    #[serde(default)]
    pub after_restart: Vec<String>,
}

/// `workspace.migrate_prepare`, on the target: make ready to receive the machine while it runs elsewhere. Its images are here already.
/// Idempotent; taken back with `workspace.forget`. Answer: [`MigrationOffer`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MigratePrepare {
    /// The target.
    pub host: String,
    /// The machine.
    pub machine: MachineDoc,
    /// The source's storage, as its probe named it: equal to the target's own means that the disks are there.
    #[serde(default)]
    pub source_storage_id: String,
}

/// `workspace.migrate_prepare` -> how the source reaches the target.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MigrationOffer {
    /// Whether the disks stay where they are, on storage that both hosts share; otherwise they are copied.
    pub shared: bool,
    /// For `workspace.migrate` on the source; opaque to the daemon.
    pub offer: Value,
}

/// `workspace.migrate`, on the source: move the running machine to the target that made the offer. Reports progress in bytes; a cancel
/// leaves it running on the source. Answered when it runs on the target and the source has no definition of it left. A repeat goes on
/// waiting for a migration that is still at work. Answer: [`MachineStatus`] of the source (`absent` once it has moved).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MigrateArgs {
    /// The source.
    pub host: String,
    /// The machine.
    pub machine: MachineDoc,
    /// What the target's `workspace.migrate_prepare` answered.
    pub offer: MigrationOffer,
    /// MiB per second at most; 0 for no limit.
    #[serde(default)]
    pub mib_per_second: u64,
    /// What the plugin left.
    #[serde(default)]
    pub plugin_state: Value,
}

/// `workspace.forget`: remove what is left of a machine that is elsewhere: definition, seed, logs, disks. Fails with `state` if the
/// machine runs here. Absent is success. Answer: [`MachineStatus`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkspaceForget {
    /// Host.
    pub host: String,
    /// Workspace id.
    pub workspace: String,
    /// Leave the disks: the other host uses them, on storage that both share.
    pub keep_disks: bool,
    /// What the plugin left.
    #[serde(default)]
    pub plugin_state: Value,
}

/// `workspace.snapshot`: keep the present state of all disks (and of the memory) under a name. `workspace.revert`: go back to it; the
/// machine is then as it was: running or paused with memory, stopped without. `workspace.snapshot_remove`: drop it; absent is success.
/// Idempotent by name. Answer: [`MachineStatus`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotArgs {
    /// Host.
    pub host: String,
    /// The machine.
    pub machine: MachineDoc,
    /// Name of the snapshot: 1 to 63 of `a-z A-Z 0-9 -`.
    pub name: String,
    /// With memory; only of a running or paused machine.
    #[serde(default)]
    pub memory: bool,
    /// What the plugin left.
    #[serde(default)]
    pub plugin_state: Value,
}

/// `workspace.snapshots` -> the snapshots of a machine, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SnapshotListing {
    /// Their names.
    pub names: Vec<String>,
}

/// `host.stats` -> figures of every running machine of the daemon's, in one call to the hypervisor.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HostStats {
    /// The machines.
    pub workspaces: Vec<MachineStats>,
}

/// Figures of one machine; sums run since its start. Absent: the hypervisor does not tell.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MachineStats {
    /// Workspace id.
    pub workspace: String,
    /// CPU time used, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_time_ns: Option<u64>,
    /// Memory that it has now, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Memory of the host that it occupies, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident_mib: Option<u64>,
    /// Bytes read from its disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_read_bytes: Option<u64>,
    /// Bytes written to its disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_written_bytes: Option<u64>,
    /// Bytes into the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_received_bytes: Option<u64>,
    /// Bytes out of the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_sent_bytes: Option<u64>,
}

/// `image.list` -> the images on a host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ImageListing {
    /// Each with its length.
    pub images: Vec<ImageOnHost>,
}

/// An image on a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageOnHost {
    /// sha256.
    pub digest: String,
    /// Length in bytes.
    pub size_bytes: u64,
}

/// What a plugin may tell of its own accord, through the host's `emit`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PluginEvent {
    /// A machine changed by itself or by somebody else's hand.
    Workspace {
        /// Host.
        host: String,
        /// Its status now.
        status: MachineStatus,
    },
    /// How far a call is.
    Progress {
        /// The call's `id`.
        id: String,
        /// Units done.
        done: u64,
        /// Units in all, 0 if unknown.
        total: u64,
        /// What is being done.
        #[serde(default)]
        phase: String,
    },
    /// The connection to a host came or went.
    Host {
        /// Host.
        host: String,
        /// Whether it answers.
        up: bool,
        /// Why not.
        #[serde(default)]
        reason: String,
    },
    /// A line for the daemon's log.
    Log {
        /// `error`, `warn`, `info` or `debug`.
        level: String,
        /// The line.
        message: String,
    },
}

/// Names of the methods.
pub mod methods {
    /// See [`super::Description`].
    pub const DESCRIBE: &str = "describe";
    /// See [`super::HostOpen`].
    pub const HOST_OPEN: &str = "host.open";
    /// See [`super::HostRef`].
    pub const HOST_CLOSE: &str = "host.close";
    /// See [`super::HostProbe`].
    pub const HOST_PROBE: &str = "host.probe";
    /// See [`super::HostListing`].
    pub const HOST_LIST: &str = "host.list";
    /// See [`super::ImagesPresent`].
    pub const IMAGE_PRESENT: &str = "image.present";
    /// See [`super::ImagePut`].
    pub const IMAGE_PUT: &str = "image.put";
    /// See [`super::ImageRemove`].
    pub const IMAGE_REMOVE: &str = "image.remove";
    /// See [`super::MachineArgs`].
    pub const STAGE: &str = "workspace.stage";
    /// See [`super::MachineArgs`].
    pub const START: &str = "workspace.start";
    /// See [`super::WorkspaceStop`].
    pub const STOP: &str = "workspace.stop";
    /// See [`super::WorkspaceRef`].
    pub const REBOOT: &str = "workspace.reboot";
    /// See [`super::WorkspaceRef`].
    pub const PAUSE: &str = "workspace.pause";
    /// See [`super::WorkspaceRef`].
    pub const RESUME: &str = "workspace.resume";
    /// See [`super::WorkspaceRef`].
    pub const INSPECT: &str = "workspace.inspect";
    /// See [`super::WorkspaceRef`].
    pub const SAVE: &str = "workspace.save";
    /// See [`super::WorkspaceExport`].
    pub const EXPORT: &str = "workspace.export";
    /// See [`super::WorkspaceImport`].
    pub const IMPORT: &str = "workspace.import";
    /// See [`super::MachineArgs`].
    pub const RESTORE: &str = "workspace.restore";
    /// See [`super::WorkspaceRef`].
    pub const SAVE_DISK: &str = "workspace.save_disk";
    /// See [`super::WorkspaceRef`].
    pub const CONSOLE: &str = "workspace.console";
    /// See [`super::LogDoc`].
    pub const LOG: &str = "workspace.log";
    /// See [`super::WorkspaceRef`].
    pub const DESTROY: &str = "workspace.destroy";
    /// See [`super::HostStats`].
    pub const HOST_STATS: &str = "host.stats";
    /// See [`super::ImageListing`].
    pub const IMAGE_LIST: &str = "image.list";
    /// See [`super::MachineResize`].
    pub const RESIZE: &str = "workspace.resize";
    /// See [`super::MigratePrepare`].
    pub const MIGRATE_PREPARE: &str = "workspace.migrate_prepare";
    /// See [`super::MigrateArgs`].
    pub const MIGRATE: &str = "workspace.migrate";
    /// See [`super::WorkspaceForget`].
    pub const FORGET: &str = "workspace.forget";
    /// See [`super::SnapshotArgs`].
    pub const SNAPSHOT: &str = "workspace.snapshot";
    /// See [`super::SnapshotArgs`].
    pub const REVERT: &str = "workspace.revert";
    /// See [`super::SnapshotArgs`].
    pub const SNAPSHOT_REMOVE: &str = "workspace.snapshot_remove";
    /// See [`super::SnapshotListing`].
    pub const SNAPSHOTS: &str = "workspace.snapshots";
}
