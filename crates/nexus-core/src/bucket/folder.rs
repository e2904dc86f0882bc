//! One folder as a bucket: every write whole or not at all, nothing ever outside the folder.

use std::fs::{self, File, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt, PermissionsExt};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::hashes::{Hasher, Hashes};
use super::sorted::{Sorted, Sorter};
use super::upload::Progress;
use super::{Object, SMALL};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::listing::{FileKind, Side, Unix, hex};
use crate::local::{Given, create_private};
use crate::point::FileHash;

/// How the names of files begin that are not whole yet; listings leave them out.
pub(crate) const UNFINISHED: &str = ".nexus-unfinished-";
/// How the name of a folder ends that is being removed.
const GONE: &str = ".gone";
/// How much is read at once.
const CHUNK: usize = 256 * 1024;
/// The longest name most file systems take, in bytes.
const LONGEST_NAME: usize = 255;

/// A folder by its absolute path.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

/// Why a key could not become a file.
pub(crate) enum Unplaced {
    /// The file system cannot hold this key (beside what it holds already).
    Awkward,
    /// It failed.
    Failed(Error),
}

impl Folder {
    /// The folder at `root`.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn check(&self) -> Result<()> {
        let what = || format!("cannot read the folder `{}`", self.root.display());
        fs::read_dir(&self.root).map(|_| ()).map_err(|cause| Error::local(what(), cause))
    }

    /// Fails unless files may be made in the folder, or it in the folder above where it is not there yet.
    pub(crate) fn may_store(&self) -> Result<()> {
        use rustix::fs::Access;
        let nearest = self.root.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        let what = || format!("cannot write in the folder `{}`", nearest.display());
        rustix::fs::access(nearest, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|cause| Error::local(what(), cause.into()))
    }

    /// Makes the folder when it is not there.
    pub fn ensure(&self) -> Result<()> {
        crate::local::create_private_folder(&self.root)
    }

    fn dir(&self) -> Result<Dir> {
        Dir::open_ambient_dir(&self.root, ambient_authority())
            .map_err(|cause| Error::local(format!("cannot open the folder `{}`", self.root.display()), cause))
    }

    fn what(&self, verb: &str, key: &str) -> String {
        format!("cannot {verb} `{}`", self.root.join(key).display())
    }

    pub(crate) fn list(&self, prefix: &str, scratch: &Path, events: &Events) -> Result<Sorted> {
        let start = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut sorter = Sorter::new(scratch);
        let mut pending = vec![start.to_owned()];
        while let Some(folder) = pending.pop() {
            let path = self.root.join(&folder);
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                // Nothing below a prefix that nobody has written to yet.
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound && folder == start && !prefix.is_empty() => {
                    break;
                }
                Err(cause) => return Err(Error::local(format!("cannot list `{}`", path.display()), cause)),
            };
            for entry in entries {
                let entry = entry.map_err(|cause| Error::local(format!("cannot list `{}`", path.display()), cause))?;
                let Some(object) = Self::object(&folder, &entry)? else { continue };
                if object.kind == FileKind::Folder {
                    pending.push(object.key.trim_end_matches('/').to_owned());
                }
                if object.key.starts_with(prefix) {
                    events.advanced(Stage::ListFiles, 1, object.side.size);
                    sorter.push(object)?;
                }
            }
        }
        sorter.finish()
    }

    /// What lies in one folder by names that begin so, and nothing below it.
    pub(crate) fn begun_so(&self, beginning: &str) -> Result<Vec<Object>> {
        let folder = beginning.rsplit_once('/').map_or("", |(folder, _)| folder);
        let path = self.root.join(folder);
        let what = || format!("cannot list `{}`", path.display());
        let mut objects = Vec::new();
        for entry in fs::read_dir(&path).map_err(|cause| Error::local(what(), cause))? {
            let entry = entry.map_err(|cause| Error::local(what(), cause))?;
            let named = entry.file_name().to_str().is_some_and(|name| {
                let cut = if folder.is_empty() { 0 } else { folder.len() + 1 };
                name.starts_with(&beginning[cut..])
            });
            if named && let Some(object) = Self::object(folder, &entry)? {
                objects.push(object);
            }
        }
        Ok(objects)
    }

    fn object(folder: &str, entry: &fs::DirEntry) -> Result<Option<Object>> {
        let path = entry.path();
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            return Err(Error::usage_hint(
                format!("the name of {} is not UTF-8, so it cannot be recorded", path.display()),
                "rename the file, or leave its folder out with `exclude`",
            ));
        };
        if name.starts_with(UNFINISHED) {
            return Ok(None);
        }
        let meta = match entry.metadata() {
            Ok(meta) => meta,
            // Gone between the folder's listing and this look.
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(Error::local(format!("cannot look at `{}`", path.display()), cause)),
        };
        let key = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let kind = kind_of(&path, &meta)?;
        let key = if kind == FileKind::Folder { key + "/" } else { key };
        let mut side = side_of(&meta);
        if kind != FileKind::File {
            side.size = 0;
        }
        Ok(Some(Object { key, side, kind }))
    }

    pub(crate) fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        let path = self.root.join(prefix);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(Error::local(format!("cannot list `{}`", path.display()), cause)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|cause| Error::local(format!("cannot list `{}`", path.display()), cause))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && let Some(name) = entry.file_name().to_str()
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    pub(crate) fn head(&self, key: &str) -> Result<Option<Object>> {
        let Some(path) = relative(key) else { return Ok(None) };
        let full = self.root.join(path);
        match fs::symlink_metadata(&full) {
            Ok(meta) => {
                let kind = kind_of(&full, &meta)?;
                Ok(Some(Object { key: key.to_owned(), side: side_of(&meta), kind }))
            }
            Err(cause) if absent(&cause) => Ok(None),
            Err(cause) => Err(Error::local(self.what("look at", key), cause)),
        }
    }

    pub(super) fn open(&self, key: &str) -> Result<Option<File>> {
        let Some(path) = relative(key) else { return Ok(None) };
        let dir = match self.dir() {
            Ok(dir) => dir,
            Err(Error::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        match dir.open(path) {
            Ok(file) => Ok(Some(file.into_std())),
            Err(cause) if absent(&cause) => Ok(None),
            Err(cause) => Err(Error::local(self.what("read", key), cause)),
        }
    }

    /// Opens a file; `None` when it is another than was seen there.
    pub(super) fn open_same(&self, key: &str, seen: &Side) -> Result<Option<File>> {
        let Some(file) = self.open(key)? else { return Ok(None) };
        let meta = file.metadata().map_err(|cause| Error::local(self.what("look at", key), cause))?;
        Ok((side_of(&meta) == *seen).then_some(file))
    }

    pub(crate) fn read(&self, key: &str) -> Result<Option<Bytes>> {
        let Some(file) = self.open(key)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(SMALL).read_to_end(&mut bytes).map_err(|cause| Error::local(self.what("read", key), cause))?;
        Ok(Some(bytes.into()))
    }

    pub(crate) fn fetch(&self, key: &str, to: Option<&Path>) -> Result<Option<FileHash>> {
        let Some(mut from) = self.open(key)? else { return Ok(None) };
        let mut to = to.map(create_private).transpose()?;
        let hash = pump(&mut from, |chunk| match &mut to {
            Some(file) => file.write_all(chunk),
            None => Ok(()),
        })
        .map_err(|cause| Error::local(self.what("copy", key), cause))?;
        if let Some(file) = to {
            file.sync_all().map_err(|cause| Error::local(self.what("copy", key), cause))?;
        }
        Ok(Some(hash))
    }

    pub(crate) fn hashes(&self, key: &str) -> Result<Option<Hashes>> {
        let Some(mut from) = self.open(key)? else { return Ok(None) };
        let mut hasher = Hasher::new();
        pump(&mut from, |chunk| {
            hasher.update(chunk);
            Ok(())
        })
        .map_err(|cause| Error::local(self.what("read", key), cause))?;
        Ok(Some(hasher.finish()))
    }

    pub(crate) fn create(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        let write = |file: &mut File| file.write_all(bytes);
        match self.place(key, Existing::Refuse, None, write) {
            Ok(()) => Ok(true),
            Err(Unplaced::Failed(Error::Exists { .. })) => Ok(self.read(key)?.is_some_and(|there| there == bytes)),
            Err(Unplaced::Failed(error)) => Err(error),
            Err(Unplaced::Awkward) => Err(Error::Unsupported { what: self.what("create", key) }),
        }
    }

    pub(crate) fn upload_new(&self, key: &str, path: &Path, progress: &Progress<'_>) -> Result<bool> {
        let what = || format!("cannot read `{}`", path.display());
        let mut from = File::open(path).map_err(|cause| Error::local(what(), cause))?;
        if progress.given == Given::Away && self.take(key, path, &from).is_ok() {
            let bytes = from.metadata().map_err(|cause| Error::local(what(), cause))?.len();
            progress.events.advanced(progress.stage, 1, bytes);
            return Ok(true);
        }
        let write = |file: &mut File| {
            // The system copies without handing the bytes to this process; verification reads what is there.
            let bytes = std::io::copy(&mut from, file)?;
            progress.events.advanced(progress.stage, 1, bytes);
            Ok(())
        };
        match self.place(key, Existing::Refuse, None, write) {
            Ok(()) => Ok(true),
            Err(Unplaced::Failed(Error::Exists { .. })) => {
                Ok(self.fetch(key, None)?.is_some_and(|there| there.sha256 == progress.sha256))
            }
            Err(Unplaced::Failed(error)) => Err(error),
            Err(Unplaced::Awkward) => Err(Error::Unsupported { what: self.what("create", key) }),
        }
    }

    /// Takes a file in under a name that nobody has, as a second name of it; on another file system that cannot be done.
    fn take(&self, key: &str, path: &Path, file: &File) -> std::io::Result<()> {
        let refused = || std::io::Error::from(std::io::ErrorKind::Unsupported);
        let inside = relative(key).ok_or_else(refused)?;
        let dir = self.dir().map_err(|_| refused())?;
        let parent = inside.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        dir.create_dir_all(parent)?;
        let folder = dir.open_dir(parent)?;
        file.sync_all()?;
        let name = inside.file_name().ok_or_else(refused)?;
        rustix::fs::linkat(rustix::fs::CWD, path, &folder, name, rustix::fs::AtFlags::empty())?;
        folder.open(".").and_then(|folder| folder.sync_all())
    }

    /// Puts a file in place whole: written beside it, synced, linked or renamed, its folder synced.
    pub(crate) fn place(
        &self,
        key: &str,
        existing: Existing,
        like: Option<&Side>,
        write: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> std::result::Result<(), Unplaced> {
        let Some(path) = relative(key) else { return Err(Unplaced::Awkward) };
        let failed = |cause: std::io::Error| {
            if awkward(&cause) {
                Unplaced::Awkward
            } else {
                Unplaced::Failed(Error::local(self.what("write", key), cause))
            }
        };
        let dir = self.dir().map_err(Unplaced::Failed)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let folder = if parent.as_os_str().is_empty() {
            dir
        } else {
            dir.create_dir_all(parent).map_err(failed)?;
            dir.open_dir(parent).map_err(failed)?
        };
        let name = path.file_name().ok_or(Unplaced::Awkward)?;
        let unfinished = format!("{UNFINISHED}{}", hex(&Sha256::digest(key.as_bytes())[..12]));
        // A file of this name is one that a killed run left: no living run writes the same key twice at once.
        let _ = folder.remove_file(&unfinished);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = folder.open_with(&unfinished, &options).map_err(failed)?.into_std();
        let written = write(&mut file)
            .and_then(|()| like.map_or(Ok(()), |side| dress(&file, side)))
            .and_then(|()| file.sync_all())
            .and_then(|()| match existing {
                Existing::Replace => folder.rename(&unfinished, &folder, name),
                // A link fails where something is, at once for every writer; a rename would replace it.
                Existing::Refuse => folder.hard_link(&unfinished, &folder, name),
            });
        if existing == Existing::Refuse || written.is_err() {
            let _ = folder.remove_file(&unfinished);
        }
        match written {
            Ok(()) => {}
            Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists && existing == Existing::Refuse => {
                return Err(Unplaced::Failed(Error::Exists {
                    what: format!("{} is there already", self.root.join(key).display()),
                }));
            }
            Err(cause) => return Err(failed(cause)),
        }
        // A `Dir` may be a handle that can only be walked; syncing needs one that can be read.
        folder.open(".").and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// Makes an empty folder or a symbolic link as it was.
    pub(crate) fn make(&self, key: &str, kind: &FileKind, like: &Side) -> Result<()> {
        let what = || self.what("make", key);
        let Some(path) = relative(key.trim_end_matches('/')) else {
            return Err(Error::Unsupported { what: format!("{}: such a name would leave the folder", what()) });
        };
        let dir = self.dir()?;
        match kind {
            FileKind::Folder => {
                dir.create_dir_all(&path).map_err(|cause| Error::local(what(), cause))?;
                if let Some(unix) = &like.unix {
                    let mode = cap_std::fs::Permissions::from_mode(unix.mode);
                    dir.set_permissions(&path, mode).map_err(|cause| Error::local(what(), cause))?;
                }
                Ok(())
            }
            FileKind::Link(target) => {
                if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                    dir.create_dir_all(parent).map_err(|cause| Error::local(what(), cause))?;
                }
                if dir.symlink_metadata(&path).is_ok_and(|there| !there.is_dir()) {
                    dir.remove_file(&path).map_err(|cause| Error::local(what(), cause))?;
                }
                dir.symlink_contents(target, &path).map_err(|cause| Error::local(what(), cause))
            }
            FileKind::File | FileKind::Special(_) => Ok(()),
        }
    }

    /// Reads a file from end to end and fails when it changed meanwhile; to be gone is a change, too.
    pub(crate) fn read_steadily(
        &self,
        key: &str,
        mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(Side, FileHash)> {
        let gone = || Error::Changed { what: format!("`{}` is gone", self.root.join(key).display()) };
        let failed = |cause| if absent(&cause) { gone() } else { Error::local(self.what("read", key), cause) };
        let path = relative(key).ok_or_else(gone)?;
        let full = self.root.join(path);
        let before = fs::symlink_metadata(&full).map_err(failed)?;
        if !before.file_type().is_file() {
            return Err(Error::Changed { what: format!("`{}` is no longer a plain file", full.display()) });
        }
        let mut file = self.open(key)?.ok_or_else(gone)?;
        let hash = pump(&mut file, &mut take).map_err(|cause| Error::local(self.what("read", key), cause))?;
        let after = fs::symlink_metadata(&full).map_err(failed)?;
        let (before, after) = (side_of(&before), side_of(&after));
        if before != after || hash.bytes != before.size {
            return Err(Error::Changed { what: format!("`{}` changed while it was read", full.display()) });
        }
        Ok((before, hash))
    }

    pub(crate) fn remove(&self, keys: &[String]) -> Result<()> {
        let dir = self.dir()?;
        for key in keys {
            let Some(path) = relative(key.trim_end_matches('/')) else { continue };
            let removed = if key.ends_with('/') { dir.remove_dir(&path) } else { dir.remove_file(&path) };
            match removed {
                Ok(()) => {}
                Err(cause) if absent(&cause) => {}
                Err(cause) if key.ends_with('/') && cause.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
                Err(cause) => return Err(Error::local(self.what("remove", key), cause)),
            }
        }
        Ok(())
    }

    /// Removes what a key ending with `/` names, with all that is in it, whatever it is by now: of a link the link alone.
    /// False when something is there still, since others write into it.
    pub(crate) fn remove_whole(&self, key: &str) -> Result<bool> {
        let name = key.trim_end_matches('/');
        let gone = format!("{name}{GONE}");
        let (Some(path), Some(gone)) = (relative(name), relative(&gone)) else { return Ok(true) };
        let dir = match self.dir() {
            Ok(dir) => dir,
            Err(Error::Missing { .. }) => return Ok(true),
            Err(error) => return Err(error),
        };
        let failed = |cause| Error::local(self.what("remove", key), cause);
        // Under another name whoever looks for it later finds no folder to write into.
        if remove_tree(&dir, &gone).map_err(failed)? {
            match dir.rename(&path, &dir, &gone) {
                Err(cause) if !absent(&cause) => return Err(failed(cause)),
                _ => {}
            }
        }
        let (moved, left) = (remove_tree(&dir, &gone), remove_tree(&dir, &path));
        Ok(moved.map_err(failed)? && left.map_err(failed)?)
    }
}

/// Removes it with all that is in it; false when it is there still.
fn remove_tree(dir: &Dir, path: &Path) -> std::io::Result<bool> {
    let removed = match dir.symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => dir.remove_dir_all(path),
        Ok(_) => dir.remove_file(path),
        Err(cause) => Err(cause),
    };
    match removed {
        // A file in it that went or came meanwhile says nothing of the rest.
        Err(cause) if !absent(&cause) && cause.kind() != std::io::ErrorKind::DirectoryNotEmpty => Err(cause),
        _ => Ok(dir.symlink_metadata(path).is_err_and(|cause| absent(&cause))),
    }
}

/// What to do when something is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// Replace it.
    Replace,
    /// Fail with [`Error::Exists`].
    Refuse,
}

/// The path of a key, or `None` for keys that a folder cannot hold as they are or that would leave it.
pub(crate) fn relative(key: &str) -> Option<PathBuf> {
    let sound = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment.len() <= LONGEST_NAME
            && !segment.contains('\0')
            // No listing would show it.
            && !segment.starts_with(UNFINISHED)
    };
    (!key.is_empty() && key.split('/').all(sound)).then(|| PathBuf::from(key))
}

