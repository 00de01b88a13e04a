//! The text of a policy set: plain files, read from a folder, hashed.

use crate::limits::source_limits;
use crate::problem::Problem;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use vws_domain::PolicyHash;

/// The text of a policy set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// File name (`access.lua`, `lib/limits.lua`) to text.
    pub files: BTreeMap<String, String>,
}

impl Sources {
    /// Reads `*.lua` of the folder and of its `lib/` folder. The three policies may be links to anywhere, modules within the folder. Hidden files (an editor's locks) and
    /// `*_test.lua` (the site's own tests) are not part of the set.
    ///
    /// # Errors
    /// Every problem found, not only the first: a file that cannot be read, is not UTF-8, or a limit of
    /// [`source_limits`] that is exceeded.
    pub fn read_dir(dir: &Path) -> Result<Self, Vec<Problem>> {
        let mut reader =
            Reader { sources: Self::default(), problems: Vec::new(), bytes: 0, tests: false, root: dir.canonicalize().ok() };
        reader.folder(dir, "");
        let lib = dir.join("lib");
        if lib.is_dir() {
            reader.folder(&lib, "lib/");
        }
        if reader.problems.is_empty() { Ok(reader.sources) } else { Err(reader.problems) }
    }

    /// Reads the folder's tests: `*_test.lua` beside the policies. They are no part of the set and of its hash.
    ///
    /// # Errors
    /// Those of [`Sources::read_dir`].
    pub fn read_tests(dir: &Path) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader { sources: Self::default(), problems: Vec::new(), bytes: 0, tests: true, root: None };
        reader.folder(dir, "");
        if reader.problems.is_empty() { Ok(reader.sources) } else { Err(reader.problems) }
    }

    /// SHA-256 over names and texts, each with its length in front, so that no two sets share one.
    #[must_use]
    pub fn hash(&self) -> PolicyHash {
        let mut hasher = Sha256::new();
        for (name, text) in &self.files {
            for part in [name, text] {
                hasher.update((part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
            }
        }
        let mut hex = String::with_capacity(64);
        for byte in hasher.finalize() {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        PolicyHash(hex)
    }

    /// A line of a file, from 1.
    #[must_use]
    pub fn line(&self, file: &str, line: u32) -> Option<&str> {
        let index = usize::try_from(line.checked_sub(1)?).ok()?;
        self.files.get(file)?.lines().nth(index)
    }
}

struct Reader {
    sources: Sources,
    problems: Vec<Problem>,
    bytes: usize,
    /// Whether the tests are read, or the set.
    tests: bool,
    /// Where the folder really is.
    root: Option<PathBuf>,
}

impl Reader {
    fn problem(&mut self, file: &str, code: &str, text: String, help: &str) {
        self.problems.push(Problem::new(file, code, text, help));
    }

    fn folder(&mut self, dir: &Path, prefix: &str) {
        let shown = dir.display().to_string();
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) => {
                self.problem(
                    &shown,
                    "unreadable",
                    format!("cannot list the folder: {error}"),
                    "create it, or let the daemon's user read it",
                );
                return;
            }
        };
        let mut names = Vec::new();
        for entry in entries {
            match entry {
                Ok(entry) => names.push(entry.file_name()),
                Err(error) => {
                    self.problem(&shown, "unreadable", format!("cannot list the folder: {error}"), "check the file system");
                    return;
                }
            }
        }
        names.sort();
        for name in names {
            let Some(text) = name.to_str() else { continue };
            if text.ends_with(".lua") && text.ends_with("_test.lua") == self.tests && !text.starts_with('.') {
                self.file(&dir.join(&name), &format!("{prefix}{text}"));
            }
        }
    }

    /// Whether a link leads a module out of the folder. The three policies may lie elsewhere: who made their links made the set.
    fn leads_out(&self, path: &Path, name: &str) -> bool {
        let policy = crate::POLICIES.iter().any(|policy| name.strip_suffix(".lua") == Some(policy));
        let (Some(root), Ok(real)) = (&self.root, path.canonicalize()) else { return false };
        !policy && !real.starts_with(root)
    }

    fn file(&mut self, path: &Path, name: &str) {
        if self.leads_out(path, name) {
            let text = "is a link that leads out of the policy folder".to_owned();
            self.problem(
                name,
                "outside",
                text,
                "put the file into the folder; only access.lua, quota.lua and placement.lua may be links to elsewhere",
            );
            return;
        }
        if self.sources.files.len() >= source_limits::FILES {
            if !self.problems.iter().any(|problem| problem.code == "too-many-files") {
                let text = format!("the set has more than {} files", source_limits::FILES);
                self.problem(name, "too-many-files", text, "join some of them");
            }
            return;
        }
        match read_bounded(path) {
            Err(error) => {
                let text = format!("cannot be read: {error}");
                self.problem(
                    name,
                    "unreadable",
                    text,
                    "check that it is a file (or a link to one) that the daemon's user may read",
                );
            }
            Ok(bytes) if bytes.len() > source_limits::FILE_BYTES => {
                let text = format!("is larger than {} bytes", source_limits::FILE_BYTES);
                self.problem(name, "too-large", text, "split it");
            }
            Ok(bytes) => {
                self.bytes += bytes.len();
                if self.bytes > source_limits::TOTAL_BYTES {
                    let text = format!("the set is larger than {} bytes", source_limits::TOTAL_BYTES);
                    self.problem(name, "too-large", text, "make it smaller");
                    return;
                }
                match String::from_utf8(bytes) {
                    Ok(text) => {
                        self.sources.files.insert(name.to_owned(), text);
                    }
                    Err(_) => self.problem(name, "not-text", "is not UTF-8 text".to_owned(), "save it as UTF-8"),
                }
            }
        }
    }
}

/// At most one byte more than allowed, so that a huge file (or a device) costs nothing.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(source_limits::FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
