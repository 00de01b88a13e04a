//! A bundle's file taken apart and put together otherwise, by the description of its format and not by the product's own code.
//!
//! Owns: the framing, sizes and digests. What is wrong with what it writes is the test's business.

use serde_json::Value;
use std::path::Path;

/// A bundle's file taken apart, to be put together again otherwise.
pub struct Crafted {
    /// Its manifest.
    pub manifest: Value,
    /// Streams, then images, in the manifest's order.
    pub contents: Vec<Vec<u8>>,
}

/// sha256 of bytes, in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Crafted {
    /// Takes a file apart.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let file = std::fs::read(path).unwrap();
        let number = |at: usize, length: usize| {
            usize::try_from(file[at..at + length].iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte))).unwrap()
        };
        let length = number(16, 8);
        let manifest = serde_json::from_slice(&file[56..56 + length]).unwrap();
        let mut contents = vec![Vec::new()];
        let mut at = 56 + length;
        while !file[at..].starts_with(b"vws-bundle-end") {
            let last = contents.last_mut().unwrap();
            match file[at] {
                1 => {
                    let length = number(at + 1, 4);
                    last.extend(&file[at + 5..at + 5 + length]);
                    at += 5 + length;
                }
                2 => {
                    last.resize(last.len() + number(at + 1, 8), 0);
                    at += 9;
                }
                _ => {
                    contents.push(Vec::new());
                    at += 1;
                }
            }
        }
        contents.pop();
        Self { manifest, contents }
    }

    /// Another content of a stream or image, under its right size and digest.
    ///
    /// # Panics
    /// When there is none such.
    pub fn replace(&mut self, list: &str, at: usize, bytes: Vec<u8>) {
        let files = self.manifest["files"].as_array().unwrap().len();
        let index = if list == "files" { at } else { files + at };
        self.manifest[list][at]["sha256"] = sha256(&bytes).into();
        self.manifest[list][at]["size-bytes"] = bytes.len().into();
        self.contents[index] = bytes;
    }

    /// Puts it together.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &Path) {
        use sha2::Digest;
        let text = self.manifest.to_string();
        let mut file = b"vws-bundle-0001\n".to_vec();
        file.extend((text.len() as u64).to_be_bytes());
        file.extend(sha2::Sha256::digest(&text));
        file.extend(text.as_bytes());
        for content in &self.contents {
            for piece in content.chunks(1 << 20) {
                file.push(1);
                file.extend(u32::try_from(piece.len()).unwrap().to_be_bytes());
                file.extend(piece);
            }
            file.push(0);
        }
        file.extend(b"vws-bundle-end.\n");
        std::fs::write(path, file).unwrap();
    }
}
