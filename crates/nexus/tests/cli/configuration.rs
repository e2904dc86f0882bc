use crate::Place;

/// A folder app whose settings `backup --dry-run` shows.
fn app(config: &str) -> Place {
    let place = Place::new();
    place.write("nexus.toml", config);
    place.write("media/a.jpg", "x");
    for name in ["file.db", "flag.db", "variable.db", "other.db"] {
        let connection = rusqlite::Connection::open(place.path().join(name)).expect("a database");
        connection
            .execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);")
            .expect("a table");
    }
    place
}

const CONFIG: &str =
    "app = \"a\"\n[database]\nurl = \"file.db\"\n[files]\nsource = \"media\"\n[vault]\nurl = \"vault\"\n";

#[test]
fn a_typo_is_named_with_its_line_and_what_was_meant() {
    let place = Place::new();
    place.write("nexus.toml", "app = \"a\"\n\n[files]\nsorce = \"media\"\n");
    let ended = place.run(&["list"]).ends_with(2);
    ended.says("unknown key `sorce` at line 4 of").says("did you mean `source`?");
    let told = place.run(&["list", "--json"]).ends_with(2).json();
    assert_eq!(told["error"]["exit_status"], 2);
}

#[test]
fn a_reference_that_lacks_a_key_or_has_one_too_many_is_named() {
    let place = Place::new();
    place.write("nexus.toml", "[[references]]\ntable = \"t\"\ncolumn = \"c\"\nprefx = \"m/\"\n");
    place.run(&["list"]).ends_with(2).says("unknown key `prefx` at line 4 of").says("did you mean `prefix`?");
    place.write("nexus.toml", "[[references]]\ntable = \"t\"\n");
    place.run(&["list"]).ends_with(2).says("number 1 names no column");
    place.write("nexus.toml", "[[references]]\ntable = \"t\"\ncolumn = \"c\"\n[[references]]\ncolumns = [\"c\"]\n");
    place.run(&["list"]).ends_with(2).says("number 2 names no table");
    let base = "base = \"https://me:geheim@cdn/\"\n";
    place.write("nexus.toml", &format!("[[references]]\ntable = \"t\"\ncolumn = \"c\"\n{base}"));
    let refused = place.run(&["list"]).ends_with(2);
    refused.says("holds a password");
    assert!(!refused.err.contains("geheim"));
}

#[test]
fn strict_is_refused_where_there_is_nothing_to_check() {
    let place = app(CONFIG);
    place.run(&["backup", "--strict"]).ends_with(2).says("no references are named");
    place.write("nexus.toml", &format!("{CONFIG}[[references]]\ntable = \"t\"\ncolumn = \"id\"\n"));
    place.run(&["backup", "--strict", "--only", "database,files"]).ends_with(2).says("the point would have no records");
    place.run(&["backup", "--strict=danglin"]).ends_with(2).says("dangling");
    place.run(&["verify", "--strict"]).ends_with(2).says("--references");
    assert!(!place.path().join("vault").exists());
}

#[test]
fn a_configuration_that_was_named_must_be_there() {
    Place::new().run(&["list", "--config", "none.toml"]).ends_with(2).says("none.toml");
}

#[test]
fn a_run_without_a_vault_says_how_to_name_one() {
    Place::new().run(&["list"]).ends_with(2).says("--vault");
}

#[test]
fn flags_win_over_variables_over_the_file_over_the_environment() {
    let mut place = app(CONFIG);
    let database = |place: &Place, words: &[&str]| {
        let words: Vec<_> = ["backup", "--dry-run", "--json"].iter().chain(words).copied().collect();
        let told = place.run(&words).ends_with(0).json();
        (told["database"]["value"].clone(), told["database"]["from"].clone())
    };
    place.set("DATABASE_URL", "other.db");
    assert_eq!(database(&place, &[]).0, "file.db");
    place.set("NEXUS_DATABASE", "variable.db");
    assert_eq!(database(&place, &[]), ("variable.db".into(), "NEXUS_DATABASE".into()));
    assert_eq!(database(&place, &["--database", "flag.db"]), ("flag.db".into(), "--database".into()));
    place.write("nexus.toml", "app = \"a\"\n[vault]\nurl = \"vault\"\n");
    place.variables.retain(|(name, _)| name != "NEXUS_DATABASE");
    assert_eq!(database(&place, &[]), ("other.db".into(), "DATABASE_URL".into()));
}

