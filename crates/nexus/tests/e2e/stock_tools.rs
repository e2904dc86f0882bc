//! Every byte comes back without the tool: aws, zstd, jq, sqlite3 and the script that lies in the vault.

use std::collections::BTreeMap;
use std::path::Path;

use nexus_testkit::bucket::{all_objects, delete_all, make_bucket};
use nexus_testkit::services::{Endpoint, ministack, seaweedfs, unique_bucket};
use nexus_testkit::{digest, tree};
use serde_json::Value;

use crate::app::{App, sandbox};

#[tokio::test]
async fn an_incremental_point_comes_back_with_stock_tools_alone_on_seaweedfs() {
    stock_tools_alone(seaweedfs(), &[]).await;
}

#[tokio::test]
async fn an_incremental_point_comes_back_with_stock_tools_alone_on_ministack() {
    stock_tools_alone(ministack(), &["line\nbreak\n", "a$(touch pwned)`touch pwned`'\"; *", "tab\tand ?versionId=1"])
        .await;
}

/// A third, incremental point, the vault in a bucket of its own, so that the application's can be emptied.
async fn stock_tools_alone(endpoint: Endpoint, odd: &[&str]) {
    let app = App::clinic(endpoint).await;
    let vault = vault_elsewhere(&app).await;
    let longest = format!("documents/{}", "k".repeat(1_014));
    app.back_up(&["--label", "reimport"]);
    app.put("images/a.jpg", b"changed since").await;
    for key in odd {
        app.put(key, key.as_bytes()).await;
    }
    app.sql("INSERT INTO visit (patient, note) VALUES (3, 'second')");
    app.back_up(&["--label", "reimport"]);
    app.delete("notes").await;
    app.put(&longest, b"under the longest key that there is").await;
    let large = app.client.put_object().bucket(&app.bucket).key("images/large.png").body(vec![7; 3_000].into());
    large.tagging("stage=final%20draft&sum=1%2B2").send().await.expect("room in the bucket");
    app.sql("INSERT INTO visit (patient, note) VALUES (3, 'third')");
    let typed = app.client.put_object().bucket(&app.bucket).key("documents/typed").content_type("text/x-report");
    typed.metadata("ward", "3").send().await.expect("room in the bucket");
    let id = app.back_up(&["--label", "reimport"]);
    let mut before = app.state().await;
    before.files.remove("tmp/left-out");

    delete_all(&app.client, &app.bucket).await;
    std::fs::remove_file(&app.database).expect("it was there");
    // The limit sends the large one the way of those that no single copy request takes.
    let script = format!(
        "set -euo pipefail
         aws s3 cp --only-show-errors {vault}/{id}/restore-files.sh .
         COPY_LIMIT=2000 bash restore-files.sh {vault} {id} s3://{bucket}
         aws s3 cp --only-show-errors {vault}/database/clinic_sqlite_backup_{stamp}.db db.sqlite3
         sqlite3 db.sqlite3 'PRAGMA integrity_check'
         aws s3 cp --only-show-errors --recursive {vault}/{id}/records/ records/
         jq -r '.[] | select(.first_name == \"John\") | .id' records/patients.json
         bash restore-files.sh {vault} {id} s3://{bucket} --list | wc -l",
        bucket = app.bucket,
        stamp = id.strip_prefix("reimport_").expect("the label"),
    );
    let said = app.shell(&script).ends_with(0).out;
    let count = before.files.len();
    // A newline in a key is shown as `\n`, so the list has one line a file.
    assert_eq!(said, format!("{count} of {count} files restored\nok\n1\n3\n{count}\n"));
    assert_eq!(app.state().await, before);
    assert!(!app.path("pwned").exists(), "a key was run as a command");
    let typed = app.client.head_object().bucket(&app.bucket).key("documents/typed").send().await.expect("it is there");
    assert_eq!(typed.content_type(), Some("text/x-report"));
    assert_eq!(typed.metadata().and_then(|kept| kept.get("ward")).map(String::as_str), Some("3"));
    let tagged = app.client.get_object_tagging().bucket(&app.bucket).key("images/large.png").send().await;
    let tags: BTreeMap<_, _> = tagged.expect("its tags").tag_set.into_iter().map(|tag| (tag.key, tag.value)).collect();
    assert_eq!(tags, [("stage".to_owned(), "final draft".to_owned()), ("sum".to_owned(), "1+2".to_owned())].into());
    every_row_is_in_the_records(&app);
}

