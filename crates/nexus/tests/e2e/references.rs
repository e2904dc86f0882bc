//! Rows and the files they name: a real site set up by `init --django` alone, and what is planted in it found.

use std::path::Path;

use nexus_sandbox::Versioning;
use nexus_testkit::bucket::put_folder;
use nexus_testkit::django::{DjangoSite, make_site};
use nexus_testkit::postgres::{Database, Server};
use nexus_testkit::services::{python, seaweedfs};
use nexus_testkit::tree;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::app::{App, sandbox};
use crate::postgres_backup;

/// The version that Debian brings.
const DEBIAN: u32 = 15;

/// Where the kit's site has its `manage.py`.
fn manage() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../nexus-testkit/python/site/manage.py").to_owned()
}

fn init(app: &App, manage: &str, more: &[&str]) -> crate::app::Ended {
    let _ = std::fs::remove_file(app.path("nexus.toml"));
    let python = python().display().to_string();
    let words = [&["init", "--django", manage, "--python", &python, "--vault", "vault"], more].concat();
    app.run(&words)
}

/// What a listing of references came to: kind, the row's key or none, the key of the file, the file that is like it.
fn findings(told: &Value) -> Vec<(String, String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |wrong: &Value| {
        let row = wrong.get("primary_key").map(|key| format!("{} {key}", text(&wrong["column"]))).unwrap_or_default();
        (text(&wrong["kind"]), row, text(&wrong["key"]), text(&wrong["like"]))
    };
    let mut all: Vec<_> = told["references"]["findings"].as_array().expect("a list").iter().map(one).collect();
    all.sort();
    all
}

/// Rows and files that do not fit, planted in a site whose keys begin with `prefix`; they are what is to be found.
struct Planted(Vec<(String, String, String, String)>);

impl Planted {
    fn in_site(site: &DjangoSite, prefix: &str) -> Self {
        let database = Connection::open(&site.database).expect("a database");
        let mut planted = Vec::new();
        let mut add = |kind: &str, row: String, key: &str, like: Option<&str>| {
            let like = like.map(|like| format!("{prefix}{like}")).unwrap_or_default();
            planted.push((kind.to_owned(), row, format!("{prefix}{key}"), like));
        };
        let row = |column: &str, id: i64| format!("{column} {{\"id\":{id}}}");
        let id_of = |key: &str| -> i64 {
            database.query_row("SELECT id FROM clinic_document WHERE file = ?", [key], |row| row.get(0)).expect("a row")
        };
        for key in &site.dangling {
            add("dangling", row("file", id_of(key)), key, None);
        }
        for key in &site.orphaned {
            add("orphaned", String::new(), key, None);
        }
        let named = |sql: &str| -> (i64, String) {
            database.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("a row")
        };
        let (id, key) = named("SELECT id, file FROM clinic_document WHERE file GLOB 'documents/*/report-*' LIMIT 1");
        let other = key.replace("report", "Report");
        database.execute("UPDATE clinic_document SET file = ? WHERE id = ?", (&other, id)).expect("an update");
        add("other-case", row("file", id), &other, Some(&key));
        let (id, key) = named("SELECT id, image FROM clinic_photo WHERE image GLOB 'photos/Befund-f*' LIMIT 1");
        let other = key.replace('ü', "u\u{308}");
        assert_ne!(other, key, "its name has no such letter");
        database.execute("UPDATE clinic_photo SET image = ? WHERE id = ?", (&other, id)).expect("an update");
        add("other-form", row("image", id), &other, Some(&key));
        let (id, key) = named("SELECT id, image FROM clinic_photo WHERE image GLOB 'photos/scan-*' LIMIT 1");
        database.execute("UPDATE clinic_photo SET image = 'photos/gone.jpg' WHERE id = ?", [id]).expect("an update");
        add("dangling", row("image", id), "photos/gone.jpg", None);
        add("orphaned", String::new(), &key, None);
        let (id, key) = named("SELECT id, file FROM clinic_document WHERE file GLOB 'documents/*/scan-*' LIMIT 1");
        let copy = "INSERT INTO clinic_document (title, file, bytes, patient_id) SELECT 'again', file, 0, patient_id FROM clinic_document WHERE id = ?";
        database.execute(copy, [id]).expect("a row");
        add("shared", row("file", id), &key, None);
        add("shared", row("file", database.last_insert_rowid()), &key, None);
        planted.sort();
        Self(planted)
    }