#[test]
fn a_dry_run_writes_nothing() {
    let place = app(CONFIG);
    place.run(&["backup", "--dry-run"]).ends_with(0);
    assert!(!place.path().join("vault").exists());
}

#[test]
fn a_database_that_is_broken_or_not_there_is_a_bad_answer_of_a_dry_run() {
    let place = app(CONFIG);
    place.write("broken.db", "this is no database, however long it goes on");
    place.run(&["backup", "--dry-run", "--database", "broken.db"]).ends_with(1);
    place.run(&["backup", "--dry-run", "--database", "none.db"]).ends_with(1);
}

#[test]
fn a_vault_that_is_the_source_is_refused() {
    let place = app(CONFIG);
    place.run(&["backup", "--dry-run", "--vault", "media"]).ends_with(2).says("lies in the vault");
    let told = place.run(&["backup", "--dry-run", "--vault", "media/backup"]).ends_with(0);
    assert!(told.out.contains("backup/** (the vault)"), "{}", told.out);
}

#[test]
fn a_part_that_nothing_names_is_refused() {
    let place = Place::new();
    place.write("nexus.toml", "app = \"a\"\n[vault]\nurl = \"vault\"\n");
    place.run(&["backup"]).ends_with(2).says("nothing to back up is named");
    place.run(&["backup", "--only", "files"]).ends_with(2).says("--files");
}

#[test]
fn missing_credentials_are_said_at_once() {
    let place = Place::new();
    let ended = place.run(&["list", "--vault", "s3://clinic-backup/a", "--region", "eu-central-1"]).ends_with(2);
    ended.says("no AWS credentials were found").says("aws configure");
    place.run(&["list", "--vault", "s3://clinic-backup/a"]).ends_with(2).says("--region");
}

#[test]
fn init_writes_a_file_that_works_and_never_over_another() {
    let mut place = app("");
    std::fs::remove_file(place.path().join("nexus.toml")).expect("it was there");
    place.set("DATABASE_URL", "file.db");
    let shown = place.run(&["init", "--dry-run", "--files", "media", "--vault", "vault"]).ends_with(0).out;
    assert!(!place.path().join("nexus.toml").exists());
    place.run(&["init", "--files", "media", "--vault", "vault", "--app", "clinic"]).ends_with(0);
    place.variables.retain(|(name, _)| name != "DATABASE_URL");
    let told = place.run(&["backup", "--dry-run", "--json"]).ends_with(0).json();
    assert_eq!(told["app"]["value"], "clinic");
    assert_eq!(told["parts"], serde_json::json!(["database", "files", "records"]));
    place.run(&["init"]).ends_with(2).says("is there already");
    assert!(shown.contains("[vault]"));
}

#[test]
fn init_writes_no_password_down() {
    let mut place = Place::new();
    place.set("DATABASE_URL", "postgres://clinic:geheim@db/clinic");
    let told = place.run(&["init", "--dry-run"]).ends_with(0);
    assert!(!told.out.contains("geheim") && !told.err.contains("geheim"));
}

