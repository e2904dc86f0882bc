//! A digest that misses a change would let every restore test pass.

use std::path::Path;

use nexus_testkit::{digest, tree};
use rusqlite::Connection;

fn database(folder: &Path, name: &str, statements: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    let connection = Connection::open(&path).expect("a new file");
    connection
        .execute_batch("CREATE TABLE item (id INTEGER PRIMARY KEY, note); CREATE INDEX by_note ON item (note);")
        .and_then(|()| connection.execute_batch(statements))
        .expect("plain SQL");
    path
}

#[test]
fn a_database_in_another_layout_has_the_same_digest() {
    let folder = tempfile::tempdir().expect("a folder");
    let one = database(folder.path(), "one", "INSERT INTO item VALUES (1, 'a'), (2, NULL), (3, x'61')");
    let other = database(
        folder.path(),
        "other",
        "INSERT INTO item VALUES (9, zeroblob(100000)), (3, x'61'), (2, NULL), (1, 'a');
         DELETE FROM item WHERE id = 9; ANALYZE;",
    );
    assert_eq!(digest::database(&one), digest::database(&other));
}

#[test]
fn every_changed_value_type_pragma_and_schema_changes_the_digest() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = "INSERT INTO item VALUES (1, 'a'), (2, NULL), (3, 1);";
    let before = digest::database(&database(folder.path(), "before", rows));
    for (number, change) in [
        "UPDATE item SET note = 'b' WHERE id = 1",
        "UPDATE item SET note = x'61' WHERE id = 1",
        "UPDATE item SET note = '' WHERE id = 2",
        "UPDATE item SET note = 1.0 WHERE id = 3",
        "UPDATE item SET note = 'a' || char(0) || 'hidden' WHERE id = 1",
        "DELETE FROM item WHERE id = 2",
        "INSERT INTO item VALUES (4, 'a')",
        "DROP INDEX by_note",
        "CREATE TRIGGER watch AFTER DELETE ON item BEGIN SELECT 1; END",
        "PRAGMA user_version = 7",
        "PRAGMA application_id = 7",
    ]
    .into_iter()
    .enumerate()
    {
        let path = database(folder.path(), &number.to_string(), &format!("{rows} {change}"));
        assert_ne!(before, digest::database(&path), "unseen: {change}");
    }
}

#[test]
fn a_changed_file_mode_link_or_folder_changes_the_digest_of_a_tree() {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    fs::create_dir(root.join("sub")).expect("a new folder");
    fs::write(root.join("sub/ü b"), "1").expect("a new file");
    let mut states = vec![tree::digest(root)];
    assert!(states[0]["sub/ü b"].is_file() && states[0]["sub"].content == "folder");
    fs::write(root.join("sub/ü b"), "2").expect("a file");
    states.push(tree::digest(root));
    fs::set_permissions(root.join("sub/ü b"), fs::Permissions::from_mode(0o600)).expect("ours");
    states.push(tree::digest(root));
    symlink("nowhere", root.join("link")).expect("a new link");
    states.push(tree::digest(root));
    for (place, state) in states.iter().enumerate() {
        assert!(!states[place + 1..].contains(state), "state {place} comes again");
    }
}