    fn number(&self, kind: &str) -> usize {
        self.0.iter().filter(|planted| planted.0 == kind).count()
    }
}

#[tokio::test]
async fn a_django_site_that_init_set_up_alone_has_its_planted_rows_and_files_found_and_no_others() {
    let mut app = App::bare(seaweedfs()).await;
    let site = make_site(&app.path("site"), 150);
    app.set("NEXUS_SITE", &site.folder.display().to_string());
    let planted = Planted::in_site(&site, "");
    let before = tree::digest(Path::new(&manage()).parent().expect("a folder"));
    let told = init(&app, &manage(), &["--json"]).ends_with(0).json();
    assert_eq!((&told["uncovered"], &told["unchecked"]), (&json!([]), &json!([])));
    assert_eq!(before, tree::digest(Path::new(&manage()).parent().expect("a folder")), "init has written to the site");
    let config = std::fs::read_to_string(app.path("nexus.toml")).expect("it was written");
    let tables = config.split("[records.tables]").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a table");
    let names: Vec<&str> = tables.lines().skip(1).collect();
    assert_eq!(
        names,
        [
            "documents = \"clinic_document\"",
            "patients = \"clinic_patient\"",
            "photos = \"clinic_photo\"",
            "tags = \"clinic_tag\""
        ]
    );

    let made = app.run(&["backup", "--json"]).ends_with(0).says("nexus verify").json();
    let references = &made["manifest"]["references"];
    let sum = |name: &str| {
        let columns = references["columns"].as_array().expect("columns").iter();
        columns.map(|column| column["counts"][name].as_u64().expect("a number")).sum::<u64>()
    };
    for (kind, name) in
        [("dangling", "dangling"), ("other-case", "other_case"), ("other-form", "other_form"), ("shared", "shared")]
    {
        assert_eq!(sum(name), planted.number(kind) as u64, "{kind}: {references}");
    }
    assert_eq!(references["orphaned"]["files"], planted.number("orphaned"));
    assert!(app.path("vault").join(made["point"].as_str().expect("an id")).join("records/patients.json").exists());

    let listed = app.run(&["verify", "--references", "--json"]).ends_with(0).json();
    assert_eq!(findings(&listed), planted.0);
    assert_eq!(listed["verdict"], "verified");
    let lines = app.run(&["verify", "--references"]).ends_with(0).out;
    for (kind, _, key, _) in &planted.0 {
        assert!(
            lines.lines().any(|line| line.starts_with(kind.as_str()) && line.contains(key.as_str())),
            "{key}: {lines}"
        );
    }
    app.run(&["verify", "--references", "--strict"]).ends_with(1);
    app.run(&["backup", "--strict=dangling"]).ends_with(1);
    let config = std::fs::read_to_string(app.path("nexus.toml")).expect("it was written");
    app.write("nexus.toml", &config.replace("column = \"file\"", "column = \"title\""));
    let other = app.run(&["verify", "--references"]).ends_with(0).says("the point was made with others").out;
    assert!(other.contains("clinic_document.title"), "{other}");
    // A column that came after the point: its own references are what it can be held against.
    app.write("nexus.toml", &config.replace("column = \"file\"", "column = \"renamed\""));
    let own = app.run(&["verify", "--references", "--json"]).ends_with(0);
    let own = own.says("the references that the point was made with").says("no column `renamed`");
    assert_eq!(findings(&own.json()), planted.0);
    // The vault alone knows the references.
    std::fs::remove_file(app.path("nexus.toml")).expect("it was there");
    let alone = app.run(&["verify", "--references", "--json", "--vault", "vault"]).ends_with(0).json();
    assert_eq!(findings(&alone), planted.0);
    let shown = app.run(&["show", "--vault", "vault"]).ends_with(0).out;
    assert!(shown.contains("clinic_photo.image") && shown.contains("that no row names"), "{shown}");
    let left: Vec<_> = tree::digest(&app.path("tmp")).into_keys().collect();
    assert!(left.is_empty(), "left among the temporary files: {left:?}");
}

