//! Which lines of a set ran: counted by Luau itself in sets that were compiled for it (`PolicySet::load_counting`).

use std::collections::BTreeMap;

/// How often each line ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// File to line to how often it ran; lines without code are not there.
    pub files: BTreeMap<String, BTreeMap<u32, u64>>,
}

impl Coverage {
    /// Lines that ran, and lines that can.
    #[must_use]
    pub fn lines(&self) -> (usize, usize) {
        let all = || self.files.values().flat_map(BTreeMap::values);
        (all().filter(|hits| **hits > 0).count(), all().count())
    }

    /// The lines of a file that never ran, neighbours joined: first and last of each run.
    #[must_use]
    pub fn missed(&self, file: &str) -> Vec<(u32, u32)> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        // Lines between two that have code belong to the run.
        let mut open = false;
        for (line, hits) in self.files.get(file).into_iter().flatten() {
            match runs.last_mut() {
                _ if *hits > 0 => open = false,
                Some(run) if open => run.1 = *line,
                _ => {
                    runs.push((*line, *line));
                    open = true;
                }
            }
        }
        runs
    }

    pub(crate) fn add(&mut self, file: &str, line: u32, hits: u64) {
        *self.files.entry(file.to_owned()).or_default().entry(line).or_default() += hits;
    }
}

#[cfg(test)]
mod tests {
    use super::Coverage;

    #[test]
    fn lines_that_never_ran_are_joined() {
        let mut coverage = Coverage::default();
        for (line, hits) in [(1, 5), (3, 0), (4, 0), (7, 1), (9, 0)] {
            coverage.add("quota.lua", line, hits);
        }
        assert_eq!(coverage.missed("quota.lua"), [(3, 4), (9, 9)]);
        assert_eq!(coverage.lines(), (2, 5));
        assert!(coverage.missed("access.lua").is_empty());
    }
}
