//! A record file of a point on this machine: where it lies here, or fetched from the vault.

use std::path::{Path, PathBuf};

use super::{RecoveryPoint, layout};
use crate::error::{Error, Result};
use crate::local::{Scratch, blocking, sha256};
use crate::point::RecordTable;

impl RecoveryPoint {
    /// A table's record file as it was written: the one that this machine kept, when it is here unchanged, else the vault's,
    /// fetched into `scratch`.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when the vault holds no records and this machine does not have them; [`Error::Damaged`] when the
    /// file is not there or not as it was written.
    pub(crate) async fn record_file(&self, table: &RecordTable, scratch: &Scratch) -> Result<PathBuf> {
        let records = self.manifest().parts.records.as_ref();
        let records = records.ok_or_else(|| Error::missing(format!("{} has no records", self.id())))?;
        let here = records.folder.as_deref().map(|folder| Path::new(folder).join(&table.file));
        if let Some(path) = here {
            let hashed = path.clone();
            // What cannot be read here is as good as gone where the vault has it.
            let hash = blocking(move || Ok(sha256(&hashed).ok().flatten())).await?;
            match hash {
                Some((_, hash)) if hash == table.sha256 => return Ok(path),
                Some(_) if !records.in_vault => {
                    return Err(Error::damaged(format!("`{}` is not as it was written", path.display())));
                }
                _ => {}
            }
        }
        if !records.in_vault {
            let what = format!("the records of {} were kept on the machine that made it only", self.id());
            return Err(Error::missing(what));
        }
        let path = scratch.file(&format!("{}-{}", self.id(), table.file));
        if path.exists() {
            return Ok(path);
        }
        let (vault, key) = (self.vault(), layout::record(self.id(), &table.file));
        let fetched = vault.reader().download(&vault.full(&key), &path).await;
        if let Ok(Some(hash)) = &fetched
            && hash.sha256 == table.sha256
        {
            return Ok(path);
        }
        // A later call must not take it for what was written, nor what came of it before the download broke off.
        let _ = std::fs::remove_file(&path);
        let hash = fetched?;
        let how = if hash.is_some() { "is not as it was written" } else { "is not there" };
        Err(Error::damaged(format!("{} {how}", vault.name(&key))))
    }
}
