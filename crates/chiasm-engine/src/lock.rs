//! One writer at a time: an advisory lock of the operating system on `library.lock`, which ends with the process however that
//! ends. SQLite has a lock of its own for the length of a transaction; this one spans a whole indexing and says who has it.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use chiasm_core::Cancel;

use crate::{EngineError, Result};

pub(crate) const FILE_NAME: &str = "library.lock";
/// How often a waiting writer looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The right to write, given back when dropped.
#[derive(Debug)]
pub(crate) struct WriteLock {
    _file: File,
}

impl WriteLock {
    /// Takes the lock or says who has it.
    pub(crate) fn take(library: &Path) -> Result<WriteLock> {
        let path = library.join(FILE_NAME);
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(EngineError::io("cannot open the lock", &path))?;
        match file.try_lock() {
            Ok(()) => {
                // The number is for people only, so that a full disk must not stop a writer here.
                let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
                Ok(WriteLock { _file: file })
            }
            Err(TryLockError::WouldBlock) => Err(EngineError::Locked { path: library.to_owned(), holder: holder(&mut file) }),
            Err(TryLockError::Error(source)) => Err(EngineError::io("cannot lock", &path)(source)),
        }
    }

    /// Takes the lock as soon as it is free; gives up when asked to.
    pub(crate) fn wait(library: &Path, cancel: &Cancel, mut on_wait: impl FnMut(Option<u32>)) -> Result<WriteLock> {
        let mut told = false;
        loop {
            match WriteLock::take(library) {
                Err(EngineError::Locked { holder, .. }) => {
                    if !std::mem::replace(&mut told, true) {
                        on_wait(holder);
                    }
                    cancel.check()?;
                    std::thread::sleep(LOOK_AGAIN);
                }
                other => return other,
            }
        }
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_writer_hears_of_the_first_and_may_wait() {
        let dir = tempfile::tempdir().unwrap();
        let first = WriteLock::take(dir.path()).unwrap();
        let error = WriteLock::take(dir.path()).unwrap_err();
        assert!(matches!(error, EngineError::Locked { holder: Some(pid), .. } if pid == std::process::id()), "{error}");
        let cancel = Cancel::default();
        std::thread::scope(|s| {
            let second = s.spawn(|| WriteLock::wait(dir.path(), &Cancel::default(), |_| {}));
            std::thread::sleep(Duration::from_millis(50));
            drop(first);
            let second = second.join().unwrap().unwrap();
            cancel.cancel();
            assert!(matches!(WriteLock::wait(dir.path(), &cancel, |_| {}), Err(EngineError::Cancelled(_))));
            drop(second);
        });
        assert!(WriteLock::take(dir.path()).is_ok());
    }
}