#[tokio::test]
async fn a_django_site_with_its_files_in_a_bucket_is_set_up_with_its_place_and_prefix() {
    let (_service, endpoint) = sandbox();
    let mut app = App::bare(endpoint).await;
    let site = make_site(&app.path("site"), 100);
    let planted = Planted::in_site(&site, "media/");
    put_folder(&app.client, &app.bucket, "media/", &site.media).await;
    app.put("elsewhere/stray", b"outside of the storage").await;
    let (bucket, url) = (app.bucket.clone(), app.endpoint.url.clone());
    app.set("NEXUS_SITE", &site.folder.display().to_string());
    app.set("NEXUS_SITE_BUCKET", &bucket);
    app.set("NEXUS_SITE_ENDPOINT", &url);
    app.set("DJANGO_SETTINGS_MODULE", "settings_bucket");
    app.unset("AWS_ENDPOINT_URL_S3");
    let folder = Path::new(&manage()).parent().expect("a folder").display().to_string();
    let told = init(&app, &folder, &["--app", "clinic", "--json"]).ends_with(0);
    assert!(!told.out.contains("secret key") && !told.err.contains("secret key"));
    let config = std::fs::read_to_string(app.path("nexus.toml")).expect("it was written");
    for line in
        [format!("source = \"s3://{bucket}/media\""), format!("endpoint = \"{url}\""), "prefix = \"media/\"".to_owned()]
    {
        assert!(config.lines().any(|known| known == line), "{line}: {config}");
    }
    app.run(&["backup", "--only", "database,records"]).ends_with(0).says("not checked: the point has no files");
    app.run(&["verify", "--references"]).ends_with(2).says("has no files");
    let (partial, _) = app.points().remove(0);
    app.run(&["verify", &partial, "--references"])
        .ends_with(0)
        .says("references were not checked: the point has no files");
    app.run(&["verify", &partial, "--references", "--strict"]).ends_with(1);
    let nothing = app.run(&["verify", &partial, "--references", "--json"]).ends_with(0).json();
    assert_eq!(nothing["references"].get("findings"), Some(&Value::Null), "{nothing}");
    app.run(&["backup"]).ends_with(0);
    let listed = app.run(&["verify", "--references", "--json"]).ends_with(0).json();
    assert_eq!(findings(&listed), planted.0);
}

#[tokio::test]
async fn a_django_site_on_postgresql_is_set_up_without_its_password() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    let (_service, endpoint) = sandbox();
    let mut app = App::bare(endpoint).await;
    let password = std::env::var("NEXUS_TEST_POSTGRES_PASSWORD").expect("./test names it");
    let site = app.path("site").display().to_string();
    for (name, value) in [
        ("NEXUS_SITE", site.as_str()),
        ("DJANGO_SETTINGS_MODULE", "settings_postgres"),
        ("NEXUS_SITE_DATABASE", &database.name),
        ("NEXUS_SITE_PORT", &server.port.to_string()),
        ("NEXUS_SITE_USER", server.superuser()),
        ("NEXUS_SITE_PASSWORD", &password),
    ] {
        app.set(name, value);
    }
    let mut script_run = app.tool(&python());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../nexus-testkit/python/django_site.py");
    script_run.args(["-B", script, "make", &site, "60"]);
    let made = crate::app::Ended::of(nexus_testkit::kill::run(script_run, crate::app::LIMIT)).ends_with(0).json();

    let told = init(&app, &manage(), &[]).ends_with(0).says("PGPASSWORD");
    let config = std::fs::read_to_string(app.path("nexus.toml")).expect("it was written");
    let (user, port, name) = (server.superuser(), server.port, &database.name);
    assert!(config.contains(&format!("url = \"postgres://{user}@127.0.0.1:{port}/{name}\"")), "{config}");
    assert!(
        config.contains("photos = \"clinic_photo\"") && !config.contains(&password) && !told.err.contains(&password)
    );
    app.set("PGPASSWORD", &password);
    app.run(&["backup"]).ends_with(0);
    let listed = app.run(&["verify", "--references", "--json"]).ends_with(0).json();
    let mut found: Vec<(String, String)> = findings(&listed).into_iter().map(|(kind, _, key, _)| (kind, key)).collect();
    found.sort();
    let keys = |kind: &str| -> Vec<(String, String)> {
        let keys = made[kind].as_array().expect("a list").iter();
        keys.map(|key| (kind.to_owned(), key.as_str().expect("a key").to_owned())).collect()
    };
    let mut planted = [keys("dangling"), keys("orphaned")].concat();
    planted.sort();
    assert_eq!(found, planted);
}

