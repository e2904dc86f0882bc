//! The rooms keep their walls: which room may name which, and what no room may do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each room of the core and all that it may name of the others. What is absent is forbidden, and what is here is used.
///
/// An arrow to one item of a room is written `room::item`.
const ARROWS: [(&str, &[&str]); 26] = [
    ("clock", &[]),
    ("error", &[]),
    ("event", &[]),
    ("local", &["error"]),
    ("point", &["error", "listing"]),
    ("retention", &["point"]),
    ("listing", &["error", "local", "point"]),
    ("bucket", &["error", "event", "listing", "local", "point"]),
    ("vault", &["bucket", "clock", "error", "event", "listing", "local", "point"]),
    ("database", &["error", "event", "local", "point"]),
    ("records", &["clock", "database", "error", "event", "local", "point"]),
    ("files", &["bucket", "clock", "error", "event", "listing", "local", "point", "vault"]),
    ("references", &["bucket", "database", "error", "event", "listing", "local", "point", "records", "vault"]),
    ("verify", &["bucket", "clock", "error", "event", "files", "listing", "local", "point", "records", "vault"]),
    (
        "backup",
        &["clock", "database", "error", "event", "files", "local", "point", "records", "references", "vault", "verify"],
    ),
    ("drill", &["clock", "database", "error", "event", "listing", "local", "point", "records", "vault", "verify"]),
    ("restore", &["clock", "database", "error", "event", "files", "local", "point", "records", "vault", "verify"]),
    (
        "adopt",
        &["bucket", "clock", "database", "error", "event", "files", "listing", "local", "point", "records", "vault"],
    ),
    ("copy", &["bucket", "clock", "error", "event", "files", "local", "point", "vault", "verify"]),
    ("pin", &["clock", "error", "point", "vault"]),
    ("prune", &["bucket", "clock", "error", "event", "listing", "local", "point", "records", "retention", "vault"]),
    (
        "doctor",
        &[
            "backup",
            "bucket",
            "clock",
            "database",
            "error",
            "event",
            "files",
            "local",
            "point",
            "prune",
            "records",
            "retention",
            "vault",
        ],
    ),
    (
        "changes",
        &[
            "bucket",
            "database",
            "error",
            "event",
            "files",
            "listing",
            "local",
            "point",
            "records",
            "vault",
            "verify::hash_local",
        ],
    ),
    (
        "lookup",
        &["bucket", "clock", "database", "error", "event", "listing", "local", "point", "records", "vault", "verify"],
    ),
    ("diff", &["bucket", "changes", "clock", "database", "error", "event", "local", "point", "records", "vault"]),
    (
        "rehearse",
        &["bucket", "changes", "clock", "database", "error", "event", "files", "local", "point", "records", "vault"],
    ),
];

/// Libraries that reach outside, and the only rooms that may name them.
const OUTSIDE: [(&str, &[&str]); 8] = [
    ("aws_sdk_s3", &["bucket"]),
    ("aws_smithy_http_client", &["bucket"]),
    ("cap_std", &["bucket"]),
    ("rusqlite", &["database", "records"]),
    ("rustls", &["database"]),
    ("tokio", &["backup", "bucket", "database", "local", "records", "vault"]),
    ("tokio::process", &["database"]),
    ("tokio_postgres", &["database"]),
];

/// What no file of the core does: the machine's clock, environment and terminal belong to the front room.
const NEVER: [&str; 11] = [
    "Timestamp::now",
    "Zoned::now",
    "SystemTime::now",
    "std::env",
    "env::var",
    "process::exit",
    "println!",
    "print!",
    "eprintln!",
    "eprint!",
    "dbg!",
];

/// The only files that turn a right to write into the right to remove.
const REMOVERS: [&str; 5] = [
    "crates/nexus-core/src/doctor/rights.rs",
    "crates/nexus-core/src/files/restore.rs",
    "crates/nexus-core/src/files/scratch.rs",
    "crates/nexus-core/src/files/versions.rs",
    "crates/nexus-core/src/vault/eraser.rs",
];

