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
    let heading = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
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