/// A project written down here: two databases, a router, and fields in three storages.
fn several(app: &App) -> String {
    let write = |name: &str, text: &str| {
        let path = app.path("shop").join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("room on the disk");
        std::fs::write(path, text).expect("room on the disk");
    };
    write(
        "manage.py",
        "import os, sys\nos.environ['DJANGO_SETTINGS_MODULE'] = 'settings'\n\
         from django.core.management import execute_from_command_line\nexecute_from_command_line(sys.argv)\n",
    );
    write(
        "settings.py",
        "from pathlib import Path\nHERE = Path(__file__).parent\nSECRET_KEY = 'x'\nINSTALLED_APPS = ['sales']\n\
         DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'\nMEDIA_ROOT = HERE / 'media'\n\
         DATABASE_ROUTERS = ['sales.models.Router']\n\
         DATABASES = {\n 'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'shop.sqlite3'},\n\
          'archive': {'ENGINE': 'django.db.backends.postgresql', 'NAME': 'old', 'HOST': 'db.example', 'USER': 'shop', 'PASSWORD': 'geheim'},\n}\n\
         S = 'django.core.files.storage.FileSystemStorage'\n\
         STORAGES = {'default': {'BACKEND': S}, 'private': {'BACKEND': S, 'OPTIONS': {'location': HERE / 'media/private'}},\n\
          'vault': {'BACKEND': S, 'OPTIONS': {'location': '/srv/elsewhere'}}, 'spare': {'BACKEND': S, 'OPTIONS': {'location': '/srv/spare'}}, 'cloud': {'BACKEND': 'sales.cloud.CloudStorage'},\n\
          'broken': {'BACKEND': 'sales.none.NoStorage'}}\n",
    );
    write("sales/__init__.py", "");
    write(
        "sales/cloud.py",
        "from django.core.files.storage import Storage\n\nclass CloudStorage(Storage):\n    bucket_name = 'no bucket of S3'\n    location = ''\n",
    );
    write(
        "sales/models.py",
        "from django.core.files.storage import storages\nfrom django.db import models\n\n\
         def private():\n    return storages['private']\n\ndef far():\n    return storages['vault']\n\n\
         class Router:\n    def db_for_write(self, model, **hints):\n        return 'archive' if model.__name__ == 'OldBill' else None\n\n\
         class Delivery(models.Model):\n    note = models.FileField(upload_to='notes/%Y')\n    proof = models.ImageField(upload_to=lambda one, name: name, storage=private, db_column='proof_key')\n    scan = models.FileField(storage=far)\n\n\
         class OldBill(models.Model):\n    paper = models.FileField()\n\n\
         class Seen(models.Model):\n    picture = models.FileField()\n    class Meta:\n        managed = False\n        db_table = 'a_view'\n",
    );
    app.path("shop").display().to_string()
}

