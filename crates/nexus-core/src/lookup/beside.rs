//! The files that a record names, as the points that show the record have them: a text of it that is exactly a file's key.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::history::State;
use super::record::fields;
use crate::error::Result;
use crate::listing::FileKind;
use crate::local::Scratch;
use crate::point::{Part, PointId};
use crate::vault::Vault;

/// A file that a record names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileBeside {
    /// The column whose value is its key.
    pub column: String,
    /// Its key.
    pub key: String,
    /// The point that has it so.
    pub point: PointId,
    /// Bytes.
    pub bytes: u64,
    /// The ETag that it had in the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// When it was last modified there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified: Option<Timestamp>,
}

/// The files that a state of a record names, in the first and in the last point that show it; one that is the same in both is
/// named once. Points without files, and those whose files expired, have none.
///
/// # Errors
///
/// What a listing could not be read for.
pub async fn files(vault: &Vault, state: &State, scratch: &Scratch) -> Result<Vec<FileBeside>> {
    let Some(record) = &state.record else { return Ok(Vec::new()) };
    let texts = fields(record).into_iter().filter_map(|(column, value)| {
        let text = serde_json::from_str::<String>(&value).ok()?;
        (!text.is_empty()).then_some((text, column))
    });
    let columns: BTreeMap<String, String> = texts.collect();
    let mut found: Vec<FileBeside> = Vec::new();
    let last = Some(&state.last).filter(|last| **last != state.first);
    for seen in [Some(&state.first), last].into_iter().flatten() {
        let point = vault.find(&seen.point.to_string(), &[]).await?.point;
        if columns.is_empty() || !point.kept().contains(&Part::Files) {
            continue;
        }
        for entry in point.listing(scratch).await? {
            let entry = entry?;
            let Some(column) = columns.get(&entry.key).filter(|_| entry.kind == FileKind::File) else { continue };
            let file = FileBeside {
                column: column.clone(),
                key: entry.key,
                point: seen.point.clone(),
                bytes: entry.source.size,
                etag: entry.source.etag,
                modified: entry.source.modified,
            };
            let same = |known: &FileBeside| FileBeside { point: file.point.clone(), ..known.clone() } == file;
            if !found.iter().any(same) {
                found.push(file);
            }
        }
    }
    Ok(found)
}
