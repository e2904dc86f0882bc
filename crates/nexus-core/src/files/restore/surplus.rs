//! What a restore's target has beyond the point, in keys of both.

use std::collections::BTreeSet;

use super::FilesTarget;
use super::jobs::Jobs;
use crate::bucket::{Address, Object};
use crate::error::Result;
use crate::files::rules::Rules;
use crate::listing::FileKind;
use crate::vault::layout;

/// The source's keys and the target's: one prefix for another.
#[derive(Debug, Clone)]
pub(super) struct Mapping {
    from: String,
    pub(super) to: String,
}

impl Mapping {
    pub(super) fn new(source_prefix: &str, target: &Address) -> Self {
        Self { from: source_prefix.to_owned(), to: target.prefix().to_owned() }
    }

    pub(super) fn target(&self, key: &str) -> String {
        format!("{}{}", self.to, key.strip_prefix(&self.from).unwrap_or(key))
    }

    pub(super) fn source(&self, key: &str) -> String {
        format!("{}{}", self.from, key.strip_prefix(&self.to).unwrap_or(key))
    }
}

/// What the target has and the point has not. Whether it is extra is known at the end of the listing: a vault there may be told by
/// its last key.
pub(super) struct Surplus {
    /// Each with its key as the source has it, and its bytes; a folder has none.
    pub(super) extra: Jobs,
    /// Prefixes of the target that hold vaults, ours or another app's, or backups of older scripts.
    pub(super) spared: BTreeSet<String>,
}

impl Surplus {
    pub(super) fn meet(
        &mut self,
        object: &Object,
        rules: &Rules,
        mapping: &Mapping,
        target: &FilesTarget,
    ) -> Result<()> {
        self.look(&object.key);
        let key = mapping.source(&object.key);
        let ours = rules.takes(&key) && target.selection.takes(rules.category(&key), &key);
        if !ours || matches!(object.kind, FileKind::Special(_)) {
            return Ok(());
        }
        let size = (object.kind != FileKind::Folder).then_some(object.side.size);
        self.extra.push(&(key, size))
    }

    /// Notes the prefix that a key of the target is the mark of.
    pub(super) fn look(&mut self, key: &str) {
        if let Some(prefix) =
            key.strip_suffix(layout::DESCRIPTOR).filter(|prefix| prefix.is_empty() || prefix.ends_with('/'))
        {
            self.spared.insert(prefix.to_owned());
        }
        if layout::stamp_of_database(key).is_some_and(|stamp| stamp.bytes().filter(u8::is_ascii_digit).count() == 14)
            && let Some(at) = key.find(layout::DATABASE)
        {
            // The scripts' folder beside theirs holds the rest of a backup; at the bucket's root only the copies are known.
            self.spared.insert(if at == 0 { layout::DATABASE.to_owned() } else { key[..at].to_owned() });
        }
    }
}
