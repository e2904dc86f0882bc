//! Files on this machine: private ones, durable ones, and scratch that goes away.

pub(crate) mod sorted;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// How scratch folders begin; only folders with this name and no living owner are ever swept.
const SCRATCH_PREFIX: &str = ".nexus-scratch-";
/// How they begin for the instant before they are locked; they are empty then.
const NEW_PREFIX: &str = ".nexus-new-";
/// The file in a scratch folder whose lock says that its owner lives.
const LOCK: &str = "lock";

/// Creates a new file that only its owner may read; an existing one is refused.
pub fn create_private(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .read(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|cause| Error::local(format!("cannot create `{}`", path.display()), cause))
}

/// Creates a folder, and what it lies in, that only its owner may enter. An existing one is left as it is.
pub fn create_private_folder(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|cause| Error::local(format!("cannot create the folder `{}`", path.display()), cause))
}

/// Creates a folder that only its owner may enter, in one that is there; an existing one is left as it is.
///
/// What it lies in is never made: a run that was interrupted has taken that away, and nothing may be left in its place.
pub fn create_private_subfolder(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(cause) if cause.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::local(format!("cannot create the folder `{}`", path.display()), cause))
        }
        _ => Ok(()),
    }
}

/// Writes a file so that it is there whole or not at all: beside it, synced, renamed, the folder synced.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let what = || format!("cannot write `{}`", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file =
        tempfile::Builder::new().prefix(".nexus-").tempfile_in(folder).map_err(|cause| Error::local(what(), cause))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(|cause| Error::local(what(), cause))?;
    file.persist(path).map_err(|cause| Error::local(what(), cause.error))?;
    sync_folder(folder)
}

/// Bytes and SHA-256, hexadecimal, of a file; nothing of one that is not there.
pub(crate) fn sha256(path: &Path) -> std::io::Result<Option<(u64, String)>> {
    use sha2::{Digest, Sha256};
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
    };
    let mut sha = Sha256::new();
    let bytes = std::io::copy(&mut file, &mut sha)?;
    Ok(Some((bytes, format!("{:x}", sha.finalize()))))
}

/// Makes renames in a folder last.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|file| file.sync_all())
        .map_err(|cause| Error::local(format!("cannot sync the folder `{}`", folder.display()), cause))
}

/// Bytes free for an unprivileged writer on the file system that holds `path`.
pub fn free_bytes(path: &Path) -> Result<u64> {
    let what = || format!("cannot ask for the free space at `{}`", path.display());
    let answer = rustix::fs::statvfs(path).map_err(|cause| Error::local(what(), cause.into()))?;
    Ok(answer.f_bavail.saturating_mul(answer.f_frsize))
}

/// Runs what blocks on a thread of its own.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(cause) => {
            Err(Error::Local { what: "a working thread ended without an answer".into(), cause: Some(cause.into()) })
        }
    }
}

/// The same for work that waits for the network: on a thread of its own, since those that [`blocking`] shares are few, and names
/// of hosts are looked up on them, without which there would be no network to wait for.
///
/// # Errors
///
/// Those of the work; [`Error::Local`] when no thread could be had, or it ended without an answer.
pub(crate) async fn waiting<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    // Nobody may wait for the answer any more.
    let thread = std::thread::Builder::new().name("listing".into()).spawn(move || drop(answer.send(work())));
    thread.map_err(|cause| Error::local("cannot begin a thread", cause))?;
    answered.await.map_err(|cause| Error::Local {
        what: "a working thread ended without an answer".into(),
        cause: Some(cause.into()),
    })?
}

/// What becomes of a local file that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// Somebody may go on writing to it: what is stored must be another file.
    Copied,
    /// Nobody writes to it any more and it is removed: a folder on the same file system may take it as it is.
    Away,
}

/// A private folder for work in progress, gone when this is dropped; after a kill, swept by the next run.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    // Held for its lock: a folder whose lock nobody holds has lost its owner.
    _lock: File,
}

impl Scratch {
    /// Makes one inside `parent` and sweeps those there whose owners are gone.
    pub fn create(parent: &Path) -> Result<Self> {
        create_private_folder(parent)?;
        sweep(parent);
        let made = tempfile::Builder::new().prefix(NEW_PREFIX).tempdir_in(parent).map_err(|cause| {
            Error::local(format!("cannot create a scratch folder in `{}`", parent.display()), cause)
        })?;
        let lock = create_private(&made.path().join(LOCK))?;
        let what = || format!("cannot lock `{}`", made.path().display());
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|cause| Error::local(what(), cause.into()))?;
        // It bears the name that is swept only once it is locked.
        let name = made.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let folder = parent.join(name.replacen(NEW_PREFIX, SCRATCH_PREFIX, 1));
        std::fs::rename(made.path(), &folder).map_err(|cause| Error::local(what(), cause))?;
        // Its first name is gone, so that nothing is left for the guard to remove.
        let _ = made.keep();
        Ok(Self { folder, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// A path in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Work that a dropped future left on a thread may still be making files in it. Under another name they find no
        // folder to be made in. What cannot be removed now is swept by the next run.
        let mut gone = self.folder.clone().into_os_string();
        gone.push("-gone");
        let gone = PathBuf::from(gone);
        let path = if fs::rename(&self.folder, &gone).is_ok() { &gone } else { &self.folder };
        let _ = fs::remove_dir_all(path);
    }
}

/// Removes scratch folders whose owner no longer holds the lock.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(SCRATCH_PREFIX));
        if !ours {
            continue;
        }
        // A folder gets its name once its lock is held and is removed under another: one without a lock has no owner.
        let lock = match File::open(entry.path().join(LOCK)) {
            Ok(lock) => lock,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                let _ = fs::remove_dir_all(entry.path());
                continue;
            }
            Err(_) => continue,
        };
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// This process as its machine tells it apart from every other: the boot, the namespace of its number, the number, when it began.
pub(crate) fn this_process() -> Option<String> {
    Some(format!("{} {} {}", where_numbers_count()?, std::process::id(), began(std::process::id())?))
}

/// True when a process, as [`this_process`] told it, ran on this machine since it was started last, and runs no more. What is not known is false.
pub(crate) fn is_gone(process: &str) -> bool {
    let mut words = process.rsplitn(3, ' ');
    let (Some(began_at), Some(Ok(number)), Some(place)) = (words.next(), words.next().map(str::parse), words.next())
    else {
        return false;
    };
    // Where others' processes are hidden, none can be told to be gone.
    let seen = began(1).is_some() && where_numbers_count().as_deref() == Some(place);
    seen && began(number).as_deref() != Some(began_at)
}

/// The boot and the namespace in which a process's number means that process.
fn where_numbers_count() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), space.display()))
}

/// When a process began, in ticks since the boot (`proc_pid_stat(5)`, field 22); none: it is not there, or a zombie.
fn began(number: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    fields.nth(18).filter(|_| state != "Z").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_of_a_dead_owner_is_swept_and_that_of_a_living_one_is_not() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let living = Scratch::create(parent.path()).expect("scratch");
        let dead = parent.path().join(format!("{SCRATCH_PREFIX}dead"));
        create_private_folder(&dead).expect("a folder");
        fs::write(dead.join(LOCK), "").expect("a file");
        let other = Scratch::create(parent.path()).expect("scratch");
        assert!(living.path().exists() && other.path().exists() && !dead.exists());
    }
}
