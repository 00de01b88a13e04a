//! Who asks. Made by the bus edge from the credentials of the message's sender, never from an argument.

/// The identity of a caller, or of the daemon itself for its own acts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Unix user id.
    pub uid: u32,
    /// User name, for display; the uid in digits when it has none.
    pub user: String,
    /// All group ids, primary first.
    pub gids: Vec<u32>,
    /// The names of `gids`, same order.
    pub groups: Vec<String>,
    /// Process id at the time of the call, for the log only: nothing is decided by it.
    pub pid: u32,
    /// Security label, empty if the bus gives none.
    pub label: String,
    /// Whether the caller is root or in the administrators' group.
    pub admin: bool,
    /// Whether this is the daemon's own system actor (lease ends, recovery, reconcile, undo).
    pub system: bool,
}

impl Caller {
    /// The system actor called `name`, for instance `lease`.
    #[must_use]
    pub fn system(name: &str) -> Self {
        Self {
            uid: 0,
            user: format!("vwsd/{name}"),
            gids: Vec::new(),
            groups: Vec::new(),
            pid: 0,
            label: String::new(),
            admin: true,
            system: true,
        }
    }

    /// The group that is charged when the request names none: the primary group.
    #[must_use]
    pub fn primary_group(&self) -> &str {
        self.groups.first().map_or("", String::as_str)
    }
}
