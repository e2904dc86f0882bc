//! The folders of records on this machine: which points they are of, and their removal when those are gone.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::export::{SUMMARY_FILE, Summary};
use crate::error::{Error, Result};
use crate::local;
use crate::point::{PointId, RecordTable, parse};

/// The largest summary that is read: it has some hundred bytes a column.
const LARGEST_SUMMARY: u64 = 64 * 1024 * 1024;

/// One folder of records that we have made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordFolder {
    /// Where it is.
    pub path: PathBuf,
    /// The point whose records it holds.
    pub point: PointId,
    /// Bytes of its record files.
    pub bytes: u64,
    #[serde(skip)]
    files: Vec<String>,
}

/// The folders below `folder` whose summary says that they hold an app's records. Others are passed over, whatever their
/// name.
///
/// # Errors
///
/// What the folder could not be read for.
pub fn of(folder: &Path, app: &str) -> Result<Vec<RecordFolder>> {
    let what = || format!("cannot list `{}`", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(Error::local(what(), cause)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|cause| Error::local(what(), cause))?;
        let id = entry.file_name().to_str().and_then(|name| name.parse::<PointId>().ok());
        if let Some(id) = id.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            found.extend(whose(&entry.path(), &id, app));
        }
    }
    found.sort_by(|left, right| left.point.cmp(&right.point));
    Ok(found)
}

/// The folder, when its summary says that it is the app's and this point's.
fn whose(path: &Path, id: &PointId, app: &str) -> Option<RecordFolder> {
    let (summary, meta) = summary(path)?;
    let ours = summary.app == app && summary.point == *id;
    let files: Vec<String> = summary.tables.iter().flat_map(RecordTable::files).map(|(file, _)| file).collect();
    let indexes: u64 = summary.tables.iter().filter_map(|table| Some(table.index.as_ref()?.bytes)).sum();
    // A name that leads elsewhere is none that we gave.
    let plain = files.iter().all(|file| !file.contains('/') && file != ".." && file != ".");
    (ours && plain).then(|| RecordFolder {
        path: path.to_owned(),
        point: summary.point,
        bytes: summary.total_bytes + indexes + meta.len(),
        files,
    })
}

/// True when a folder's summary has the fields that ours have, for whichever app and point, whole or not.
pub(crate) fn is_ours(folder: &Path) -> bool {
    let file = folder.join(SUMMARY_FILE);
    if !fs::metadata(&file).is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST_SUMMARY) {
        return false;
    }
    let Ok(text) = fs::read(&file) else { return false };
    [&b"\"format\": "[..], b"\"point\": \"", b"\"total_rows\": "]
        .iter()
        .all(|field| memchr::memmem::find(&text, field).is_some())
}

fn summary(folder: &Path) -> Option<(Summary, fs::Metadata)> {
    let file = folder.join(SUMMARY_FILE);
    let meta = fs::symlink_metadata(&file).ok().filter(|meta| meta.is_file() && meta.len() <= LARGEST_SUMMARY)?;
    Some((parse(&fs::read(&file).ok()?, &file.display().to_string()).ok()?, meta))
}

/// Removes the record files and the summary, which goes last, and the folder when nothing else lies in it. False when
/// something else does: that stays.
///
/// # Errors
///
/// What could not be removed.
pub fn remove(folder: &RecordFolder) -> Result<bool> {
    let named = folder.files.iter().map(String::as_str).chain([SUMMARY_FILE]);
    for name in named {
        let path = folder.path.join(name);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::local(format!("cannot remove `{}`", path.display()), cause));
            }
            _ => {}
        }
    }
    match fs::remove_dir(&folder.path) {
        Ok(()) => {}
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
        Err(cause) if cause.kind() == std::io::ErrorKind::DirectoryNotEmpty => return Ok(false),
        Err(cause) => return Err(Error::local(format!("cannot remove `{}`", folder.path.display()), cause)),
    }
    local::sync_folder(folder.path.parent().unwrap_or(Path::new("/")))?;
    Ok(true)
}
