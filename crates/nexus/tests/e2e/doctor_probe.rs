//! `doctor` tries rights on objects of its own: however a look ends, none of them stays for longer than till the next one.

use std::time::{Duration, Instant, SystemTime};

use nexus_sandbox::{Fault, FaultAt, Service};
use nexus_testkit::kill::Running;
use nexus_testkit::services;
use serde_json::Value;

use crate::app::{App, LIMIT, VAULT, sandbox};

/// A service's clock this far ahead makes what was stored just now old enough to be nobody's.
const LATER: i64 = 700;

fn look(app: &App, more: &[&str]) -> Value {
    let words: Vec<&str> = ["doctor", "--json"].iter().chain(more).copied().collect();
    app.run(&words).json()
}

#[track_caller]
fn line<'a>(seen: &'a Value, name: &str) -> &'a Value {
    let lines = seen["lines"].as_array().expect("lines");
    lines.iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("no line {name:?} in {seen:#}"))
}

fn probes(service: &Service, app: &App) -> Vec<String> {
    service.store().keys(&app.bucket, &format!("{VAULT}.nexus-probe"))
}

/// Starts a look that is stopped at its n-th request, which was carried out and is never answered; none when it has fewer.
fn stopped_at(service: &Service, app: &App, nth: u64) -> Option<Running> {
    service.reset_counts();
    service.inject(Fault::StallAfter, FaultAt::Nth(nth));
    let mut running = app.start(&["doctor"]);
    let deadline = Instant::now() + LIMIT;
    while service.faults_fired() == 0 {
        if running.ended_within(Duration::from_millis(1)).is_some() {
            return None;
        }
        assert!(Instant::now() < deadline, "it does not come to request {nth}");
    }
    Some(running)
}

#[tokio::test]
async fn a_look_that_is_interrupted_at_any_request_removes_what_it_has_stored() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    for nth in 1.. {
        let Some(running) = stopped_at(&service, &app, nth) else {
            assert!(nth > 30, "only {nth} requests were made");
            break;
        };
        running.interrupt();
        let ended = running.wait(LIMIT);
        service.clear_faults();
        assert_eq!(ended.status.code(), Some(130), "request {nth}");
        assert_eq!(probes(&service, &app), [""; 0], "request {nth}");
    }
    app.assert_no_litter();
}

#[tokio::test]
async fn what_a_killed_look_has_left_goes_with_the_next_one_that_is_minutes_later_and_not_before() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let (mut objects, mut uploads) = (0, 0);
    for nth in 1.. {
        let Some(running) = stopped_at(&service, &app, nth) else { break };
        running.kill();
        running.wait(LIMIT);
        service.clear_faults();
        let left = probes(&service, &app);
        let begun = service.store().open_uploads(&app.bucket);
        (objects, uploads) = (objects + left.len(), uploads + begun);
        if left.is_empty() && begun == 0 {
            continue;
        }
        // It may be another's who is still at work.
        look(&app, &[]);
        assert_eq!(probes(&service, &app), left, "request {nth}");
        service.store().shift_clock(LATER);
        let seen = look(&app, &[]);
        assert_eq!(line(&seen, "removing")["standing"], "passed");
        service.store().shift_clock(0);
        assert_eq!(probes(&service, &app), [""; 0], "request {nth}");
        assert_eq!(service.store().open_uploads(&app.bucket), 0, "request {nth}");
    }
    assert!(objects > 5 && uploads > 0, "{objects} objects and {uploads} uploads were left");
}

#[tokio::test]
async fn what_stays_when_the_service_is_cut_off_in_the_middle_is_named_and_goes_with_the_next_look() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.configure("[s3]\nattempts = 1\n");
    let mut left = 0;
    for nth in 1.. {
        service.reset_counts();
        service.inject(Fault::Reset, FaultAt::From(nth));
        let seen = look(&app, &[]);
        let struck = service.faults_fired() > 0;
        service.clear_faults();
        if !struck {
            break;
        }
        assert_eq!(seen["fit"], false, "request {nth}: {seen:#}");
        if !probes(&service, &app).is_empty() {
            left += 1;
            assert!(seen.to_string().contains(".nexus-probe-"), "request {nth}: {seen:#}");
            service.store().shift_clock(LATER);
            look(&app, &[]);
            service.store().shift_clock(0);
        }
        assert_eq!(probes(&service, &app), [""; 0], "request {nth}");
    }
    assert!(left > 3, "it was cut off {left} times while something lay there");
}

#[tokio::test]
async fn what_a_killed_look_has_left_in_a_folder_goes_as_well() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let vault = app.path("vault");
    std::fs::create_dir(&vault).expect("room on the disk");
    let put = |name: &str, minutes: u64| {
        let file = std::fs::File::create(vault.join(name)).expect("room on the disk");
        file.set_modified(SystemTime::now() - Duration::from_secs(60 * minutes)).expect("a time");
    };
    put(".nexus-probe-old", 11);
    put(".nexus-probe-young", 5);
    put("another.txt", 11);
    look(&app, &["--vault", &vault.display().to_string()]);
    let mut left: Vec<_> =
        std::fs::read_dir(&vault).expect("a folder").map(|entry| entry.expect("one").file_name()).collect();
    left.sort();
    assert_eq!(left, [".nexus-probe-young", "another.txt"]);
}

/// Amazon S3 answers a request to remove many objects with success, and each of them with why it may not.
#[tokio::test]
async fn a_role_that_may_not_remove_is_fit_for_backups_however_the_service_refuses() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    service.deny("DeleteObject");
    let seen = look(&app, &[]);
    assert_eq!(line(&seen, "removing")["standing"], "warned", "{seen:#}");
    assert_eq!(seen["fit"], true, "{seen:#}");
    assert_eq!(probes(&service, &app), [""; 0]);
}

#[tokio::test]
async fn nothing_is_stored_where_a_lock_would_keep_it_and_no_marker_where_versions_are_kept() {
    let app = App::clinic(services::seaweedfs()).await;
    let (url, bucket) = (app.endpoint.url.clone(), services::unique_bucket("locked"));
    let api =
        |words: &str| app.shell(&format!("aws s3api {words} --bucket {bucket} --endpoint-url {url}")).ends_with(0).out;
    api("create-bucket --object-lock-enabled-for-bucket");
    let vault = format!("s3://{bucket}/nexus");
    assert_eq!(line(&look(&app, &["--vault", &vault]), "conditional writes")["standing"], "passed");
    assert!(!api("list-object-versions").contains("probe"));
    api("put-object-lock-configuration --object-lock-configuration \
         '{\"ObjectLockEnabled\":\"Enabled\",\"Rule\":{\"DefaultRetention\":{\"Mode\":\"COMPLIANCE\",\"Days\":1}}}'");
    let seen = look(&app, &["--vault", &vault]);
    assert_eq!(line(&seen, "writing")["standing"], "passed", "{seen:#}");
    assert!(line(&seen, "writing")["what"].as_str().expect("words").contains("locked for 1 days"), "{seen:#}");
    let versions = api("list-object-versions");
    assert!(!versions.contains("probe"), "{versions}");
}
