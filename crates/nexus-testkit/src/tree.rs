//! What lies in a folder, in a form two states can be compared by.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::digest::hex;

/// One thing in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it holds: `sha256 …` of a file, `folder`, or `link to …`.
    pub content: String,
    /// Its permission bits, such as `0o600`.
    pub mode: u32,
}

impl Entry {
    /// Whether it is an ordinary file.
    pub fn is_file(&self) -> bool {
        self.content.starts_with("sha256 ")
    }
}

/// Everything below `folder`, by its path relative to `folder`; links are named, not followed.
pub fn digest(folder: &Path) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    read_into(&mut entries, folder, "");
    entries
}

fn read_into(entries: &mut BTreeMap<String, Entry>, folder: &Path, prefix: &str) {
    let found = fs::read_dir(folder).unwrap_or_else(|cause| panic!("cannot list {}: {cause}", folder.display()));
    for one in found {
        let path = one.expect("cannot read on in the folder").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
        let name = format!("{prefix}{name}");
        let metadata = fs::symlink_metadata(&path).expect("it was listed a moment ago");
        let content = if metadata.is_dir() {
            read_into(entries, &path, &format!("{name}/"));
            "folder".to_owned()
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).expect("it is a link");
            format!("link to {}", target.display())
        } else {
            let bytes = fs::read(&path).unwrap_or_else(|cause| panic!("cannot read {}: {cause}", path.display()));
            format!("sha256 {}", hex(&Sha256::digest(bytes)))
        };
        let mode = metadata.permissions().mode() & 0o7777;
        entries.insert(name, Entry { content, mode });
    }
}
