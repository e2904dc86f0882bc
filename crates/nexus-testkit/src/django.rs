//! A real Django site on `SQLite` with media files: what the tool protects in the field.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::kill;
use crate::services::python;

const LIMIT: Duration = Duration::from_mins(2);

/// Columns of the site that hold the key of a file: table and column.
pub const FILE_COLUMNS: [(&str, &str); 2] = [("clinic_document", "file"), ("clinic_photo", "image")];

/// A site that was made, and lies in one folder.
#[derive(Clone, Debug)]
pub struct DjangoSite {
    /// The folder the site was made in.
    pub folder: PathBuf,
    /// Its `SQLite` file.
    pub database: PathBuf,
    /// The folder whose paths are the keys that the rows name: upload it to a bucket, or use it as it is.
    pub media: PathBuf,
    /// Keys that a row names and no file has.
    pub dangling: Vec<String>,
    /// Keys of files that no row names.
    pub orphaned: Vec<String>,
}

/// Makes a site with `media` files in `folder`, its database in rollback-journal mode.
///
/// The same number gives the same rows and bytes: users with hashed passwords, sessions, patients with
/// every kind of column, tags, documents and photos; PDFs, JPEGs, PNGs, docx files and texts; names with
/// blanks, plus signs and letters of several scripts; some rows without a file.
pub fn make_site(folder: &Path, media: usize) -> DjangoSite {
    make(folder, media, &[])
}

/// The same, its database in WAL mode.
pub fn make_wal_site(folder: &Path, media: usize) -> DjangoSite {
    make(folder, media, &["--wal"])
}

impl DjangoSite {
    /// What the site itself sees in its database now, by its own models.
    ///
    /// Counts (`users`, `patients`, `tagged`, `documents`, `photos`), `can_log_in` with the password it was
    /// made with, the decoded `session` of a user, and every key its rows name: `file_keys`. The media
    /// folder is not looked at. It panics if Django cannot work with the database.
    pub fn view(&self) -> Value {
        script("view", &self.folder, &[])
    }
}

fn make(folder: &Path, media: usize, options: &[&str]) -> DjangoSite {
    let files = media.to_string();
    let mut arguments = vec![files.as_str()];
    arguments.extend(options);
    let made = script("make", folder, &arguments);
    let keys = |name: &str| {
        let list = made[name].as_array().expect("a list");
        list.iter().map(|key| key.as_str().expect("a key").to_owned()).collect()
    };
    DjangoSite {
        folder: folder.to_owned(),
        database: folder.join("db.sqlite3"),
        media: folder.join("media"),
        dangling: keys("dangling"),
        orphaned: keys("orphaned"),
    }
}

fn script(verb: &str, folder: &Path, after: &[&str]) -> Value {
    let mut command = Command::new(python());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/django_site.py");
    command.arg("-B").arg(script).arg(verb).arg(folder).args(after);
    let output = kill::run(command, LIMIT);
    assert!(output.status.success(), "Django: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the script prints JSON")
}
