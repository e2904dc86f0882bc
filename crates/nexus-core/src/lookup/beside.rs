//! The files that a record names, as the points that show the record have them: a text of it that is exactly a file's key.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::LeftOut;
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

/// The files that a state of a record names, in every point that shows it; one that is the same in several is named once, with the
/// first of them. Points without files, and those whose files expired, have none; those whose listing cannot be read are answered
/// with the reason.
///
/// # Errors
///
/// What the vault could not be read for.
pub async fn files(vault: &Vault, state: &State, scratch: &Scratch) -> Result<(Vec<FileBeside>, Vec<LeftOut>)> {
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    let Some(record) = &state.record else { return Ok((found, left_out)) };
    let texts = fields(record).into_iter().filter_map(|(column, value)| {
        let text = serde_json::from_str::<String>(&value).ok()?;
        (!text.is_empty()).then_some((text, column))
    });
    let columns: BTreeMap<String, String> = texts.collect();
    if columns.is_empty() {
        return Ok((found, left_out));
    }
    let mut read = BTreeSet::new();
    for seen in &state.seen {
        // Each listing goes again once it was read: there may be many points.
        let room = Scratch::create(scratch.path())?;
        if let Err(error) = files_in(vault, &seen.point, &columns, &room, (&mut found, &mut read)).await {
            let Some(left) = LeftOut::of(&seen.point, &error) else { return Err(error) };
            left_out.push(left);
        }
    }
    Ok((found, left_out))
}

/// Adds the files that one point has, unless its listing is one that was read already.
async fn files_in(
    vault: &Vault,
    id: &PointId,
    columns: &BTreeMap<String, String>,
    scratch: &Scratch,
    (found, read): (&mut Vec<FileBeside>, &mut BTreeSet<String>),
) -> Result<()> {
    let point = vault.find(&id.to_string(), &[]).await?.point;
    let Some(part) = point.manifest().parts.files.as_ref().filter(|_| point.kept().contains(&Part::Files)) else {
        return Ok(());
    };
    if read.contains(&part.listing.sha256) {
        return Ok(());
    }
    for entry in point.listing(scratch).await? {
        let entry = entry?;
        let Some(column) = columns.get(&entry.key).filter(|_| entry.kind == FileKind::File) else { continue };
        let file = FileBeside {
            column: column.clone(),
            key: entry.key,
            point: id.clone(),
            bytes: entry.source.size,
            etag: entry.source.etag,
            modified: entry.source.modified,
        };
        let same = |known: &FileBeside| FileBeside { point: id.clone(), ..known.clone() } == file;
        if !found.iter().any(same) {
            found.push(file);
        }
    }
    read.insert(part.listing.sha256.clone());
    Ok(())
}