/// The only room that takes the right to remove from a vault.
const PRUNE: &str = "crates/nexus-core/src/prune";

/// The only files of the front room that write to the terminal.
const PRINTERS: [&str; 2] = ["crates/nexus/src/terminal.rs", "crates/nexus/src/terminal/"];

/// What writes to the terminal.
const PRINTING: [&str; 7] = ["println!", "print!", "eprintln!", "eprint!", "dbg!", "stdout()", "stderr()"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every source file below a folder, by its path from the repository's root, with its code.
fn sources(folder: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root().join(folder)];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name =
                    path.strip_prefix(root()).expect("below the root").to_str().expect("a plain name").to_owned();
                found.insert(name, code(&fs::read_to_string(&path).expect("a source file")));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} holds no sources");
    found
}

/// A source without its comments and the contents of its texts.
fn code(source: &str) -> String {
    let letters: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    let is = |at: usize, text: &str| text.chars().enumerate().all(|(n, letter)| letters.get(at + n) == Some(&letter));
    while at < letters.len() {
        if is(at, "//") {
            while at < letters.len() && letters[at] != '\n' {
                at += 1;
            }
        } else if is(at, "/*") {
            while at < letters.len() && !is(at, "*/") {
                at += 1;
            }
            at += 2;
        } else if letters[at] == 'r' && (is(at, "r\"") || is(at, "r#\"")) && !out.ends_with(is_word) {
            let end = if is(at, "r\"") { "\"" } else { "\"#" };
            at += if end.len() == 1 { 2 } else { 3 };
            while at < letters.len() && !is(at, end) {
                at += 1;
            }
            at += end.len();
            out.push_str("\"\"");
        } else if letters[at] == '"' {
            at += 1;
            while at < letters.len() && letters[at] != '"' {
                at += if letters[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
            out.push_str("\"\"");
        } else if is(at, "'\"'") || is(at, "'\\\"'") {
            // A quotation mark that begins no text.
            at += if is(at, "'\"'") { 3 } else { 4 };
        } else {
            out.push(letters[at]);
            at += 1;
        }
    }
    out
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The module path of a file of the core: `bucket/mod.rs` is `bucket`, `database/sqlite/open.rs` has three steps.
fn module(file: &str) -> Vec<&str> {
    let inner = file.strip_prefix("crates/nexus-core/src/").expect("a file of the core").trim_end_matches(".rs");
    inner.trim_end_matches("/mod").split('/').collect()
}

/// Everything that follows `start` in a use or a path: `crate::a::b` gives `a::b`, `crate::{a, b::c}` gives both.
fn paths_after(code: &str, start: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(start) {
        if code[..at].ends_with(|letter: char| is_word(letter) || letter == ':' || letter == '$') {
            continue;
        }
        let rest = code[at + start.len()..].trim_start();
        match rest.strip_prefix('{') {
            None => found.push(path(rest)),
            Some(group) => {
                let (mut depth, mut item) = (0_u32, String::new());
                for letter in group.chars() {
                    match letter {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => found.push(path(&std::mem::take(&mut item))),
                        _ => {}
                    }
                    if letter != ',' || depth > 0 {
                        item.push(letter);
                    }
                }
                found.push(path(&item));
            }
        }
    }
    found.retain(|path| !path.is_empty());
    found
}

/// The words of a path at a text's beginning, with `::` between them.
fn path(text: &str) -> String {
    let end =
        text.trim_start().find(|letter: char| !is_word(letter) && letter != ':').unwrap_or(text.trim_start().len());
    text.trim_start()[..end].trim_end_matches(':').to_owned()
}

/// The arrows that a file of the core draws to other rooms, as far as possible with the item they point to.
fn arrows(file: &str, code: &str) -> BTreeSet<String> {
    let module = module(file);
    let mut paths = paths_after(code, "crate::");
    // Enough steps up lead to the root as well.
    let up = "super::".repeat(module.len());
    paths.extend(paths_after(code, &up));
    let is_room = |path: &str| ARROWS.iter().any(|(room, _)| path.split("::").next() == Some(room));
    paths.into_iter().filter(|path| is_room(path) && path.split("::").next() != Some(module[0])).collect()
}

/// What is wrong with one file of the core, each as a sentence.
fn wrongs(file: &str, code: &str) -> Vec<String> {
    let room = module(file)[0];
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{file} lies in the room `{room}`, which the table does not have")];
    };
    let is_allowed = |path: &str| allowed.iter().any(|arrow| path == *arrow || path.starts_with(&format!("{arrow}::")));
    let mut wrongs: Vec<String> = arrows(file, code)
        .iter()
        .filter(|path| !is_allowed(path))
        .map(|path| format!("{file} names `{path}`"))
        .collect();
    for (library, rooms) in OUTSIDE {
        if !paths_after(code, &format!("{library}::")).is_empty() && !rooms.contains(&room) {
            wrongs.push(format!("{file} names `{library}`"));
        }
    }
    wrongs.extend(NEVER.iter().filter(|what| names(code, what)).map(|what| format!("{file} uses `{what}`")));
    if names(code, ".remover()") && !REMOVERS.contains(&file) {
        wrongs.push(format!("{file} takes the right to remove"));
    }
    if names(code, "Eraser::of(") && !file.starts_with(PRUNE) {
        wrongs.push(format!("{file} takes the right to remove from a vault"));
    }
    wrongs
}

/// True when a word or call stands there by itself: `print!` is not in `eprint!`.
fn names(code: &str, what: &str) -> bool {
    code.match_indices(what).any(|(at, _)| !what.starts_with(is_word) || !code[..at].ends_with(is_word))
}

#[test]
fn no_room_of_the_core_leaves_its_walls() {
    let core = sources("crates/nexus-core/src");
    let wrongs: Vec<String> = core
        .iter()
        .filter(|(file, _)| !file.ends_with("src/lib.rs"))
        .flat_map(|(file, code)| wrongs(file, code))
        .collect();
    assert!(wrongs.is_empty(), "the table of arrows does not allow this:\n{}", wrongs.join("\n"));
}

#[test]
fn every_arrow_of_the_table_is_used() {
    let mut drawn: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, code) in sources("crates/nexus-core/src") {
        drawn.entry(module(&file)[0].to_owned()).or_default().extend(arrows(&file, &code));
    }
    for (room, allowed) in ARROWS {
        let drawn = drawn.get(room).unwrap_or_else(|| panic!("the room `{room}` has no file"));
        for arrow in allowed {
            let used = drawn.iter().any(|path| path == arrow || path.starts_with(&format!("{arrow}::")));
            assert!(used, "`{room}` does not name `{arrow}` any more: take the arrow out of the table");
        }
    }
}

#[test]
fn no_arrows_lead_in_a_circle_but_between_point_and_listing() {
    let reaches = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut pending = vec![from];
        while let Some(room) = pending.pop() {
            let (_, allowed) = ARROWS.iter().find(|(name, _)| *name == room).expect("a room");
            for next in allowed.iter().map(|arrow| arrow.split("::").next().expect("a room")) {
                if seen.insert(next) {
                    pending.push(next);
                }
            }
        }
        seen
    };
    let circles: Vec<&str> = ARROWS.iter().map(|(room, _)| *room).filter(|room| reaches(room).contains(room)).collect();
    assert_eq!(circles, ["point", "listing"]);
}

