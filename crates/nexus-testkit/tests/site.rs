//! The site is a real one: Django works with it, and the killed and the holding application are real too.

use nexus_testkit::django::{make_site, make_wal_site};
use nexus_testkit::wal::{Holder, leave_live_wal};
use nexus_testkit::{digest, tree};

#[test]
fn a_site_is_made_the_same_twice_and_django_works_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let site = make_site(&one, 100);
    let twin = make_wal_site(&two, 100);
    assert_eq!(digest::database(&site.database), digest::database(&twin.database));
    let files = tree::digest(&site.media);
    assert_eq!(files, tree::digest(&twin.media));

    let view = site.view();
    assert_eq!(view["can_log_in"], true);
    assert_eq!(view["session"]["basket"][1], "ü");
    let named: Vec<&str> =
        view["file_keys"].as_array().expect("a list").iter().filter_map(|key| key.as_str()).collect();
    let dangling: Vec<_> = named.iter().filter(|key| !files.contains_key(**key)).collect();
    assert_eq!(dangling, site.dangling.iter().collect::<Vec<_>>());
    let files: Vec<_> = files.iter().filter(|(_, entry)| entry.is_file()).collect();
    assert_eq!(files.len(), 100);
    let orphaned = files.iter().filter(|(path, _)| !named.contains(&path.as_str()));
    let mut orphaned: Vec<_> = orphaned.map(|(path, _)| (*path).clone()).collect();
    let mut known = site.orphaned.clone();
    orphaned.sort();
    known.sort();
    assert_eq!(orphaned, known);
    assert!(!known.is_empty());
}

#[test]
fn a_killed_writer_leaves_its_commits_in_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("db.sqlite3");
    leave_live_wal(&path, &["CREATE TABLE item (id)"]);
    let log = leave_live_wal(&path, &["INSERT INTO item VALUES (1)", "INSERT INTO item VALUES (2)"]);
    let before = std::fs::read(&log).expect("it is there");
    assert!(digest::database(&path)["rows of item"].starts_with("2, "));
    assert_eq!(before, std::fs::read(&log).expect("it stays"), "reading the digest changed the log");
    std::fs::remove_file(&log).expect("it is there");
    assert!(!digest::database(&path).contains_key("rows of item"), "the database had it all along");
}

#[test]
fn a_holder_answers_from_the_connection_it_keeps() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("db.sqlite3");
    leave_live_wal(&path, &["CREATE TABLE item (id, note)", "INSERT INTO item VALUES (1, 'ü'), (2, x'00ff')"]);
    let mut holder = Holder::open(&path);
    let rows = holder.query("SELECT id, note FROM item ORDER BY id");
    assert_eq!(rows, serde_json::json!([[1, "ü"], [2, "00ff"]]));
    assert_eq!(holder.query("PRAGMA journal_mode")[0][0], "wal");
    let cause = holder.try_query("SELECT * FROM absent").expect_err("there is no such table");
    assert!(cause.contains("no such table"), "{cause}");
    holder.query("INSERT INTO item VALUES (3, NULL)");
    assert!(digest::database(&path)["rows of item"].starts_with("3, "));
}
