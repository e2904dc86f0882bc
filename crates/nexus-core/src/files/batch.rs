//! Where a point's copies lie, as S3 Batch Operations reads it: beyond what one machine copies, the service does.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::{Error, Result};
use crate::listing::{FileEntry, Place};
use crate::vault::RecoveryPoint;

/// What stands in a manifest as it is; everything else is percent-encoded, commas, quotes and line ends with it.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The lines of a manifest in the format `S3BatchOperations_CSV_20180820`: bucket, URL-encoded key, and the version id where the
/// files are versions; no header, and version ids in all lines or in none
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-create-job.html>).
pub struct Manifest {
    vault: Option<String>,
    prefix: String,
    source: Option<String>,
}

impl Manifest {
    /// The manifest of a point's files.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when the point has no files.
    pub fn of(point: &RecoveryPoint) -> Result<Self> {
        let part = point.manifest().parts.files.as_ref();
        let part = part.ok_or_else(|| Error::missing(format!("{} has no files", point.id())))?;
        let bucket = |place: &str| Some(place.strip_prefix("s3://")?.split('/').next()?.to_owned());
        let vault = point.vault();
        Ok(Self { vault: bucket(&vault.reader().place()), prefix: vault.full(""), source: bucket(&part.source) })
    }

    /// The line of a file; `None` for what has no copy: links and folders.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when its copy lies in no bucket.
    pub fn line(&self, entry: &FileEntry) -> Result<Option<String>> {
        let nowhere = || {
            Error::usage_hint(
                "the vault is a folder, which S3 Batch Operations cannot read",
                "copy the point into a bucket first: `nexus copy POINT --to-vault s3://…`",
            )
        };
        match &entry.at {
            None => Ok(None),
            Some(Place::Vault { key, .. }) => {
                let bucket = self.vault.as_ref().ok_or_else(nowhere)?;
                Ok(Some(line(bucket, &format!("{}{key}", self.prefix), None)))
            }
            Some(Place::Version { id }) => {
                let bucket = self.source.as_ref().ok_or_else(nowhere)?;
                Ok(Some(line(bucket, &entry.key, Some(id))))
            }
        }
    }
}

fn line(bucket: &str, key: &str, version: Option<&str>) -> String {
    let key = utf8_percent_encode(key, PLAIN);
    match version {
        Some(version) => format!("{bucket},{key},{version}\n"),
        None => format!("{bucket},{key}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_bucket_and_a_key_that_no_reader_of_csv_can_misread() {
        assert_eq!(
            line("Examplebucket", "object key with spaces", None),
            "Examplebucket,object%20key%20with%20spaces\n"
        );
        assert_eq!(line("b", "a/Ä,\"+%\n", Some("3HL4")), "b,a/%C3%84%2C%22%2B%25%0A,3HL4\n");
    }
}
