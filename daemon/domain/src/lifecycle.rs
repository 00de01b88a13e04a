//! The lifecycle: one enum, one exhaustive [`State::next`].
//!
//! ```text
//! reserved -> staging -> stopped <-> starting/stopping <-> running <-> paused
//! running|paused -> serializing -> serialized -> restoring -> running|paused
//! running -> migrating -> running;  any -> destroying -> gone;  any -> broken;  any -> unknown
//! ```
//!
//! The state is what is; the target is what is wanted; the cause is why it is so. Three separate fields.
//! `unknown` is not `stopped`: an unreachable host's workspaces are unknown until it is seen what they are.

use std::fmt;

/// What a workspace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Admitted: resources are reserved, nothing was done yet.
    Reserved,
    /// Its disks are being made.
    Staging,
    /// Defined on its host, not running.
    Stopped,
    /// On its way to running.
    Starting,
    /// Runs.
    Running,
    /// On its way to stopped.
    Stopping,
    /// Stands still, its memory on the host.
    Paused,
    /// Memory and disks are being written to a bundle.
    Serializing,
    /// In a bundle, on no host.
    Serialized,
    /// On its way from a bundle to a host.
    Restoring,
    /// On its way from host to host while it runs.
    Migrating,
    /// Being ended.
    Destroying,
    /// Ended: seen to be gone.
    Gone,
    /// Something failed and could not be taken back; the cause says what. Destroy is always possible.
    Broken,
    /// Its host does not answer: nothing is known, nothing is done on a guess.
    Unknown,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Defined, not running.
    Stopped,
    /// Running.
    Running,
    /// Standing still.
    Paused,
    /// In a bundle.
    Serialized,
    /// Ended.
    Gone,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateEvent {
    /// A create job began to make disks.
    StageBegan,
    /// Disks and definition are there.
    Staged,
    /// A start job began.
    StartBegan,
    /// A stop job began.
    StopBegan,
    /// A serialize job began.
    SerializeBegan,
    /// The bundle is complete and the host is left.
    Serialized,
    /// A restore job began.
    RestoreBegan,
    /// A restore was taken back: the bundle is whole.
    RestoreUndone,
    /// A migration began.
    MigrateBegan,
    /// A destroy job began.
    DestroyBegan,
    /// The backend reported its absence after a destroy.
    Destroyed,
    /// The backend reports it running.
    SeenRunning,
    /// The backend reports it standing still.
    SeenPaused,
    /// The backend reports it defined and not running.
    SeenStopped,
    /// The backend reports that there is no such machine, and nobody here ended it.
    SeenAbsent,
    /// Its host stopped to answer.
    ContactLost,
    /// A job failed and could not be taken back.
    Broke,
}

/// The event cannot happen in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegal {
    /// The state.
    pub state: State,
    /// The event.
    pub event: StateEvent,
}

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} cannot happen to a workspace that is {}", self.event, self.state.name())
    }
}

impl State {
    /// Every state.
    pub const ALL: [Self; 15] = [
        Self::Reserved,
        Self::Staging,
        Self::Stopped,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Paused,
        Self::Serializing,
        Self::Serialized,
        Self::Restoring,
        Self::Migrating,
        Self::Destroying,
        Self::Gone,
        Self::Broken,
        Self::Unknown,
    ];