/// Columns of 100 rows: `full` and `most` name files, `few` in 94 of them, the others hold no keys or too few of them.
fn looked_at() -> Place {
    let place = Place::new();
    for number in 0..100 {
        place.write(&format!("media/docs/{number}.pdf"), "x");
    }
    let connection = rusqlite::Connection::open(place.path().join("db.sqlite3")).expect("a database");
    connection
        .execute_batch(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, full TEXT, most TEXT, few TEXT, title TEXT, size INTEGER, sparse TEXT);
             WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99)
             INSERT INTO item SELECT i, 'docs/' || i || '.pdf',
               CASE WHEN i < 20 THEN NULL WHEN i < 40 THEN '' WHEN i < 43 THEN 'lost' ELSE 'docs/' || i || '.pdf' END,
               CASE WHEN i < 6 THEN 'lost ' || i ELSE 'docs/' || i || '.pdf' END,
               'title ' || i, i, CASE WHEN i < 19 THEN 'docs/' || i || '.pdf' END FROM n;
             CREATE TABLE small (file TEXT);
             INSERT INTO small SELECT full FROM item LIMIT 19;",
        )
        .expect("tables");
    place
}

#[test]
fn init_that_looks_suggests_columns_whose_values_are_keys_and_switches_none_on() {
    let mut place = looked_at();
    // What the command line names stands over it.
    place.set("NEXUS_DATABASE", "none.sqlite3");
    let words = ["init", "--look", "--database", "db.sqlite3", "--files", "media", "--vault", "vault", "--app", "a"];
    let told = place.run(&words).ends_with(0);
    told.says("item.full, item.most");
    let config = std::fs::read_to_string(place.path().join("nexus.toml")).expect("it was written");
    let lines: Vec<&str> = config.lines().collect();
    let suggested = |column: &str| lines.contains(&format!("# column = \"{column}\"").as_str());
    assert!(suggested("full") && suggested("most"), "{config}");
    assert!(!["few", "title", "size", "sparse", "file", "id"].into_iter().any(suggested), "{config}");
    assert!(
        config.contains("# 100 of 100 values are keys of files") && config.contains("# 57 of 60 values are keys"),
        "{config}"
    );
    let read: toml::Table = config.parse().expect("TOML");
    assert!(!read.contains_key("references"), "{config}");
    place.variables.retain(|(name, _)| name != "NEXUS_DATABASE");
    // With its marks taken away it is a reference that holds.
    let (before, after) = config.split_once("# 100 of 100 values are keys of files\n").expect("the suggestion");
    let lines = after.lines().enumerate();
    let on: Vec<&str> = lines.map(|(at, line)| if at < 3 { line.trim_start_matches("# ") } else { line }).collect();
    place.write("nexus.toml", &format!("{before}{}", on.join("\n")));
    place.run(&["backup", "--strict=dangling,other-case,other-form,orphaned"]).ends_with(0);
}

#[test]
fn references_are_shown_by_a_dry_run_and_a_django_site_that_lies_here_is_pointed_to() {
    let place = app(&format!("{CONFIG}[[references]]\ntable = \"t\"\ncolumn = \"id\"\nprefix = \"m/\"\n"));
    let shown = place.run(&["backup", "--dry-run"]).ends_with(0).out;
    assert!(shown.contains("t.id names files, below m/"), "{shown}");
    let told = place.run(&["backup", "--dry-run", "--json"]).ends_with(0).json();
    assert_eq!(told["references"], serde_json::json!([{"table": "t", "column": "id", "prefix": "m/"}]));
    place.run(&["backup"]).ends_with(0).says("1 row names a file that is not there");
    place.write("manage.py", "");
    place.run(&["init", "--dry-run"]).ends_with(0).says("nexus init --django manage.py");
}

#[test]
fn init_that_cannot_look_writes_nothing() {
    let place = looked_at();
    place.run(&["init", "--look", "--database", "db.sqlite3"]).ends_with(2).says("--look needs");
    place.run(&["init", "--look", "--database", "db.sqlite3", "--files", "nowhere"]).ends_with(2).says("nowhere");
    place.run(&["init", "--look", "--database", "none.sqlite3", "--files", "media"]).ends_with(2).says("none.sqlite3");
    place.write("here.toml", "");
    let words = ["init", "--look", "--output", "here.toml", "--database", "none.sqlite3", "--files", "media"];
    place.run(&words).ends_with(2).says("is there already");
    assert!(!place.path().join("nexus.toml").exists());
}
