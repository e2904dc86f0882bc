//! Where a record file of a point is read: on this machine where it is provably the same, else in the vault.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Cost;
use crate::bucket::ranges::{Piece, read_range};
use crate::error::{Error, Result};
use crate::local::{Scratch, blocking};
use crate::point::{FileHash, Part, RecordTable, RecordsPart};
use crate::vault::{RecoveryPoint, layout};
use crate::verify::hash_local;

/// The records of one table of one point.
pub(super) struct Source<'a> {
    pub(super) point: &'a RecoveryPoint,
    pub(super) table: &'a RecordTable,
    pub(super) scratch: &'a Scratch,
    /// What it has cost so far.
    pub(super) cost: Cost,
}

/// A record file as a whole, which goes away again when it was fetched.
pub(super) struct Whole {
    path: PathBuf,
    fetched: bool,
}

impl Whole {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if self.fetched {
            // What cannot be removed goes with the scratch folder.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Where pieces come from.
#[derive(Clone)]
pub(super) enum Pieces {
    /// Files on this machine: the index, which is as it was written, and the records.
    Here(Arc<File>, Arc<File>),
    /// The vault.
    Vault,
}

/// Which of a table's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Index,
    Records,
}

impl<'a> Source<'a> {
    pub(super) fn new(point: &'a RecoveryPoint, table: &'a RecordTable, scratch: &'a Scratch) -> Self {
        Self { point, table, scratch, cost: Cost::default() }
    }

    fn records(&self) -> Option<&'a RecordsPart> {
        self.point.manifest().parts.records.as_ref()
    }

    /// True when the vault has them.
    pub(super) fn in_vault(&self) -> bool {
        self.records().is_some_and(|records| records.in_vault)
    }

    fn folder(&self) -> Option<&'a Path> {
        self.records()?.folder.as_deref().map(Path::new).filter(|folder| folder.is_dir())
    }

    /// Opens what lies on this machine, when its index is as it was written; its records are held against the index.
    pub(super) async fn here(&mut self) -> Option<Pieces> {
        let (folder, index) = (self.folder()?, self.table.index.clone()?);
        let (path, records) = (folder.join(self.table.index_file()), folder.join(&self.table.file));
        let opened = blocking(move || {
            let same = hash_local(&path).ok().flatten().is_some_and(|hash| hash == index);
            let open = || Some((File::open(&path).ok()?, File::open(&records).ok()?));
            Ok(if same { open() } else { None })
        });
        let (index_file, records) = opened.await.ok().flatten()?;
        self.cost.local_bytes += self.table.index.as_ref().map_or(0, |index| index.bytes);
        Some(Pieces::Here(Arc::new(index_file), Arc::new(records)))
    }

    /// Reads a piece; fewer bytes where the file ends before them.
    pub(super) async fn piece(&mut self, from: &Pieces, which: Which, range: Range<u64>) -> Result<Piece> {
        match from {
            Pieces::Here(index, records) => {
                let file = Arc::clone(if which == Which::Index { index } else { records });
                let what = format!("cannot read a part of the records of {} on this machine", self.table.name);
                let read =
                    blocking(move || read_range(&file, range).map_err(|cause| Error::local(what, cause))).await?;
                self.cost.local_bytes += read.len() as u64;
                Ok(Piece::Read(read.into()))
            }
            Pieces::Vault => {
                let file = if which == Which::Index { self.table.index_file() } else { self.table.file.clone() };
                let vault = self.point.vault();
                let read = vault.reader().range(&vault.full(&layout::record(self.point.id(), &file)), range).await?;
                self.cost.requests += 1;
                if let Piece::Read(bytes) = &read {
                    self.cost.bytes += bytes.len() as u64;
                }
                Ok(read)
            }
        }
    }

    /// The whole record file, whose hash is the manifest's: where it lies on this machine, else fetched.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when it is nowhere as it was written; [`Error::Missing`] when it is kept on another machine.
    pub(super) async fn whole(&mut self) -> Result<Whole> {
        if let Some(path) = self.whole_here().await {
            return Ok(Whole { path, fetched: false });
        }
        if !self.in_vault() {
            return Err(self.not_here());
        }
        let vault = self.point.vault();
        let key = layout::record(self.point.id(), &self.table.file);
        let path = self.scratch.file(&format!("{}-{}", self.point.id(), self.table.file));
        let whole = Whole { path, fetched: true };
        let hash = vault.reader().download(&vault.full(&key), whole.path()).await?;
        self.cost.requests += 1;
        self.cost.bytes += hash.as_ref().map_or(0, |hash| hash.bytes);
        match hash {
            Some(hash) if hash.sha256 == self.table.sha256 => Ok(whole),
            Some(_) => Err(Error::damaged(format!("{} is not as it was written", vault.name(&key)))),
            None => {
                // A prune may have taken it away meanwhile.
                self.point.require_still_kept(&[Part::Records]).await?;
                Err(Error::damaged(format!("{} is not there", vault.name(&key))))
            }
        }
    }

    async fn whole_here(&mut self) -> Option<PathBuf> {
        let path = self.folder()?.join(&self.table.file);
        let hashed = path.clone();
        let hash = blocking(move || Ok(hash_local(&hashed).ok().flatten())).await.ok().flatten()?;
        self.cost.local_bytes += hash.bytes;
        (hash == FileHash { bytes: self.table.bytes, sha256: self.table.sha256.clone() }).then_some(path)
    }

    fn not_here(&self) -> Error {
        let id = self.point.id();
        match self.folder() {
            Some(folder) => {
                let path = folder.join(&self.table.file);
                let how = if path.exists() { "not as it was written" } else { "not there" };
                Error::damaged(format!("`{}` is {how}, and the vault has no records of {id}", path.display()))
            }
            None => Error::missing(format!("the records of {id} were kept on the machine that made it only")),
        }
    }
}
