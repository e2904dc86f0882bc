//! The vault: is it there, whose is it, and what goes with it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{DoctorPlan, Line, Standing, Step};
use crate::bucket::Address;
use crate::database::Database;
use crate::error::Error;
use crate::local::Scratch;
use crate::vault::Vault;

/// Whether the bucket or folder is there, and the vault in it is this app's.
pub(super) async fn reach(plan: &DoctorPlan, scratch: &Scratch) -> (Vec<Line>, bool) {
    let name = "vault";
    let app = Some(plan.app.as_str());
    if plan.vault.is_folder() && !plan.vault.is_made() {
        let line = match plan.vault.writer("").may_store("vault.json").await {
            Ok(()) => Line::passed(name, format!("{} will be made by the first backup", plan.address)),
            Err(error) => Line::of_error(name, error),
        };
        return (vec![line], false);
    }
    if let Err(error) = plan.vault.check().await {
        let missing = matches!(error, Error::Missing { .. });
        let mut line = Line::of_error(name, error);
        if let (true, Address::S3 { bucket, .. }) = (missing, &plan.address) {
            line.cause = None;
            line.next = vec![Step::aws(&["s3", "mb", &format!("s3://{bucket}")])];
        }
        return (vec![line], false);
    }
    let opened = Vault::open(&plan.vault, &plan.address, app, plan.rules.clone(), scratch.path().to_path_buf()).await;
    let line = match opened {
        Ok(_) => Line::passed(name, format!("{} belongs to {}", plan.address, plan.app)),
        Err(Error::Missing { .. }) => Line::passed(name, format!("{} will be made by the first backup", plan.address)),
        Err(error) => return (vec![Line::of_error(name, error)], false),
    };
    (vec![line], true)
}

/// Where the vault lies beside what it protects.
pub(super) fn place(plan: &DoctorPlan) -> Vec<Line> {
    let name = "place";
    let source = plan.backup.files.as_ref().map(|files| &files.address);
    let line = match (&plan.address, source) {
        (Address::S3 { bucket, prefix }, Some(Address::S3 { bucket: of_files, .. })) if bucket == of_files => {
            let other = format!("{bucket}-backup");
            Line::warned(
                name,
                format!("the vault lies in the bucket of the files, s3://{bucket}: it goes with it"),
                vec![
                    Step::aws(&["s3", "mb", &format!("s3://{other}")]),
                    Step::Setting {
                        table: "vault",
                        line: format!("url = \"s3://{other}/{}\"", prefix.trim_end_matches('/')),
                    },
                ],
            )
        }
        (Address::S3 { .. }, _) => Line::passed(name, "the vault has a bucket of its own"),
        (Address::Folder(_), Some(source)) if source.prefix_of(&plan.address).is_some() => {
            Line::warned(name, format!("the vault lies among the files, in {source}: it goes with them"), elsewhere())
        }
        (Address::Folder(folder), source) => match same_disk(folder, plan, source) {
            Some(what) => {
                Line::warned(name, format!("the vault lies on the disk of {what}: it goes with it"), elsewhere())
            }
            None => Line::passed(name, "the vault has a disk of its own"),
        },
    };
    debug_assert!(line.standing != Standing::Failed, "a backup beside the files is better than none");
    vec![line]
}

fn elsewhere() -> Vec<Step> {
    vec![Step::Say("give it another disk, or a bucket, with --vault or as `url` under [vault]".to_owned())]
}

/// What of the app lies on the same disk as a folder.
fn same_disk(folder: &Path, plan: &DoctorPlan, source: Option<&Address>) -> Option<&'static str> {
    let disk = |path: &Path| {
        let there = path.ancestors().find(|path| path.exists())?;
        std::fs::metadata(there).ok().map(|metadata| metadata.dev())
    };
    let ours = disk(folder)?;
    if let Some(Database::Sqlite(database)) = &plan.backup.database
        && disk(database.path()) == Some(ours)
    {
        return Some("the database");
    }
    match source {
        Some(Address::Folder(files)) if disk(files) == Some(ours) => Some("the files"),
        _ => None,
    }
}