#[test]
fn the_front_room_prints_in_one_place_and_never_removes() {
    for (file, code) in sources("crates/nexus/src") {
        if !PRINTERS.iter().any(|place| file.starts_with(place)) {
            let printed: Vec<_> = PRINTING.iter().filter(|what| names(&code, what)).collect();
            assert!(printed.is_empty(), "{file} prints by {printed:?}");
        }
        assert!(!names(&code, ".remover()"), "{file} takes the right to remove");
    }
}

#[test]
fn the_page_shows_the_same_table() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let (_, after) = page.split_once("<!-- arrows -->").expect("the table's beginning");
    let (table, _) = after.split_once("<!-- end of arrows -->").expect("the table's end");
    let shown: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
    let row = |(room, allowed): &(&str, &[&str])| {
        let names: Vec<String> = allowed.iter().map(|name| format!("`{name}`")).collect();
        format!("| `{room}` | {} |", if names.is_empty() { "nothing".to_owned() } else { names.join(", ") })
    };
    let rows: Vec<String> = ARROWS.iter().map(row).collect();
    assert_eq!(shown, rows, "ARCHITECTURE.md should hold:\n{}", rows.join("\n"));
}

#[test]
fn the_tests_that_the_page_names_are_there() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let (_, invariants) = page.split_once("\n## Invariants").expect("the invariants");
    let invariants = invariants.split("\n## ").next().expect("a section");
    let all: String = ["crates/nexus-core", "crates/nexus", "crates/nexus-sandbox", "crates/nexus-testkit"]
        .iter()
        .flat_map(|folder| sources(folder).into_values())
        .collect();
    let named: Vec<&str> =
        invariants.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() >= 3).collect();
    assert!(named.len() >= 12, "only {} tests are named", named.len());
    for name in named {
        assert!(all.contains(&format!("fn {name}(")), "there is no test `{name}`");
    }
}

