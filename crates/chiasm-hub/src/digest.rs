//! The checksums of a file, computed while it comes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use chiasm_core::{Cancel, Cancelled};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// What a server states of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stated {
    /// Its length.
    pub(crate) bytes: Option<u64>,
    /// SHA-256, which is stated of large files.
    pub(crate) sha256: Option<String>,
    /// The name that git gives a small file: SHA-1 over its length and content.
    pub(crate) git: Option<String>,
}

impl Stated {
    /// A mark of the content, by which a part of another version is not taken for one of this.
    pub(crate) fn mark(&self) -> &str {
        let of = self.sha256.as_deref().or(self.git.as_deref()).unwrap_or("unmarked");
        &of[..of.len().min(16)]
    }
}

/// The checksums of what has come so far.
pub(crate) struct Digest {
    bytes: u64,
    sha256: Context,
    git: Option<Context>,
    blake3: blake3::Hasher,
}

/// The checksums of a whole file, in hexadecimal digits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    pub(crate) git: Option<String>,
    pub(crate) blake3: String,
}

impl Digest {
    /// Of nothing yet; git's name needs the length beforehand.
    pub(crate) fn new(bytes: Option<u64>) -> Self {
        let git = bytes.map(|bytes| {
            let mut git = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
            git.update(format!("blob {bytes}\0").as_bytes());
            git
        });
        Self { bytes: 0, sha256: Context::new(&SHA256), git, blake3: blake3::Hasher::new() }
    }

    /// Of what a file holds.
    pub(crate) fn of_file(path: &Path, bytes: Option<u64>, cancel: &Cancel) -> Result<io::Result<Self>, Cancelled> {
        let mut digest = Self::new(bytes);
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(e) => return Ok(Err(e)),
        };
        let mut buffer = vec![0; 1 << 20];
        loop {
            cancel.check()?;
            match file.read(&mut buffer) {
                Ok(0) => return Ok(Ok(digest)),
                Ok(n) => digest.update(&buffer[..n]),
                Err(e) => return Ok(Err(e)),
            }
        }
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn update(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        self.sha256.update(chunk);
        self.blake3.update(chunk);
        if let Some(git) = &mut self.git {
            git.update(chunk);
        }
    }

    pub(crate) fn finish(self) -> Sums {
        let hex = |context: Context| context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Sums {
            bytes: self.bytes,
            sha256: hex(self.sha256),
            git: self.git.map(hex),
            blake3: self.blake3.finalize().to_hex().to_string(),
        }
    }
}

impl Sums {
    /// What differs from what is stated: which sum, what came, what was expected.
    pub(crate) fn differs(&self, stated: &Stated) -> Option<(&'static str, String, String)> {
        if let Some(bytes) = stated.bytes.filter(|bytes| *bytes != self.bytes) {
            return Some(("the length", self.bytes.to_string(), bytes.to_string()));
        }
        if let Some(sha256) = stated.sha256.as_ref().filter(|sum| !sum.eq_ignore_ascii_case(&self.sha256)) {
            return Some(("the SHA-256", self.sha256.clone(), sha256.clone()));
        }
        match (&self.git, &stated.git) {
            (Some(got), Some(expected)) if !expected.eq_ignore_ascii_case(got) => {
                Some(("git's name", got.clone(), expected.clone()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_tools() {
        let mut digest = Digest::new(Some(6));
        digest.update(b"hel");
        digest.update(b"lo\n");
        let sums = digest.finish();
        // `printf 'hello\n' | sha256sum`, `printf 'hello\n' | git hash-object --stdin`
        assert_eq!(sums.sha256, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
        assert_eq!(sums.git.as_deref(), Some("ce013625030ba8dba906f756967f9e9ca394464a"));
        assert_eq!(sums.blake3, blake3::hash(b"hello\n").to_hex().to_string());
        let stated = Stated { bytes: Some(6), sha256: Some(sums.sha256.to_uppercase()), git: sums.git.clone() };
        assert_eq!(sums.differs(&stated), None);
        assert_eq!(sums.differs(&Stated { bytes: Some(7), ..stated.clone() }).unwrap().0, "the length");
        assert_eq!(sums.differs(&Stated { sha256: Some("0".repeat(64)), ..stated.clone() }).unwrap().0, "the SHA-256");
        assert_eq!(sums.differs(&Stated { git: Some("0".repeat(40)), ..stated }).unwrap().0, "git's name");
    }
}
