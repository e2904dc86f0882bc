//! Which processes hold a file open or locked, as `/proc` tells it.
//!
//! It sees the processes of this machine that we may look at: as an ordinary user those of that user, and never those in
//! another container or on another machine that share the file. So an empty answer is no proof that nobody does.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The longest part of a command that is shown.
const LONGEST_COMMAND: usize = 80;

/// The files that SQLite keeps beside a database, by what follows its name.
pub(crate) const SIDECARS: [&str; 3] = ["-wal", "-journal", "-shm"];

/// A process that holds a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// The program it runs: no arguments, since those may hold secrets.
    pub command: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.command)
    }
}

/// The processes, this one included, that have the file or one of its SQLite sidecars open.
///
/// Found by device and inode, so links and other names of it count. A file that is not there is held by nobody.
///
/// # Errors
///
/// [`Error::Local`] when `/proc` cannot be read, so that nothing can be said.
pub fn is_held_by(path: &Path) -> Result<Vec<Holder>> {
    let files = identities(path);
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let cannot = |cause| Error::local("cannot see which processes hold files: `/proc` is not readable", cause);
    let mut holders = BTreeSet::new();
    for process in fs::read_dir("/proc").map_err(cannot)?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Processes of others, and those that have ended meanwhile, cannot be looked into.
        let Ok(open) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = |entry: fs::DirEntry| {
            fs::metadata(entry.path()).is_ok_and(|file| files.contains(&(file.dev(), file.ino())))
        };
        if open.flatten().any(holds) {
            holders.insert(Holder { pid, command: command(pid) });
        }
    }
    Ok(holders.into_iter().collect())
}

/// The other processes that keep SQLite from a lock: those with locks on its files, else those that have them open.
pub(crate) fn lockers(path: &Path) -> Vec<Holder> {
    let files = identities(path);
    let table = fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut pids: BTreeSet<u32> = table.lines().filter_map(|line| locker(line, &files)).collect();
    pids.remove(&std::process::id());
    if pids.is_empty() {
        let open = is_held_by(path).unwrap_or_default();
        return open.into_iter().filter(|holder| holder.pid != std::process::id()).collect();
    }
    pids.into_iter().map(|pid| Holder { pid, command: command(pid) }).collect()
}

/// Holders as the end of a sentence: `by process 12 (python3)`, or nothing when none is known.
pub(crate) fn by(holders: &[Holder]) -> String {
    let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
    if names.is_empty() { String::new() } else { format!(" by {}", names.join(", ")) }
}

/// A file beside a database: `db.sqlite3` and `-wal` give `db.sqlite3-wal`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Device and inode of a database file and of what lies beside it. SQLite puts sidecars beside the file a link leads to.
fn identities(path: &Path) -> BTreeSet<(u64, u64)> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let names = SIDECARS.iter().map(|suffix| beside(&real, suffix)).chain([real.clone()]);
    names.filter_map(|name| fs::metadata(name).ok()).map(|file| (file.dev(), file.ino())).collect()
}

/// The process that holds a lock in a line of `/proc/locks`, when it is on one of the files.
///
/// `1: POSIX  ADVISORY  WRITE 1234 08:01:123456 0 EOF`; a waiting process has `->` after the number.
fn locker(line: &str, files: &BTreeSet<(u64, u64)>) -> Option<u32> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if fields.get(1) == Some(&"->") {
        return None;
    }
    let pid = fields.get(4)?.parse().ok()?;
    let mut file = fields.get(5)?.split(':');
    let major = u32::from_str_radix(file.next()?, 16).ok()?;
    let minor = u32::from_str_radix(file.next()?, 16).ok()?;
    let inode = file.next()?.parse().ok()?;
    files.contains(&(rustix::fs::makedev(major, minor), inode)).then_some(pid)
}

fn command(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let shown = if program.is_empty() { name.trim().to_owned() } else { String::from_utf8_lossy(program).into_owned() };
    shown.chars().filter(|character| !character.is_control()).take(LONGEST_COMMAND).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_held_by_who_has_it_open_and_by_nobody_afterwards() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("db");
        let file = fs::File::create(&path).expect("a file");
        let holders = is_held_by(&path).expect("holders");
        assert!(holders.iter().any(|holder| holder.pid == std::process::id()));
        drop(file);
        assert_eq!(is_held_by(&path).expect("holders"), []);
    }

    #[test]
    fn a_line_of_the_lock_table_names_its_process_unless_it_waits() {
        let files = BTreeSet::from([(rustix::fs::makedev(8, 1), 77)]);
        assert_eq!(locker("1: POSIX  ADVISORY  WRITE 1234 08:01:77 0 EOF", &files), Some(1234));
        assert_eq!(locker("1: -> POSIX  ADVISORY  WRITE 1234 08:01:77 0 EOF", &files), None);
        assert_eq!(locker("1: POSIX  ADVISORY  WRITE 1234 08:01:78 0 EOF", &files), None);
    }
}
