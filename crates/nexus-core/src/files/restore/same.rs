//! Whether a target holds a file as it was.

use super::{FilesTarget, is_marker};
use crate::bucket::Object;
use crate::error::Result;
use crate::listing::{FileEntry, FileKind, Side};

/// True when the target holds the file as it was.
pub(super) async fn is_same(
    entry: &FileEntry,
    object: &Object,
    ours: Option<&Object>,
    target: &FilesTarget,
) -> Result<bool> {
    if is_marker(entry, &target.reader) {
        return Ok(object.kind == FileKind::Folder);
    }
    if entry.kind != object.kind {
        return Ok(false);
    }
    if entry.kind != FileKind::File {
        let mode = |side: &Side| side.unix.as_ref().map(|unix| unix.mode);
        return Ok(entry.kind != FileKind::Folder || mode(&entry.source) == mode(&object.side));
    }
    if entry.source.size != object.side.size {
        return Ok(false);
    }
    if ours.is_some_and(|ours| ours.side.etag.is_some() && ours.side.etag == object.side.etag) {
        return Ok(true);
    }
    if let Some(etag) = &object.side.etag {
        let copy = entry.copy.as_ref().and_then(|copy| copy.etag.as_ref());
        let known = entry.source.etag.as_ref() == Some(etag) || copy == Some(etag);
        let known_whole = [Some(&entry.source), entry.copy.as_ref()].into_iter().flatten();
        let checksummed = known_whole.into_iter().any(|side| side.checksum.is_some());
        if known || !checksummed {
            return Ok(known);
        }
    }
    // Without an ETag to go by the bytes are read: a time of change proves nothing about content.
    let recorded = entry.source.checksum.as_ref().or(entry.copy.as_ref().and_then(|copy| copy.checksum.as_ref()));
    // An MD5 that was recorded outweighs what this run wrote itself: the copy it read may have been rotten.
    let recorded = match recorded {
        Some(recorded) => recorded,
        None => match (matches_md5(entry, object, target).await?, ours.and_then(|ours| ours.side.checksum.as_ref())) {
            (Some(same), _) => return Ok(same),
            (None, Some(written)) => written,
            (None, None) => return Ok(false),
        },
    };
    let hashes = target.reader.hashes(&object.key).await?;
    Ok(hashes.is_some_and(|hashes| hashes.have(recorded) == Some(true)))
}

/// Compares a folder's file with an MD5-shaped ETag; `None` when there is none to compare with.
async fn matches_md5(entry: &FileEntry, object: &Object, target: &FilesTarget) -> Result<Option<bool>> {
    let etag = entry.source.etag.as_deref().filter(|etag| crate::listing::is_md5_shaped(etag));
    let Some(etag) = etag else { return Ok(None) };
    let read = target.reader.hashes(&object.key).await?;
    Ok(read.map(|hashes| hashes.md5 == etag))
}
