//! One file of a point, fetched and held against what the listing knows of it before it is anybody's.

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
    for entry in point.listing(scratch).await? {
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
        // Some file systems have no links; then only a name that was free a moment ago can be asked for.
        Err(_) => std::fs::rename(&beside.0, to)
            .map_err(|cause| Error::local(format!("cannot write `{}`", to.display()), cause))?,
    }
    local::sync_folder(folder)?;
    Ok(fetched)
}

/// A file that goes away again.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After it was renamed there is none.
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
