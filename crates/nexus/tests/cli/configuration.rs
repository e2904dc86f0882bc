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
