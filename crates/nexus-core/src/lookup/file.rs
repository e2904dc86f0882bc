//! One file of a point, fetched and held against what the listing knows of it before it is anybody's.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::listing::{FileEntry, FileKind, Place};
use crate::local::{self, Scratch};
use crate::point::Part;
use crate::records::names::like;
use crate::vault::RecoveryPoint;
use crate::verify::{Sameness, sameness};

/// The longest key that others are compared with letter by letter.
const LONGEST_COMPARED: usize = 256;
/// Keys that an error suggests at most.
const SUGGESTIONS: usize = 3;

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fetched {
    /// Its key.
    pub key: String,
    /// Its category.
    pub category: String,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of the bytes, hexadecimal.
    pub sha256: String,
    /// What they were held against.
    pub checked: Sameness,
    /// Where they came from: a key of the vault, or a version of the source.
    pub from: String,
}

/// Finds a file's line in the listing of a point.
///
/// # Errors
///
/// [`Error::Usage`] with keys that are like it when there is none; [`Error::Missing`] when the point has no files.
pub async fn entry(point: &RecoveryPoint, key: &str, scratch: &Scratch) -> Result<FileEntry> {
    if point.manifest().parts.files.is_none() {
        return Err(Error::missing(format!("{} has no files", point.id())));
    }
    point.require_kept(&[Part::Files]).await?;
    let mut close = Close::of(key);
    let listing = match point.listing(scratch).await {
        Err(error @ Error::Damaged { .. }) => {
            // A prune may have taken it away meanwhile.
            point.require_still_kept(&[Part::Files]).await?;
            return Err(error);
        }
        opened => opened?,
    };
    for entry in listing {
        let entry = entry?;
        if entry.key == key {
            return match &entry.kind {
                FileKind::File => Ok(entry),
                FileKind::Folder => Err(Error::usage(format!("{key:?} is a folder"))),
                FileKind::Link(to) => Err(Error::usage(format!("{key:?} is a symbolic link to {to:?}"))),
                FileKind::Special(what) => Err(Error::usage(format!("{key:?} is a {what}, which has no content"))),
            };
        }
        close.add(&entry.key);
    }
    Err(Error::usage_hint(format!("{} has no file {key:?}", point.id()), close.hint()))
}

/// Fetches a file into a new private one, and compares its bytes.
///
/// # Errors
///
/// [`Error::Damaged`] when its copy is not there or has other bytes than it had; the file is removed again after any error.
pub async fn fetch(point: &RecoveryPoint, entry: &FileEntry, to: &Path) -> Result<Fetched> {
    let fetched = fetch_into(point, entry, to).await;
    if fetched.is_err() {
        // Nobody is to take it for the file.
        let _ = std::fs::remove_file(to);
    }
    fetched
}

async fn fetch_into(point: &RecoveryPoint, entry: &FileEntry, to: &Path) -> Result<Fetched> {
    let vault = point.vault();
    let (hashes, from) = match &entry.at {
        None => return Err(Error::missing(format!("the listing of {} names no copy of {:?}", point.id(), entry.key))),
        Some(Place::Vault { key, .. }) => {
            let full = vault.full(key);
            (vault.reader().download_for_hashes((&full, None), to).await?, vault.name(key))
        }
        Some(Place::Version { id }) => {
            let source = point.source()?;
            let from = format!("{}/{} version {id}", source.place(), entry.key);
            (source.download_for_hashes((&entry.key, Some(id)), to).await?, from)
        }
    };
    let Some(hashes) = hashes else {
        // A prune may have taken it away meanwhile.
        point.require_still_kept(&[Part::Files]).await?;
        return Err(Error::damaged(format!("the copy of {:?}, {from}, is not there", entry.key)));
    };
    match sameness(point, entry, &hashes).await? {
        Some(checked) => Ok(Fetched {
            key: entry.key.clone(),
            category: entry.category.clone(),
            bytes: hashes.hash.bytes,
            sha256: hashes.hash.sha256,
            checked,
            from,
        }),
        None => Err(Error::damaged(format!("the copy of {:?}, {from}, has other bytes than it had", entry.key))),
    }
}

