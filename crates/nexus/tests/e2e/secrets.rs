//! Secrets stay where they are: in no output, no log, nothing that is stored.

use std::path::Path;

use nexus_testkit::services::seaweedfs;

use crate::app::{App, Ended};

const PASSWORD: &str = "geheimes-passwort-99";

#[tokio::test]
async fn the_secret_key_and_a_password_are_in_no_output_no_log_and_nothing_stored() {
    let mut app = App::clinic(seaweedfs()).await;
    let key = app.endpoint.secret_key.clone();
    let silent = |app: &App, ended: Ended| {
        let log = std::fs::read_to_string(app.path("nexus.log")).unwrap_or_default();
        for secret in [key.as_str(), PASSWORD] {
            let told = [&ended.out, &ended.err, &log].iter().any(|text| text.contains(secret));
            assert!(!told, "`{secret}` was told: {ended:?}\n{log}");
        }
        ended
    };
    let logged = |words: &[&str]| -> Vec<String> {
        words.iter().chain(&["--log-file", "nexus.log"]).map(|word| (*word).to_owned()).collect()
    };
    let run = |app: &App, words: &[&str]| {
        let words = logged(words);
        silent(app, app.run(&words.iter().map(String::as_str).collect::<Vec<_>>()))
    };

    app.set("DATABASE_URL", &format!("postgres://clinic:{PASSWORD}@db.example/clinic"));
    let url = format!("sqlite:///{}?password={PASSWORD}", app.database.display());
    run(&app, &["backup", "--database", &url]).ends_with(0);
    run(&app, &["backup"]).ends_with(0);
    for words in [
        &["list"][..],
        &["show", "--json"],
        &["drill"],
        &["drill", "--json"],
        &["verify", "--full"],
        &["backup", "--dry-run"],
        &["backup", "--json"],
    ] {
        run(&app, words).ends_with(0);
    }
    app.wreck().await;
    run(&app, &["restore", "latest", "--delete-extra", "--yes"]).ends_with(0);

    // And when it fails: another kind of database, a service that refuses, one that is not there, a broken file.
    let bucket = app.bucket.clone();
    let vault = format!("s3://{bucket}/backup");
    app.write("empty.toml", &format!("app = \"clinic\"\n[vault]\nurl = \"{vault}\"\n"));
    run(&app, &["backup", "--config", "empty.toml"]).ends_with(2);
    run(&app, &["backup", "--config", "empty.toml", "--json"]).ends_with(2);
    run(&app, &["init", "--dry-run"]);
    let foreign = format!("mysql://clinic:{PASSWORD}@db/clinic");
    run(&app, &["backup", "--database", &foreign]).ends_with(2);
    app.write(
        "bad.toml",
        &format!("[database]\nurl = \"postgres://clinic:{PASSWORD}@db/clinic\"\npasword = \"{PASSWORD}\"\n"),
    );
    run(&app, &["list", "--config", "bad.toml"]).ends_with(2);
    run(&app, &["list", "--endpoint", &format!("http://user:{PASSWORD}@127.0.0.1:1")]).ends_with(2);
    run(&app, &["list", "--vault", &format!("s3://{bucket}-none/backup")]).ends_with(2);
    app.set("AWS_ACCESS_KEY_ID", "somebody-else");
    run(&app, &["list"]).ends_with(2);

    stored_nowhere(&app, &[&key, PASSWORD]).await;
}

async fn stored_nowhere(app: &App, secrets: &[&str]) {
    for (name, body) in app.vault().await {
        let plain = if Path::new(&name).extension().is_some_and(|ending| ending == "zst") {
            std::fs::write(app.path("listing.zst"), &body).expect("room");
            app.shell("zstd -dc listing.zst").ends_with(0).out.into_bytes()
        } else {
            body
        };
        let text = String::from_utf8_lossy(&plain);
        for secret in secrets {
            assert!(!text.contains(secret), "`{secret}` is stored in {name}");
        }
    }
    let here = nexus_testkit::tree::digest(&app.path("backups"));
    for (name, _) in here.iter().filter(|(_, entry)| entry.is_file()) {
        let text = std::fs::read_to_string(app.path("backups").join(name)).expect("text");
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "a secret is stored in {name}");
    }
}
