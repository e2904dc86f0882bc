//! Copies that a backup had made which broke off: used where they lie, when they are what would be copied now.
//!
//! Nothing is recorded of them but what the vault lists. That is enough between two buckets of one service: equal ETags that are the MD5
//! of the content, and a copy in a later second than its original was last written in, by one clock.

use super::compare::{Groups, list_groups, take};
use super::rules::Rules;
use crate::bucket::marks::Marks;
use crate::bucket::{Object, Reader};
use crate::error::Result;
use crate::listing::{FileEntry, FileKind, Place, ProofKind, is_md5_shaped};
use crate::point::PointId;
use crate::vault::{Vault, layout};

/// What broken-off backups have left, the newest first.
pub(crate) struct Left {
    prefix: String,
    of: Vec<(PointId, Groups)>,
}

impl Left {
    /// None.
    pub(crate) fn nothing() -> Self {
        Self { prefix: String::new(), of: Vec::new() }
    }

    /// Lists what lies below these claims.
    pub(super) async fn of(vault: &Vault, claims: &[PointId], rules: &Rules) -> Result<Self> {
        let mut of = Vec::with_capacity(claims.len());
        for id in claims {
            let name = |category| (format!("{}{category}/", layout::point(id)), Marks::default());
            of.push((id.clone(), list_groups(vault, rules.categories().map(name).collect()).await?));
        }
        Ok(Self { prefix: vault.full(""), of })
    }

    /// The copy of a file that serves as one made now would. Files are asked for in the order of their keys.
    pub(super) fn copy_of(&mut self, object: &Object, category: &str) -> Result<Option<FileEntry>> {
        for (id, groups) in &mut self.of {
            let full = layout::copy(&self.prefix, id, category, &object.key);
            let group =
                layout::group(&full).and_then(|group| groups.get_mut(group)).filter(|_| !layout::is_long(&full));
            let Some(group) = group else { continue };
            let Some(copy) = take(group, &format!("{}{full}", self.prefix))? else { continue };
            if serves(object, &copy) {
                return Ok(Some(FileEntry {
                    key: object.key.clone(),
                    category: category.to_owned(),
                    kind: FileKind::File,
                    source: object.side.clone(),
                    copy: Some(copy.side),
                    at: Some(Place::Vault { point: id.clone(), key: full }),
                    proof: Some(ProofKind::Etag),
                    headers: std::collections::BTreeMap::new(),
                }));
            }
        }
        Ok(None)
    }
}

/// True where what a listing shows of a copy is enough to use it.
pub(crate) fn can_be_told(source: &Reader, vault: &Vault) -> bool {
    let (from, to) = (source, vault.reader());
    // Of a copy that lies there encrypted in one way nobody can tell here in which.
    let plain = vault.rules().copies_encryption.is_none();
    from.shares_service_with(to) && plain
}

fn serves(object: &Object, copy: &Object) -> bool {
    let (from, to) = (&object.side, &copy.side);
    let same = match (&from.etag, &to.etag) {
        (Some(left), Some(right)) => left == right && is_md5_shaped(left),
        _ => false,
    };
    let later = from.modified.zip(to.modified).is_some_and(|(from, to)| from.as_second() < to.as_second());
    object.kind == FileKind::File
        && copy.kind == FileKind::File
        && same
        && later
        && from.size == to.size
        && from.class == to.class
}
