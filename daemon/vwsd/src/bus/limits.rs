//! The named limits of the bus edge. Those that clients read about stand in `vws_bus::names`.

/// Calls of one connection that may be in work at a time; one more is refused with `Busy`. Also the calls that wait while
/// the bus is asked who the connection is.
pub const CALLS_PER_SENDER: usize = 64;

/// Calls of one connection in work, and replies to it that are not sent yet, together: what is kept for a caller that asks and
/// does not read. One more call is refused with `Busy`.
pub const REPLIES_PER_SENDER: usize = 1_024;

/// Connections whose identity is remembered. Above it, idle ones are forgotten and asked for again at their next call.
pub const SENDERS: usize = 4_096;

/// Connections that may be subscribed at a time.
pub const SUBSCRIBERS: usize = 1_024;

/// Notices that wait for one slow subscriber. What comes above it is left out, and an `overflow` event says so.
pub const NOTICES_PER_SUBSCRIBER: usize = 4_096;

/// Children that one introspection names: tools walk the tree, people read it, and nobody reads more.
pub const INTROSPECTED_CHILDREN: usize = 1_000;

/// Objects that one introspection, or one page of a list, looks at to find visible ones. A list goes on with its cursor.
pub const LOOKED_AT: usize = 20_000;

/// Objects that are judged before other tasks get their turn.
pub const JUDGED_AT_ONCE: usize = 256;

/// Bytes of one answer. The bus itself disconnects who sends more than 32 MiB (2^25), header included.
pub const REPLY_BYTES: usize = 32 * 1024 * 1024 - 64 * 1024;

/// Milliseconds to connect to the bus and to get the name.
pub const CONNECT_MS: u64 = 10_000;

/// Judged hosts that one decision shows: an explanation judges every host of the site.
pub const JUDGED_HOSTS: usize = 20_000;