#[test]
fn a_forbidden_arrow_is_seen_in_every_spelling() {
    let file = "crates/nexus-core/src/bucket/s3.rs";
    for source in [
        "use crate::vault::Vault;",
        "use crate::{error::Error, vault::{layout, Vault}};",
        "use crate::{\n    error::Error,\n    vault,\n};",
        "fn f() { crate::vault::layout::point(id) }",
        "use super::super::vault::layout;",
    ] {
        assert_eq!(wrongs(file, &code(source)).len(), 1, "{source}");
    }
    for (file, source) in [
        ("crates/nexus-core/src/verify.rs", "use super::backup::backup;"),
        ("crates/nexus-core/src/database/sqlite/open.rs", "use super::super::super::vault::Vault;"),
        ("crates/nexus-core/src/restore.rs", "use crate::backup::backup;"),
        ("crates/nexus-core/src/vault/mod.rs", "fn f() { aws_sdk_s3::Client::new(); }"),
        ("crates/nexus-core/src/verify.rs", "let now = jiff::Timestamp::now();"),
        ("crates/nexus-core/src/local.rs", "let folder = std::env::temp_dir();"),
        ("crates/nexus-core/src/local.rs", "eprintln!(\"x\");"),
        ("crates/nexus-core/src/backup.rs", "let remover = writer.remover();"),
        ("crates/nexus-core/src/backup.rs", "let eraser = Eraser::of(&vault);"),
        ("crates/nexus-core/src/query.rs", ""),
    ] {
        assert_eq!(wrongs(file, &code(source)).len(), 1, "{source} in {file}");
    }
}

#[test]
fn what_is_allowed_or_only_written_about_is_not_held_against_a_file() {
    let file = "crates/nexus-core/src/bucket/s3.rs";
    for source in [
        "use crate::error::{Error, Result};",
        "use super::pace::Limits;",
        "//! Unlike `crate::vault`, this never says println!.",
        "/* crate::vault::Vault */ let text = \"crate::vault::Vault, std::env::args()\";",
        "let text = r#\"crate::vault::Vault \"quoted\"\"#; let mark = '\"';",
        "file.set_modified(std::time::SystemTime::from(modified))?;",
    ] {
        assert_eq!(wrongs(file, &code(source)), Vec::<String>::new(), "{source}");
    }
    let file = "crates/nexus-core/src/restore.rs";
    assert_eq!(wrongs(file, &code("use crate::local::blocking;")), Vec::<String>::new());
}