fn absent(cause: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    matches!(cause.kind(), NotFound | NotADirectory)
}

/// True for failures that mean: this name does not go beside what is there, or is too long.
fn awkward(cause: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidFilename, IsADirectory, NotADirectory};
    // The parent of `a/b` may be the file `a`: creating it says that it exists.
    matches!(cause.kind(), NotADirectory | IsADirectory | InvalidFilename)
        || cause.kind() == std::io::ErrorKind::AlreadyExists
}

fn kind_of(path: &Path, meta: &Metadata) -> Result<FileKind> {
    let kind = meta.file_type();
    if kind.is_file() {
        return Ok(FileKind::File);
    }
    if kind.is_dir() {
        return Ok(FileKind::Folder);
    }
    if kind.is_symlink() {
        let target = fs::read_link(path)
            .map_err(|cause| Error::local(format!("cannot read the link `{}`", path.display()), cause))?;
        let target = target.to_str().map(str::to_owned).ok_or_else(|| {
            Error::usage(format!("the target of the link {} is not UTF-8, so it cannot be recorded", path.display()))
        })?;
        return Ok(FileKind::Link(target));
    }
    let word = match () {
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () if kind.is_block_device() || kind.is_char_device() => "device",
        () => "unknown",
    };
    Ok(FileKind::Special(word.to_owned()))
}