/// The tags of an object, each as one text.
async fn tags(app: &App, key: &str) -> Vec<String> {
    let answer = app.client.get_object_tagging().bucket(&app.bucket).key(key).send().await.expect("its tags");
    let mut tags: Vec<_> = answer.tag_set.iter().map(|tag| format!("{}: {}", tag.key, tag.value)).collect();
    tags.sort();
    tags
}

fn every_row_is_in_the_records(app: &App) {
    let summary = std::fs::read(app.path("records/backup_summary.json")).expect("the summary");
    let summary: Value = serde_json::from_slice(&summary).expect("JSON");
    let mut rows = BTreeMap::new();
    for table in summary["tables"].as_array().expect("tables") {
        let file = app.path("records").join(table["file"].as_str().expect("a name"));
        let records: Vec<Value> = serde_json::from_slice(&std::fs::read(file).expect("its file")).expect("an array");
        assert_eq!(table["rows"], records.len());
        rows.insert(table["table"].as_str().expect("a name").to_owned(), records.len());
    }
    assert_eq!(rows, [("clinic_patient".to_owned(), 3), ("visit".to_owned(), 4)].into());
}

/// Points the configuration at a vault in another bucket, and answers with its URL.
async fn vault_elsewhere(app: &App) -> String {
    let bucket = unique_bucket("vault");
    make_bucket(&app.client, &bucket).await;
    let config = std::fs::read_to_string(app.path("nexus.toml")).expect("it was written");
    let own = format!("s3://{}/{}", app.bucket, crate::app::VAULT);
    let vault = format!("s3://{bucket}/nexus");
    app.write("nexus.toml", &config.replace(&own, &vault));
    vault
}

#[tokio::test]
async fn a_category_of_a_full_point_comes_back_by_one_recursive_copy() {
    let app = App::clinic(seaweedfs()).await;
    app.back_up(&[]);
    let id = app.back_up(&["--copies", "full"]);
    let before = app.files().await;
    for key in before.keys().filter(|key| key.starts_with("images/")) {
        app.delete(key).await;
    }
    let bucket = &app.bucket;
    app.shell(&format!("aws s3 cp --only-show-errors --recursive s3://{bucket}/backup/{id}/images/ s3://{bucket}/"))
        .ends_with(0);
    assert_eq!(app.files().await, before);
}