#[tokio::test]
async fn what_one_configuration_does_not_cover_is_named_and_never_the_first_taken() {
    let (_service, endpoint) = sandbox();
    let app = App::bare(endpoint).await;
    let shop = several(&app);
    init(&app, &shop, &[]).refuses(2, "several databases").says("--django-database default").says("`archive`");
    assert!(!app.path("nexus.toml").exists());
    init(&app, &shop, &["--django-database", "defalt"]).refuses(2, "\"defalt\"").says("`default`");
    let told = init(&app, &shop, &["--django-database", "default"]).ends_with(0);
    let config = std::fs::read_to_string(app.path("nexus.toml")).expect("it was written");
    for named in [
        "the database `archive` (postgresql, old on db.example), with the models OldBill",
        "FileField Delivery.scan: its files are in another place (/srv/elsewhere)",
        "FileField OldBill.paper: its rows are in the database `archive`; its files will be counted as orphaned",
        "the storage `spare` (/srv/spare), which no file field uses",
        "the storage `cloud` (sales.cloud.CloudStorage), which no file field uses",
        "the storage `broken` (unknown: InvalidStorageError), which no file field uses",
    ] {
        assert!(told.err.contains(&format!("not covered by this configuration: {named}")), "{named}: {}", told.err);
        assert!(config.contains(&format!("#   - {named}")), "{named}: {config}");
    }
    let unchecked = "FileField Seen.picture: Django does not make its table (managed = False); its files will be counted as orphaned";
    let told = told.says(&format!("backed up and not checked: {unchecked}"));
    let beside = "FileField Delivery.note, upload_to \"notes/%Y\"; files of FileField Seen.picture, FileField OldBill.paper lie there too";
    assert!(config.contains(&format!("#   - {unchecked}")) && config.contains(beside), "{config}");
    assert!(!config.contains("geheim") && !told.err.contains("geheim"));
    let read: toml::Table = config.parse().expect("TOML");
    assert_eq!(read["app"].as_str(), Some("shop"));
    assert_eq!(read["database"]["url"].as_str(), Some(format!("sqlite:///{shop}/shop.sqlite3").as_str()));
    assert_eq!(read["files"]["source"].as_str(), Some(format!("{shop}/media").as_str()));
    let references: Vec<(&str, &str, Option<&str>)> = read["references"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| {
            let text = |name: &str| one.get(name).and_then(toml::Value::as_str);
            (text("table").unwrap_or_default(), text("column").unwrap_or_default(), text("prefix"))
        })
        .collect();
    assert_eq!(references, [("deliveries", "note", None), ("deliveries", "proof_key", Some("private/"))]);
    let archive = init(&app, &shop, &["--django-database", "archive", "--dry-run"]).ends_with(0);
    assert!(archive.out.contains("url = \"postgres://shop@db.example/old\""), "{}", archive.out);
    assert!(archive.err.contains("the database `default`"), "{}", archive.err);
}

#[tokio::test]
async fn a_site_without_a_media_root_does_not_have_its_own_folder_taken_as_the_files_and_an_empty_database_is_none() {
    let (_service, endpoint) = sandbox();
    let app = App::bare(endpoint).await;
    let shop = several(&app);
    let settings = app.path("shop").join("settings.py");
    let text = std::fs::read_to_string(&settings).expect("it was written");
    let text = text.replace("MEDIA_ROOT = HERE / 'media'\n", "") + "DATABASES['archive'] = {}\nDATABASE_ROUTERS = []\n";
    std::fs::write(&settings, text).expect("room on the disk");
    init(&app, &shop, &[]).ends_with(0).says("FileField Delivery.note").says("MEDIA_ROOT is empty");
    let config = std::fs::read_to_string(app.path("nexus.toml")).expect("it was written");
    let read: toml::Table = config.parse().expect("TOML");
    assert_ne!(read["files"].get("source").and_then(toml::Value::as_str), Some(shop.as_str()), "{config}");
    assert!(!config.contains("archive"), "{config}");
}

