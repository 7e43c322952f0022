//! A folder of small derived files that never grows beyond a bound: the thumbnails that were made.
//!
//! When it is full the half that was made first goes. Nothing is lost by that: what is asked for again is made again.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

/// The folder, and how full it is.
#[derive(Debug)]
pub(crate) struct Shelf {
    folder: PathBuf,
    max_bytes: u64,
    /// Bytes in it; not known before the first file is put there.
    bytes: Mutex<Option<u64>>,
}

impl Shelf {
    pub(crate) fn new(folder: PathBuf, max_bytes: u64) -> Shelf {
        Shelf { folder, max_bytes, bytes: Mutex::new(None) }
    }

    /// The file of a name, if it is there.
    pub(crate) fn take(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.place(name)).ok()
    }

    /// Puts a file there, whole or not at all.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let mut total = self.bytes.lock().unwrap_or_else(|e| e.into_inner());
        let before = total.unwrap_or_else(|| files(&self.folder).iter().map(|(_, n, _)| n).sum());
        let mut now = before + bytes.len() as u64;
        if now > self.max_bytes {
            now = self.thin_out() + bytes.len() as u64;
        }
        *total = Some(now);
        let path = self.place(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        let beside = path.with_extension(format!("{:x}", rand::random::<u64>()));
        std::fs::write(&beside, bytes)?;
        std::fs::rename(&beside, &path)
    }

    /// Takes away what was made first, until half of the bound is left; says how much is left.
    fn thin_out(&self) -> u64 {
        let mut all = files(&self.folder);
        all.sort();
        let mut left: u64 = all.iter().map(|(_, n, _)| n).sum();
        for (_, n, path) in all {
            if left <= self.max_bytes / 2 {
                break;
            }
            if std::fs::remove_file(path).is_ok() {
                left -= n;
            }
        }
        left
    }

    /// Names are digests, so that their beginnings spread them over folders.
    fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name.get(..2).unwrap_or("__")).join(name)
    }
}

/// When each file of a folder's folders was made, how long it is, and where it lies.
fn files(folder: &Path) -> Vec<(SystemTime, u64, PathBuf)> {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of_file = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((metadata.modified().ok()?, metadata.len(), entry.path()))
    };
    entries(folder).flat_map(|inner| entries(&inner.path()).collect::<Vec<_>>()).filter_map(of_file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_shelf_loses_what_was_put_there_first() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(dir.path().join("shelf"), 1_000);
        for i in 0..10 {
            shelf.put(&format!("{i:02}-name"), &[i; 100]).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(shelf.take("00-name"), Some(vec![0; 100]));
        // Another server over the same folder knows what is there.
        Shelf::new(dir.path().join("shelf"), 1_000).put("99-name", &[9; 100]).unwrap();
        assert_eq!(
            (shelf.take("00-name"), shelf.take("09-name"), shelf.take("99-name")),
            (None, Some(vec![9; 100]), Some(vec![9; 100]))
        );
        let kept: u64 = files(&dir.path().join("shelf")).iter().map(|(_, n, _)| n).sum();
        assert_eq!(kept, 600);
    }
}
