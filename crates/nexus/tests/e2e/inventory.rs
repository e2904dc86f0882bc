//! What `doctor` foretells from an inventory that the service wrote, in place of a listing.

use std::fmt::Write as _;

use nexus_sandbox::Service;
use serde_json::{Value, json};

use crate::app::{App, sandbox};

const FOLDER: &str = "daily/2026-01-31T01-00Z";
const SCHEMA: &str = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass";

/// A clinic, and a bucket `inventories` beside its own.
async fn clinic() -> (Service, App) {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    for key in ["documents/a b+c.pdf", "documents/Zo\u{eb}, \"x\".pdf", "documents/line\nbreak"] {
        app.put(key, b"with an odd name").await;
    }
    assert!(service.store().create_bucket("inventories"));
    (service, app)
}

/// The rows that the service would write of a bucket, with a line for a version that is gone and one for its delete marker.
fn rows(service: &Service, bucket: &str) -> String {
    let mut rows = String::new();
    for key in service.store().keys(bucket, "") {
        let object = service.store().get(bucket, &key).expect("it is listed");
        let spelled: String = key.bytes().fold(String::new(), |mut spelled, byte| {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => spelled.push(char::from(byte)),
                b' ' => spelled.push('+'),
                other => write!(spelled, "%{other:02X}").expect("a text takes all"),
            }
            spelled
        });
        let size = object.body.len();
        writeln!(
            rows,
            r#""{bucket}","{spelled}","","true","false","{size}","2026-01-30T12:00:00.000Z","{}","STANDARD""#,
            object.etag.trim_matches('"')
        )
        .expect("a text takes all");
    }
    for (latest, marker) in [("false", "false"), ("true", "true")] {
        writeln!(rows, r#""{bucket}","gone","v1","{latest}","{marker}","7","2026-01-30T12:00:00.000Z","","""#)
            .expect("a text takes all");
    }
    rows
}

/// Delivers an inventory in two files, and answers with its manifest.
fn deliver(app: &App, rows: &str) -> Value {
    let half = rows.lines().count() / 2;
    let mut files = Vec::new();
    for (number, lines) in
        [rows.lines().take(half).collect::<Vec<_>>(), rows.lines().skip(half).collect()].iter().enumerate()
    {
        app.write("part.csv", &format!("{}\n", lines.join("\n")));
        let key = format!("daily/data/{number}.csv.gz");
        let script = format!(
            "gzip -9 -c part.csv > part.gz && aws s3 cp --only-show-errors part.gz s3://inventories/{key} &&
             stat -c %s part.gz && md5sum part.gz | cut -c 1-32"
        );
        let said = app.shell(&script).ends_with(0).out;
        let (size, md5) = said.trim().split_once('\n').expect("two lines");
        files.push(json!({"key": key, "size": size.parse::<u64>().expect("a size"), "MD5checksum": md5}));
    }
    json!({"sourceBucket": app.bucket, "destinationBucket": "arn:aws:s3:::inventories", "version": "2016-11-30",
        "creationTimestamp": "1769821200000", "fileFormat": "CSV", "fileSchema": SCHEMA, "files": files})
}

fn publish(app: &App, manifest: &Value) {
    app.write("manifest.json", &manifest.to_string());
    let script = format!(
        "md5sum manifest.json | cut -c 1-32 > manifest.checksum
         for name in manifest.json manifest.checksum; do aws s3 cp --only-show-errors $name s3://inventories/{FOLDER}/$name; done"
    );
    app.shell(&script).ends_with(0);
}

fn doctor(app: &App) -> crate::app::Ended {
    app.run(&["doctor", "--json", "--inventory", &format!("s3://inventories/{FOLDER}/manifest.json")])
}

#[tokio::test]
async fn an_inventory_foretells_what_a_listing_does_without_listing_the_files() {
    let (service, app) = clinic().await;
    publish(&app, &deliver(&app, &rows(&service, &app.bucket)));
    let listed = app.run(&["doctor", "--json"]).ends_with(0).json();
    let told = doctor(&app).ends_with(0).json();
    for name in ["/files", "/files_to_copy", "/bytes/copied"] {
        let of = |answer: &Value| answer["estimate"].pointer(name).cloned();
        assert_eq!(of(&told), of(&listed), "{name}");
    }
    assert!(told["estimate"]["files"].as_u64() > Some(8), "{told}");
    let line =
        told["lines"].as_array().expect("lines").iter().find(|line| line["name"] == "inventory").expect("its line");
    assert!(line["what"].as_str().is_some_and(|what| what.contains("2026-01-31 01:00 UTC")), "{line}");
    // A file that came since is not in it.
    app.put("documents/later.pdf", b"later").await;
    assert_eq!(doctor(&app).ends_with(0).json()["estimate"]["files"], listed["estimate"]["files"]);
}

#[tokio::test]
async fn an_inventory_that_is_damaged_or_of_something_else_fails_its_line_and_no_estimate_is_made_of_it() {
    let (service, app) = clinic().await;
    let all = rows(&service, &app.bucket);
    let good = deliver(&app, &all);
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        changed
    };
    let mut short = good["files"].clone();
    short[1]["MD5checksum"] = "0".repeat(32).into();
    let cases = [
        (with("fileFormat", "ORC".into()), "only inventories in CSV"),
        (with("sourceBucket", "another".into()), "is of the bucket another"),
        (with("fileSchema", "Bucket, VersionId".into()), "no columns"),
        (with("creationTimestamp", "yesterday".into()), "when it was made"),
        (with("files", short), "not what the inventory's manifest says"),
        (with("files", json!([{"key": "daily/none.csv.gz", "size": 1, "MD5checksum": ""}])), "is not there"),
        (json!({"some": "thing"}), "no manifest of an inventory"),
    ];
    for (manifest, words) in cases {
        publish(&app, &manifest);
        let told = doctor(&app).ends_with(1).json();
        assert_eq!(told["estimate"], Value::Null, "{words}");
        assert!(told.to_string().contains(words), "{words:?} is not in {told}");
    }
    // Rows of other columns than the first, and a size that is no number, under a manifest that agrees.
    let torn = format!("{}\n\"c\"\n\n\n", all.lines().next().expect("a row"));
    let wordy = "\"b\",\"k\",\"\",\"true\",\"false\",\"many\"\n".to_owned();
    for (rows, words) in [(torn, "no CSV"), (wordy, "is no object")] {
        publish(&app, &deliver(&app, &rows));
        let told = doctor(&app).ends_with(1).json();
        assert!(told.to_string().contains(words), "{words:?} is not in {told}");
    }
    // A manifest that its checksum does not know.
    publish(&app, &good);
    service
        .store()
        .put("inventories", &format!("{FOLDER}/manifest.checksum"), "0".repeat(32).as_str())
        .expect("a bucket");
    assert!(doctor(&app).ends_with(1).json().to_string().contains("not what its checksum says"));
    let told = app.run(&["doctor", "--inventory", "daily/manifest.json"]).ends_with(1);
    assert!(told.out.contains("names no inventory"), "{}", told.out);
}