#[tokio::test]
async fn a_site_that_cannot_be_asked_is_told_with_its_own_last_words() {
    let (_service, endpoint) = sandbox();
    let mut app = App::bare(endpoint).await;
    // Its settings need a variable that is not there.
    let told = init(&app, &manage(), &[]).refuses(2, "cannot ask the Django site");
    let told = told.says("KeyError: 'NEXUS_SITE'").says("manage.py check");
    assert!(!told.err.contains("environ["), "a line of source is told: {}", told.err);
    app.set("NEXUS_SITE", "x");
    app.set("DJANGO_SETTINGS_MODULE", "no_such_settings");
    init(&app, &manage(), &[]).refuses(2, "no_such_settings");
    init(&app, "nowhere", &[]).refuses(2, "manage.py");
    let words = ["init", "--django", &manage(), "--python", "no-such-python"];
    app.run(&words).refuses(2, "no-such-python");
    app.run(&["init", "--python", "python3"]).ends_with(2).says("--django");
    assert!(!app.path("nexus.toml").exists());
}

#[tokio::test]
async fn a_reference_in_postgresql_is_checked_and_a_vanished_column_is_refused_before_anything_is_claimed() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql(
        "create schema scans; create table scans.page (ward text, number int, file text, primary key (ward, number));
         insert into scans.page values ('a', 1, 'images/a.jpg'), ('b', 2, 'images/A.jpg'), ('c', 3, E'lost\\n\"x\"'), ('d', 4, ''), ('e', 5, null)",
    );
    let references = "[records.tables]\npages = \"scans.page\"\n[[references]]\ntable = \"pages\"\ncolumn = \"file\"\n";
    let (_service, app) = postgres_backup::app(&database.url(), references).await;
    let config = std::fs::read_to_string(app.path("nexus.toml")).expect("it was written");
    let config = format!("{config}[files]\nsource = \"s3://{}\"\n", app.bucket);
    app.write("nexus.toml", &config);
    app.put("images/a.jpg", b"a picture").await;
    app.put("images/orphan.jpg", b"another").await;
    app.back_up(&[]);
    let listed = app.run(&["verify", "--references", "--json"]).ends_with(0).json();
    let found = findings(&listed);
    let row = |ward: &str, number: u8| format!("file {{\"number\":{number},\"ward\":\"{ward}\"}}");
    let one = |kind: &str, row: String, key: &str, like: &str| (kind.to_owned(), row, key.to_owned(), like.to_owned());
    assert_eq!(
        found,
        [
            one("dangling", row("c", 3), "lost\n\"x\"", ""),
            one("orphaned", String::new(), "images/orphan.jpg", ""),
            one("other-case", row("b", 2), "images/A.jpg", "images/a.jpg"),
        ]
    );
    database.sql("alter table scans.page rename column file to file_key");
    let before = app.vault().await;
    app.run(&["backup"]).refuses(2, "no column `file`").says("file_key");
    database.sql("drop table scans.page; create table scans.pages (id int)");
    app.write("nexus.toml", &config.replace("[records.tables]\npages = \"scans.page\"\n", ""));
    app.run(&["backup"]).refuses(2, "the table `pages`").says("scans.pages");
    assert_eq!(app.vault().await.into_keys().collect::<Vec<_>>(), before.into_keys().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_point_of_versions_and_a_damaged_one_say_what_they_can() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    service.store().set_versioning(&app.bucket, Versioning::Enabled).expect("a bucket");
    app.configure("[[references]]\ntable = \"visit\"\ncolumn = \"note\"\nprefix = \"images/\"\n");
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a config");
    app.write("nexus.toml", &text.replace("exclude =", "copies = \"versions\"\nexclude ="));
    // Written again, so that they are versions, and before the uncertain seconds at the instant.
    for key in app.files().await.into_keys() {
        app.put(&key, b"as a version").await;
    }
    std::thread::sleep(std::time::Duration::from_millis(3_200));
    let id = app.back_up(&[]);
    let listed = app.run(&["verify", "--references", "--json"]).ends_with(0).json();
    let kinds: Vec<String> = findings(&listed).into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds, ["dangling", "dangling", "orphaned", "orphaned"]);
    app.put(&format!("backup/{id}/records/visit.json"), b"[\n]\n").await;
    std::fs::remove_dir_all(app.path("backups")).expect("they were kept here too");
    let ended = app.run(&["verify", "--references"]).ends_with(1);
    assert!(ended.err.contains("references could not be checked"), "{}", ended.err);
}