fn side_of(meta: &Metadata) -> Side {
    let nanos = i32::try_from(meta.mtime_nsec()).unwrap_or(0);
    Side {
        size: meta.len(),
        modified: Timestamp::new(meta.mtime(), nanos).ok(),
        unix: Some(Unix {
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            ctime_ns: meta.ctime().saturating_mul(1_000_000_000).saturating_add(meta.ctime_nsec()),
            inode: meta.ino(),
        }),
        ..Side::default()
    }
}

/// Gives a file the owner, mode and time it had. Only root may give files away; others keep their own.
fn dress(file: &File, side: &Side) -> std::io::Result<()> {
    if let Some(unix) = &side.unix {
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::fchown(file, Some(unix.uid), Some(unix.gid))?;
        }
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(unix.mode))?;
    }
    if let Some(modified) = side.modified {
        file.set_modified(std::time::SystemTime::from(modified))?;
    }
    Ok(())
}

fn pump(from: &mut File, mut take: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<FileHash> {
    let mut sha = Sha256::new();
    let mut bytes = 0;
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = from.read(&mut chunk)?;
        if count == 0 {
            return Ok(FileHash { bytes, sha256: hex(&sha.finalize()) });
        }
        sha.update(&chunk[..count]);
        take(&chunk[..count])?;
        bytes += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::new(temp.path().join("root"));
        folder.ensure().expect("a folder");
        (temp, folder)
    }

    #[test]
    fn nothing_leaves_the_folder() {
        let (temp, folder) = folder();
        for key in ["../evil", "a/../../evil", "/evil", "a//b", "."] {
            assert!(folder.create(key, b"x").is_err(), "{key:?} was written");
        }
        std::os::unix::fs::symlink(temp.path(), folder.root().join("out")).expect("a link");
        assert!(folder.create("out/evil", b"x").is_err());
        assert!(!temp.path().join("evil").exists());
    }

    #[test]
    fn a_second_create_is_refused_and_the_same_one_is_ours() {
        let (_temp, folder) = folder();
        assert!(folder.create("claim", b"one").expect("room"));
        assert!(folder.create("claim", b"one").expect("room"));
        assert!(!folder.create("claim", b"two").expect("room"));
        assert_eq!(folder.read("claim").expect("a file").as_deref(), Some(&b"one"[..]));
    }

    #[test]
    fn a_key_below_a_file_is_awkward() {
        let (_temp, folder) = folder();
        assert!(folder.create("a", b"x").expect("room"));
        let placed = folder.place("a/b", Existing::Replace, None, |_| Ok(()));
        assert!(matches!(placed, Err(Unplaced::Awkward)));
        assert!(folder.create("c/d", b"x").expect("room"));
        let placed = folder.place("c", Existing::Replace, None, |_| Ok(()));
        assert!(matches!(placed, Err(Unplaced::Awkward)));
    }

    #[test]
    fn folders_links_and_special_files_are_named_not_opened() {
        let (temp, folder) = folder();
        folder.create("a/b", b"x").expect("room");
        std::os::unix::fs::symlink("/etc/passwd", folder.root().join("link")).expect("a link");
        let _socket = std::os::unix::net::UnixListener::bind(folder.root().join("socket")).expect("a socket");
        let listed: Vec<_> = folder
            .list("", temp.path(), &Events::none())
            .expect("a listing")
            .map(|object| object.expect("an object"))
            .collect();
        let kinds: Vec<_> = listed.iter().map(|object| (object.key.as_str(), object.kind.clone())).collect();
        assert_eq!(
            kinds,
            [
                ("a/", FileKind::Folder),
                ("a/b", FileKind::File),
                ("link", FileKind::Link("/etc/passwd".into())),
                ("socket", FileKind::Special("socket".into())),
            ]
        );
    }
}