    /// The word on the bus.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Staging => "staging",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Paused => "paused",
            Self::Serializing => "serializing",
            Self::Serialized => "serialized",
            Self::Restoring => "restoring",
            Self::Migrating => "migrating",
            Self::Destroying => "destroying",
            Self::Gone => "gone",
            Self::Broken => "broken",
            Self::Unknown => "unknown",
        }
    }

    /// The state with this word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether the guest holds a CPU and memory on a host now, as far as is known.
    #[must_use]
    pub fn runs(self) -> bool {
        match self {
            Self::Starting
            | Self::Running
            | Self::Stopping
            | Self::Paused
            | Self::Serializing
            | Self::Restoring
            | Self::Migrating
            | Self::Unknown => true,
            Self::Reserved | Self::Staging | Self::Stopped | Self::Serialized | Self::Destroying | Self::Gone | Self::Broken => {
                false
            }
        }
    }

    /// The state after `event`.
    ///
    /// # Errors
    /// [`Illegal`] when the event cannot happen here.
    pub fn next(self, event: StateEvent) -> Result<Self, Illegal> {
        use State as S;
        use StateEvent as E;
        let illegal = Err(Illegal { state: self, event });
        match event {
            E::DestroyBegan => match self {
                S::Gone => illegal,
                S::Reserved
                | S::Staging
                | S::Stopped
                | S::Starting
                | S::Running
                | S::Stopping
                | S::Paused
                | S::Serializing
                | S::Serialized
                | S::Restoring
                | S::Migrating
                | S::Destroying
                | S::Broken
                | S::Unknown => Ok(S::Destroying),
            },
            E::Destroyed => match self {
                S::Destroying | S::Gone => Ok(S::Gone),
                S::Reserved
                | S::Staging
                | S::Stopped
                | S::Starting
                | S::Running
                | S::Stopping
                | S::Paused
                | S::Serializing
                | S::Serialized
                | S::Restoring
                | S::Migrating
                | S::Broken
                | S::Unknown => illegal,
            },
            E::Broke => match self {
                S::Gone => illegal,
                S::Reserved
                | S::Staging
                | S::Stopped
                | S::Starting
                | S::Running
                | S::Stopping
                | S::Paused
                | S::Serializing
                | S::Serialized
                | S::Restoring
                | S::Migrating
                | S::Destroying
                | S::Broken
                | S::Unknown => Ok(S::Broken),
            },
            E::ContactLost => match self {
                // On no host, or on its way out: no host can be lost.
                S::Reserved | S::Serialized | S::Destroying | S::Gone => Ok(self),
                S::Staging
                | S::Stopped
                | S::Starting
                | S::Running
                | S::Stopping
                | S::Paused
                | S::Serializing
                | S::Restoring
                | S::Migrating
                | S::Broken
                | S::Unknown => Ok(S::Unknown),
            },
            E::StageBegan => match self {
                S::Reserved | S::Staging => Ok(S::Staging),
                S::Stopped
                | S::Starting
                | S::Running
                | S::Stopping
                | S::Paused
                | S::Serializing
                | S::Serialized
                | S::Restoring
                | S::Migrating
                | S::Destroying
                | S::Gone
                | S::Broken
                | S::Unknown => illegal,
            },
            E::Staged => match self {
                S::Staging | S::Stopped => Ok(S::Stopped),
                S::Reserved
                | S::Starting
                | S::Running
                | S::Stopping
                | S::Paused
                | S::Serializing
                | S::Serialized
                | S::Restoring
                | S::Migrating
                | S::Destroying
                | S::Gone
                | S::Broken
                | S::Unknown => illegal,
            },
            E::StartBegan => match self {
                S::Stopped | S::Starting => Ok(S::Starting),
                S::Reserved
                | S::Staging
                | S::Running
                | S::Stopping
                | S::Paused
                | S::Serializing
                | S::Serialized
                | S::Restoring
                | S::Migrating
                | S::Destroying
                | S::Gone
                | S::Broken
                | S::Unknown => illegal,
            },
            E::StopBegan => match self {
                S::Running | S::Paused | S::Stopping | S::Starting => Ok(S::Stopping),
                S::Reserved
                | S::Staging
                | S::Stopped
                | S::Serializing
                | S::Serialized
                | S::Restoring
                | S::Migrating
                | S::Destroying
                | S::Gone
                | S::Broken
                | S::Unknown => illegal,
            },
            E::SerializeBegan => match self {
                S::Running | S::Paused | S::Serializing => Ok(S::Serializing),
                S::Reserved
                | S::Staging
                | S::Stopped
                | S::Starting
                | S::Stopping
                | S::Serialized
                | S::Restoring
                | S::Migrating
                | S::Destroying
                | S::Gone
                | S::Broken
                | S::Unknown => illegal,
            },
            E::Serialized => match self {
                S::Serializing | S::Serialized => Ok(S::Serialized),
                S::Reserved
                | S::Staging
                | S::Stopped
                | S::Starting
                | S::Running
                | S::Stopping
                | S::Paused
                | S::Restoring
                | S::Migrating
                | S::Destroying
                | S::Gone
                | S::Broken
                | S::Unknown => illegal,
            },
            E::RestoreBegan => match self {
                S::Serialized | S::Restoring => Ok(S::Restoring),
                S::Reserved
                | S::Staging
                | S::Stopped
                | S::Starting
                | S::Running
                | S::Stopping
                | S::Paused
                | S::Serializing
                | S::Migrating
                | S::Destroying
                | S::Gone
                | S::Broken
                | S::Unknown => illegal,
            },
            E::RestoreUndone => match self {
                // Unknown: its host was away when it was to be taken back, and has answered since.
                S::Restoring | S::Serialized | S::Unknown => Ok(S::Serialized),
                S::Reserved
                | S::Staging
                | S::Stopped
                | S::Starting
                | S::Running
                | S::Stopping
                | S::Paused
                | S::Serializing
                | S::Migrating
                | S::Destroying
                | S::Gone
                | S::Broken => illegal,
            },
            E::MigrateBegan => match self {
                S::Running | S::Migrating => Ok(S::Migrating),
                S::Reserved
                | S::Staging
                | S::Stopped
                | S::Starting
                | S::Stopping
                | S::Paused
                | S::Serializing
                | S::Serialized
                | S::Restoring
                | S::Destroying
                | S::Gone
                | S::Broken
                | S::Unknown => illegal,
            },
            E::SeenRunning => self.seen(event, S::Running),
            E::SeenPaused => self.seen(event, S::Paused),
            E::SeenStopped => self.seen(event, S::Stopped),
            E::SeenAbsent => match self {
                S::Stopped | S::Starting | S::Running | S::Stopping | S::Paused | S::Migrating | S::Broken | S::Unknown => {
                    Ok(S::Broken)
                }
                // On no host, or a job at work on it knows better.
                S::Reserved | S::Staging | S::Serializing | S::Serialized | S::Restoring | S::Destroying | S::Gone => Ok(self),
            },
        }
    }

    /// What an observation makes of a state. It ends transitions that lead to a machine on a host, and changes nothing of a
    /// workspace that is on no host or on its way out.
    fn seen(self, event: StateEvent, observed: Self) -> Result<Self, Illegal> {
        match self {
            Self::Stopped
            | Self::Starting
            | Self::Running
            | Self::Stopping
            | Self::Paused
            | Self::Serializing
            | Self::Restoring
            | Self::Migrating
            | Self::Unknown
            | Self::Broken => Ok(observed),
            Self::Destroying => Ok(Self::Destroying),
            Self::Reserved | Self::Staging | Self::Serialized | Self::Gone => Err(Illegal { state: self, event }),
        }
    }
}

impl Target {
    /// Every target.
    pub const ALL: [Self; 5] = [Self::Stopped, Self::Running, Self::Paused, Self::Serialized, Self::Gone];

    /// The word on the bus.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Serialized => "serialized",
            Self::Gone => "gone",
        }
    }

    /// The target with this word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }
}

impl StateEvent {
    /// Every event.
    pub const ALL: [Self; 17] = [
        Self::StageBegan,
        Self::Staged,
        Self::StartBegan,
        Self::StopBegan,
        Self::SerializeBegan,
        Self::Serialized,
        Self::RestoreBegan,
        Self::RestoreUndone,
        Self::MigrateBegan,
        Self::DestroyBegan,
        Self::Destroyed,
        Self::SeenRunning,
        Self::SeenPaused,
        Self::SeenStopped,
        Self::SeenAbsent,
        Self::ContactLost,
        Self::Broke,
    ];
}