#[tokio::test]
async fn the_script_brings_what_a_folder_can_hold_into_one_and_never_leaves_it() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let outside = ["../escaped", "images/../../escaped", "/escaped", "a//b", "./c"];
    for key in outside.into_iter().chain(["linked/x", "folder/", "-dash", "line\nbreak\n", "images"]) {
        service.store().put(&app.bucket, key, key).expect("the bucket is there");
    }
    service.store().put(&app.bucket, "folder/", "").expect("the bucket is there");
    let id = app.back_up(&[]);
    std::fs::create_dir_all(app.path("target/inner")).expect("room");
    std::fs::create_dir(app.path("elsewhere")).expect("room");
    std::os::unix::fs::symlink(app.path("elsewhere"), app.path("target/linked")).expect("a link");
    std::fs::write(app.path("elsewhere/there"), "as it was").expect("room");
    std::os::unix::fs::symlink(app.path("elsewhere/there"), app.path("target/notes")).expect("a link");
    app.write("restore-files.sh", include_str!("../../../nexus-core/src/files/restore-files.sh"));
    // One worker, so that `images` comes before `images/a.jpg` always.
    let script = format!("JOBS=1 bash restore-files.sh s3://{}/backup {id} target", app.bucket);
    let ended = app.shell(&script).ends_with(1);
    // Left out: the five that lead out, the one behind a link, and the two below the file `images`.
    assert_eq!(ended.out, "8 of 16 files restored\n");
    for key in outside.into_iter().chain(["linked/x", "images/a.jpg", "images/b.JPG"]) {
        assert!(ended.err.contains(&format!("not restored: {key}")), "{key} is not named in {}", ended.err);
    }
    let target = tree::digest(&app.path("target"));
    let files: Vec<_> = target.iter().filter(|(_, entry)| entry.is_file()).map(|(key, _)| key.as_str()).collect();
    let wanted = [
        "-dash",
        "documents/2024/report +1 (copy).pdf",
        "documents/Änderung & more.docx",
        "images",
        "line\nbreak\n",
        "notes",
        "notes-2/x",
    ];
    assert_eq!(files, wanted);
    assert!(target["folder"].content == "folder");
    let around = tree::digest(&app.path("elsewhere"));
    assert_eq!(around.len(), 1, "something was written through a link: {around:?}");
    assert_eq!(std::fs::read_to_string(app.path("elsewhere/there")).expect("it"), "as it was");
    assert!(!app.path("escaped").exists() && !app.path("target/escaped").exists());
}

#[tokio::test]
async fn the_script_restores_from_a_folder_vault_into_a_bucket_and_into_a_folder() {
    let app = App::clinic(ministack()).await;
    app.put("a", b"beside a/b").await;
    app.put("a/b", b"below a").await;
    let typed = app.client.put_object().bucket(&app.bucket).key("typed").content_type("text/x-report");
    typed.metadata("ward", "3").cache_control("no-store").send().await.expect("room in the bucket");
    let large = app.client.put_object().bucket(&app.bucket).key("large").body(vec![7; 3_000].into());
    large.tagging("stage=final%20draft&sum=1%2B2&none=").send().await.expect("room in the bucket");
    let id = app.back_up(&["--vault", "vault"]);
    let mut before = app.files().await;
    before.remove("tmp/left-out");
    delete_all(&app.client, &app.bucket).await;
    let script = format!("COPY_LIMIT=2000 bash vault/{id}/restore-files.sh vault {id} s3://{}", app.bucket);
    let count = before.len();
    assert_eq!(app.shell(&script).ends_with(0).out, format!("{count} of {count} files restored\n"));
    assert_eq!(all_objects(&app.client, &app.bucket).await, before);
    let typed = app.client.head_object().bucket(&app.bucket).key("typed").send().await.expect("it is there");
    assert_eq!((typed.content_type(), typed.cache_control()), (Some("text/x-report"), Some("no-store")));
    assert_eq!(typed.metadata().and_then(|kept| kept.get("ward")).map(String::as_str), Some("3"));
    assert_eq!(tags(&app, "large").await, ["none: ", "stage: final draft", "sum: 1+2"]);
}

#[tokio::test]
async fn the_script_brings_a_folder_back_with_its_links_modes_and_empty_folders() {
    use std::os::unix::fs::PermissionsExt;
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    for name in ["media/deep/er", "media/empty"] {
        std::fs::create_dir_all(app.path(name)).expect("room");
    }
    app.write("media/deep/er/a b.jpg", "a picture");
    app.write("media/script", "#!/bin/sh");
    std::fs::set_permissions(app.path("media/script"), std::fs::Permissions::from_mode(0o750)).expect("it is ours");
    std::os::unix::fs::symlink("deep/er", app.path("media/link")).expect("a link");
    let id = app.back_up(&["--files", "media", "--vault", "vault"]);
    let script = format!("bash vault/{id}/restore-files.sh ./vault/ {id} out/back");
    assert_eq!(app.shell(&script).ends_with(0).out, "2 of 2 files restored\n");
    let modes = |name: &str| {
        let entries = tree::digest(&app.path(name)).into_iter();
        entries.map(|(key, entry)| (key, entry.is_file().then_some(entry.mode), entry.content)).collect::<Vec<_>>()
    };
    assert_eq!(modes("media"), modes("out/back"));
}

