//! A backup that broke off has copied something, and the next one goes on from there.

use std::time::Duration;

use nexus_sandbox::{Fault, FaultAt, Service};
use nexus_testkit::kill::Running;
use serde_json::Value;

use crate::app::{App, sandbox};

/// Files beside those of the small clinic.
const FILES: usize = 40;
/// A copy counts when it was made in a later second than its original.
const A_SECOND: Duration = Duration::from_millis(1_100);
const LIMIT: Duration = Duration::from_secs(30);

async fn clinic() -> (Service, App) {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.configure("[s3]\nrequests-in-flight = 4\n");
    for number in 0..FILES {
        app.put(&format!("images/more/{number:02}.jpg"), format!("picture {number}").as_bytes()).await;
    }
    std::thread::sleep(A_SECOND);
    (service, app)
}

/// A backup that waits at its 20th copy.
fn stalled(app: &App, service: &Service) -> Running {
    service.inject(Fault::Stall, FaultAt::Operation { name: "CopyObject".to_owned(), nth: 20 });
    let running = app.start(&["backup"]);
    let deadline = std::time::Instant::now() + LIMIT;
    while service.faults_fired() == 0 {
        assert!(std::time::Instant::now() < deadline, "it does not come to the copy");
        std::thread::sleep(Duration::from_millis(2));
    }
    running
}

/// Breaks a backup off at its 20th copy, by a kill or as Ctrl-C does; answers the id it had claimed.
fn break_off(app: &App, service: &Service, killed: bool) -> String {
    service.reset_counts();
    let running = stalled(app, service);
    if killed {
        running.kill();
    } else {
        running.interrupt();
    }
    running.wait(LIMIT);
    service.clear_faults();
    let (id, state) = app.points().into_iter().next().expect("its claim");
    assert!(["unfinished", "abandoned"].contains(&state.as_str()), "{id} is {state}");
    id
}

fn files(app: &App, id: &str) -> (u64, u64) {
    let shown = app.run(&["show", id, "--json"]).ends_with(0).json();
    let part = &shown["manifest"]["parts"]["files"];
    let count = |name: &str| part[name]["files"].as_u64().unwrap_or_else(|| panic!("{part}"));
    (count("copied"), count("reused"))
}

#[tokio::test]
async fn what_a_broken_off_backup_copied_is_used_by_the_next_one() {
    for killed in [true, false] {
        let (service, app) = clinic().await;
        let broken = break_off(&app, &service, killed);
        let before = app.state().await;
        let id = app.back_up(&[]);
        let (copied, reused) = files(&app, &id);
        assert!(reused >= 12 && copied + reused >= FILES as u64, "{copied} copied, {reused} used: killed {killed}");
        let state = app.run(&["list", "--all", "--json"]).ends_with(0).json();
        let of = |id: &str| {
            let points = state["points"].as_array().expect("a list");
            points.iter().find(|point| point["id"] == id).map(|point| point["state"].clone())
        };
        assert_eq!(of(&broken), Some(Value::from("abandoned")), "{state}");
        // Nothing of it goes that the point needs; and it comes back by the tool and by the script.
        app.run(&["prune", "--yes"]).ends_with(0);
        app.run(&["verify", &id, "--full"]).ends_with(0);
        // The one after reuses the same.
        let next = app.back_up(&[]);
        assert_eq!(files(&app, &next).0, 0);
        app.run(&["verify", &next, "--full"]).ends_with(0);
        app.wreck().await;
        app.restore(&[&id, "--delete-extra"]);
        assert_eq!(app.state().await, before);
    }
}

#[tokio::test]
async fn what_changed_since_is_copied_anew() {
    let (service, app) = clinic().await;
    break_off(&app, &service, true);
    // The same bytes with other properties, other bytes of the same length, other bytes.
    std::thread::sleep(A_SECOND);
    for number in 0..20 {
        let key = format!("images/more/{number:02}.jpg");
        let url = &app.endpoint.url;
        match number % 3 {
            0 => {
                let copy = format!(
                    "aws --endpoint-url {url} s3api copy-object --bucket {0} --key {key} --copy-source {0}/{key} \
                     --metadata-directive REPLACE --content-type image/special",
                    app.bucket
                );
                app.shell(&copy).ends_with(0);
            }
            1 => app.put(&key, format!("PICTURE {number}").as_bytes()).await,
            _ => app.put(&key, b"another picture").await,
        }
    }
    let before = app.state().await;
    let id = app.back_up(&[]);
    let (copied, _) = files(&app, &id);
    assert!(copied >= 20, "{copied} copied");
    app.wreck().await;
    app.restore(&[&id, "--delete-extra"]);
    assert_eq!(app.state().await, before);
    let kind = app
        .shell(&format!(
            "aws --endpoint-url {} s3api head-object --bucket {} --key images/more/00.jpg --query ContentType",
            app.endpoint.url, app.bucket
        ))
        .ends_with(0);
    assert!(kind.out.contains("image/special"), "{}", kind.out);
}

#[tokio::test]
async fn a_backup_that_still_runs_and_points_with_all_their_copies_are_left_alone() {
    let (service, app) = clinic().await;
    let running = stalled(&app, &service);
    let id = app.back_up(&[]);
    assert_eq!(files(&app, &id).1, 0, "copies of a backup that runs were taken");
    running.kill();
    running.wait(LIMIT);
    service.clear_faults();
    for (id, state) in app.points() {
        if state == "proven" {
            app.run(&["verify", &id, "--full"]).ends_with(0);
        }
    }
    let (service, app) = clinic().await;
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a config");
    app.write("nexus.toml", &text.replace("exclude =", "copies = \"full\"\nexclude ="));
    break_off(&app, &service, true);
    let id = app.back_up(&[]);
    assert_eq!(files(&app, &id).1, 0, "a point that is to hold all its copies does not");
}
