//! Amounts of a host's resources and the arithmetic on them. All saturating: no amount wraps around.

/// vCPUs, memory and disk, of a request, a reservation or a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// Virtual CPUs.
    pub vcpus: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Disk in GiB, rounded up.
    pub disk_gib: u64,
}

/// Which resource is short, with both numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// `vcpus`, `memory_mib` or `disk_gib`.
    pub resource: &'static str,
    /// What was asked.
    pub asked: u64,
    /// What there is.
    pub available: u64,
}

impl Resources {
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            vcpus: self.vcpus.saturating_add(other.vcpus),
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
            disk_gib: self.disk_gib.saturating_add(other.disk_gib),
        }
    }

    /// The difference, never below zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            vcpus: self.vcpus.saturating_sub(other.vcpus),
            memory_mib: self.memory_mib.saturating_sub(other.memory_mib),
            disk_gib: self.disk_gib.saturating_sub(other.disk_gib),
        }
    }

    /// The first resource of which `self` asks more than `available` has.
    #[must_use]
    pub fn shortage(self, available: Self) -> Option<Shortage> {
        let pairs = [
            ("memory_mib", self.memory_mib, available.memory_mib),
            ("vcpus", self.vcpus, available.vcpus),
            ("disk_gib", self.disk_gib, available.disk_gib),
        ];
        pairs.into_iter().find(|(_, asked, available)| asked > available).map(|(resource, asked, available)| Shortage {
            resource,
            asked,
            available,
        })
    }
}