#[tokio::test]
async fn the_script_fails_when_a_copy_is_gone_and_says_which() {
    let app = App::clinic(seaweedfs()).await;
    let id = app.back_up(&[]);
    app.delete(&format!("backup/{id}/images/images/a.jpg")).await;
    let script = format!(
        "aws s3 cp --only-show-errors s3://{0}/backup/{id}/restore-files.sh . && \
         bash restore-files.sh s3://{0}/backup {id} s3://{0}",
        app.bucket
    );
    let ended = app.shell(&script).ends_with(1).says("not restored: images/a.jpg");
    assert_eq!(ended.out, "5 of 6 files restored\n");
    app.shell("bash restore-files.sh only two").ends_with(2).says("restore-files.sh VAULT POINT TARGET");
    app.shell(&format!("bash restore-files.sh s3://{0}/backup none_20251115_064233 s3://{0}", app.bucket))
        .ends_with(2)
        .says("cannot read the listing of none_20251115_064233");
}

/// The shell blocks of the README's chapter about restoring without the tool, run as they stand but for the names.
#[tokio::test]
async fn the_commands_of_the_readme_bring_everything_back() {
    let app = App::clinic(seaweedfs()).await;
    let vault = vault_elsewhere(&app).await;
    app.back_up(&["--label", "reimport"]);
    app.put("images/a.jpg", b"changed since").await;
    let id = app.back_up(&["--label", "reimport"]);
    let mut before = app.state().await;
    before.files.remove("tmp/left-out");
    delete_all(&app.client, &app.bucket).await;
    std::fs::remove_file(&app.database).expect("it was there");

    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme).expect("the README");
    let commands = commands_without_the_tool(&readme);
    assert!(!commands.is_empty(), "the README has no chapter on restoring without nexus");
    let script = with_names(&commands, &vault, &id, &app);
    let said = app.shell(&format!("set -euo pipefail\n{script}")).ends_with(0).out;
    for text in [
        "manifest.json is whole\n",
        "restored.sqlite3: OK\n",
        "\nok\n",
        "6 of 6 files restored\n",
        "records are whole\n",
        "\"John\"",
    ] {
        assert!(said.contains(text), "{text:?} is not in:\n{said}");
    }
    assert_eq!(app.files().await, before.files, "{script}");
    assert_eq!(digest::database(&app.database), before.database, "{script}");
}

/// The shell blocks under the heading that speaks of being without nexus.
fn commands_without_the_tool(readme: &str) -> String {
    let (mut inside, mut block, mut commands) = (false, false, String::new());
    for line in readme.lines() {
        let lower = line.to_lowercase();
        match line {
            _ if !block && line.starts_with('#') => inside = lower.contains("without") && lower.contains("nexus"),
            _ if inside && line.starts_with("```") => {
                block = !block && (lower.contains("sh") || lower.contains("console"));
            }
            _ if inside && block => {
                commands.push_str(line.strip_prefix("$ ").unwrap_or(line));
                commands.push('\n');
            }
            _ => {}
        }
    }
    commands
}

/// The README's bucket, vault and point, replaced by those of this test.
fn with_names(commands: &str, vault: &str, id: &str, app: &App) -> String {
    let stamp = id.strip_prefix("reimport_").expect("the label");
    commands
        .replace("s3://clinic-backup/clinic", vault)
        .replace("s3://clinic-documents", &format!("s3://{}", app.bucket))
        .replace("reimport_20251115_064233", id)
        .replace("20251115_064233", stamp)
}
