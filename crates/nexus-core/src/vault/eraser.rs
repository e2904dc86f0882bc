//! The right to remove from a vault: what prune is handed, and nobody else.

use super::{Vault, layout};
use crate::bucket::Remover;
use crate::error::Result;
use crate::event::Events;
use crate::point::PointId;

/// The most keys that one request removes
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>).
pub(crate) const AT_ONCE: usize = 1_000;

/// The right to remove from one vault.
#[derive(Debug, Clone)]
pub(crate) struct Eraser {
    vault: Vault,
    remover: Remover,
}

/// An object that could not be removed, and is not to be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Kept {
    /// Its key, relative to the vault.
    pub key: String,
    /// Why it stays, in words.
    pub why: String,
}

impl Eraser {
    /// Takes the right.
    pub(crate) fn of(vault: &Vault) -> Self {
        Self { vault: vault.clone(), remover: vault.writer.clone().remover() }
    }

    /// Finds out whether anything could be removed at all, by a key that nobody has.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::Denied`] when the role may not.
    pub(crate) async fn may_remove(&self, nonce: &str) -> Result<()> {
        self.remover.may_remove(&self.vault.full(&format!(".nexus-prune-{nonce}"))).await
    }

    /// Removes objects, all versions of them, and says which of them a lock keeps. Ones that are gone are no error.
    pub(crate) async fn erase(&self, keys: &[String]) -> Result<Vec<Kept>> {
        let full: Vec<String> = keys.iter().map(|key| self.vault.full(key)).collect();
        let cut = self.vault.address.prefix().len();
        let mut kept = Vec::new();
        for keys in full.chunks(AT_ONCE) {
            let locked = self.remover.erase_all(keys).await?.into_iter();
            kept.extend(locked.map(|locked| Kept { key: locked.key[cut..].to_owned(), why: locked.why }));
        }
        Ok(kept)
    }

    /// Removes the commit of a point: from then on it is none. False when a lock keeps it.
    ///
    /// # Errors
    ///
    /// What the removal fails with, and [`crate::error::Error::Service`] when the manifest is there all the same.
    pub(crate) async fn erase_manifest(&self, point: &PointId) -> Result<bool> {
        let key = layout::manifest(point);
        if !self.erase(std::slice::from_ref(&key)).await?.is_empty() {
            return Ok(false);
        }
        match self.vault.read(&key).await? {
            None => Ok(true),
            Some(_) => Err(crate::error::Error::Service {
                what: format!("{} is still there after it was removed", self.vault.name(&key)),
                cause: None,
            }),
        }
    }

    /// Removes the folders of a point that hold nothing any more; a bucket has none.
    pub(crate) async fn clear_folders(&self, below: &str) -> Result<()> {
        if !self.vault.reader().is_folder() {
            return Ok(());
        }
        let (below, events) = (self.vault.full(below), Events::none());
        let listed = self.vault.reader().list(&below, &self.vault.scratch, &events).await?;
        let keys: Vec<String> = listed.map(|object| object.map(|object| object.key)).collect::<Result<_>>()?;
        // The deepest ones first; one that still holds something stays.
        let folders: Vec<String> = keys.into_iter().rev().filter(|key| key.ends_with('/')).collect();
        self.remover.remove(&folders).await
    }
}
