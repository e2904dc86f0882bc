//! docs/config.md against the keys that the program takes, both directions.

use std::collections::BTreeSet;

use crate::Place;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.md");

/// The tables of the page with the keys of their rows; the top has the empty name.
fn documented() -> Vec<(String, BTreeSet<String>)> {
    let page = std::fs::read_to_string(PAGE).expect("the page");
    let mut tables: Vec<(String, BTreeSet<String>)> = Vec::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            tables.push((
                heading.trim_matches(|letter| "`[]".contains(letter)).replace("At the top", ""),
                BTreeSet::new(),
            ));
        } else if let (Some(key), Some((_, keys))) = (line.strip_prefix("| `"), tables.last_mut()) {
            keys.insert(key.split('`').next().expect("a first piece").to_owned());
        }
    }
    tables
}

/// The keys that the program takes in a table, as it lists them when it meets an unknown one.
fn taken(table: &str) -> BTreeSet<String> {
    let place = Place::new();
    let heading = match table {
        "" => String::new(),
        "references" => "[[references]]\n".to_owned(),
        table => format!("[{table}]\n"),
    };
    place.write("nexus.toml", &format!("{heading}zzzzzzzz = 1\n"));
    let ended = place.run(&["list"]).ends_with(2);
    let list = ended.err.split("known here: ").nth(1).expect("a list of keys");
    list.trim().split(", ").map(str::to_owned).collect()
}

#[test]
fn every_key_is_on_the_page_and_every_key_of_the_page_is_taken() {
    let documented = documented();
    let free = ["files.categories", "records.tables", "rehearse.environment", "contacts"];
    let top: BTreeSet<String> = taken("");
    let mut on_page: BTreeSet<String> = BTreeSet::new();
    for (table, keys) in &documented {
        if table.is_empty() {
            on_page.extend(keys.iter().cloned());
        } else if table == "contacts" {
            on_page.insert(table.clone());
        } else if !free.contains(&table.as_str()) {
            if !table.contains('.') {
                on_page.insert(table.clone());
            }
            assert_eq!(keys, &taken(table), "[{table}]");
        }
    }
    assert_eq!(on_page, top);
}

/// All string literals of the sources that people are told of, in one text; a line that a string goes on in is put to it.
fn sources() -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let mut pending = vec![format!("{root}/crates/nexus/src").into(), format!("{root}/crates/nexus-core/src").into()];
    let mut all = String::new();
    while let Some(folder) = pending.pop() {
        let folder: std::path::PathBuf = folder;
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                all.push_str(&std::fs::read_to_string(&path).expect("a source"));
            }
        }
    }
    let mut joined = String::new();
    for line in all.lines() {
        let (text, ended) = line.strip_suffix('\\').map_or((line, true), |text| (text, false));
        joined.push_str(if joined.ends_with(' ') { text.trim_start() } else { text });
        if ended {
            joined.push('\n');
        }
    }
    joined
}

#[test]
fn what_the_troubleshooting_page_quotes_is_what_is_said() {
    let page = std::fs::read_to_string(PAGE.replace("config.md", "troubleshooting.md")).expect("the page");
    let sources = sources();
    let mut quoted = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| you see")) {
        let said = row.split(" | ").nth(1).expect("a second column");
        for words in said.split('`').skip(1).step_by(2) {
            assert!(sources.contains(words), "nothing says {words:?}: {row}");
            quoted += 1;
        }
    }
    assert!(quoted > 30, "only {quoted} are quoted");
}