/// Fetches a file to a place where nothing lies yet; it is there whole, with its own bytes, or not at all.
///
/// # Errors
///
/// As [`fetch`]; [`Error::Usage`] when something lies there.
pub async fn fetch_to(point: &RecoveryPoint, entry: &FileEntry, to: &Path, clock: &Clock) -> Result<Fetched> {
    let taken = || {
        Error::usage_hint(
            format!("`{}` is there already", to.display()),
            "name a file that is not there yet with --output, or remove it first",
        )
    };
    if to.symlink_metadata().is_ok() {
        return Err(taken());
    }
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // It goes when this work is dropped, as after a signal.
    let beside = Unfinished(folder.join(format!(".nexus-{}-unfinished", clock.nonce())));
    let fetched = fetch(point, entry, &beside.0).await?;
    match std::fs::hard_link(&beside.0, to) {
        Ok(()) => {}
        Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => return Err(taken()),
        // Some file systems have no links; a copy takes nobody's place either.
        Err(_) => {
            let there = |error| if to.symlink_metadata().is_ok() { taken() } else { error };
            write_copy(&beside.0, (to, local::create_private(to).map_err(there)?))?;
        }
    }
    local::sync_folder(folder)?;
    Ok(fetched)
}

/// Writes the bytes of a file into a new one, which goes again when that fails.
fn write_copy(from: &Path, (to, mut file): (&Path, File)) -> Result<()> {
    let copied =
        File::open(from).and_then(|mut from| std::io::copy(&mut from, &mut file)).and_then(|_| file.sync_all());
    copied.map_err(|cause| {
        let _ = std::fs::remove_file(to);
        Error::local(format!("cannot write `{}`", to.display()), cause)
    })
}

/// A file that goes away again.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What cannot be removed lies beside, with a name that says so.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Keys that are like one that is not there.
struct Close<'a> {
    key: &'a str,
    name: &'a str,
    /// The same but for case, or the same last part elsewhere.
    found: Vec<String>,
    /// Those that differ in a few letters.
    like: Vec<String>,
}

impl<'a> Close<'a> {
    fn of(key: &'a str) -> Self {
        Self { key, name: key.rsplit('/').next().unwrap_or(key), found: Vec::new(), like: Vec::new() }
    }

    fn add(&mut self, other: &str) {
        let name = other.rsplit('/').next().unwrap_or(other);
        if name.to_lowercase() == self.name.to_lowercase() && !name.is_empty() {
            if self.found.len() < SUGGESTIONS {
                self.found.push(format!("`{other}`"));
            }
        } else if self.like.len() < SUGGESTIONS
            && self.key.len() <= LONGEST_COMPARED
            && other.len().abs_diff(self.key.len()) <= 2
            && !like(self.key, [other].into_iter()).is_empty()
        {
            self.like.push(format!("`{other}`"));
        }
    }

    fn hint(self) -> String {
        let all: Vec<String> = self.found.into_iter().chain(self.like).take(SUGGESTIONS).collect();
        match all.as_slice() {
            [] => "keys are written as they are in the source, with every folder: images/2024/a.jpg".to_owned(),
            close => format!("it has {}", close.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_private_has_all_bytes_and_takes_nobodys_place() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, "bytes").expect("room");
        write_copy(&from, (&to, local::create_private(&to).expect("free"))).expect("copied");
        assert_eq!(std::fs::read(&to).expect("a file"), b"bytes");
        assert_eq!(to.metadata().expect("a file").permissions().mode() & 0o777, 0o600);
        assert!(local::create_private(&to).is_err());
        let file = File::open(&to).expect("a file");
        assert!(write_copy(&folder.path().join("none"), (&to, file)).is_err() && !to.exists());
    }
}
