//! Records on the local disk: private, greppable, and as `jq` users expect them.

use std::os::unix::fs::PermissionsExt;

use nexus_testkit::services::seaweedfs;

use crate::app::App;

#[tokio::test]
async fn jq_finds_a_record_and_only_the_owner_can_read_it() {
    let app = App::clinic(seaweedfs()).await;
    let id = app.back_up(&["--label", "reimport"]);
    let file = format!("backups/{id}/patients.json");
    let found = app.shell(&format!("jq -c '.[] | select(.first_name==\"John\") | [.id, .photo]' {file}")).ends_with(0);
    assert_eq!(found.out, "[1,{\"$blob\":\"AP8=\"}]\n[3,null]\n");
    let found = app.shell(&format!("grep -c '\"first_name\":\"John\"' {file}")).ends_with(0);
    assert_eq!(found.out, "2\n");
    let mode = |name: &str| std::fs::metadata(app.path(name)).expect("it is there").permissions().mode() & 0o7777;
    assert_eq!((mode("backups"), mode(&format!("backups/{id}"))), (0o700, 0o700));
    for name in ["patients.json", "visit.json", "backup_summary.json"] {
        assert_eq!(mode(&format!("backups/{id}/{name}")), 0o600, "{name}");
    }
    assert_eq!(std::fs::read_to_string(app.path("backups/.gitignore")).expect("it"), "*\n");
}

#[tokio::test]
async fn record_files_of_this_machine_are_verified_too_and_those_of_another_are_no_damage() {
    let app = App::clinic(seaweedfs()).await;
    let id = app.back_up(&[]);
    let file = app.path(&format!("backups/{id}/patients.json"));
    let whole = std::fs::read_to_string(&file).expect("a file");
    std::fs::write(&file, whole.replace("John", "Jane")).expect("room");
    let ended = app.run(&["verify"]).ends_with(1);
    assert!(ended.out.contains("patients.json"), "{}", ended.out);
    std::fs::remove_dir_all(app.path("backups")).expect("it was there");
    app.run(&["verify", &id]).ends_with(0);
    app.restore(&[&id, "--only", "records", "--to-records", "backups"]);
    let recorded = app.run(&["show", &id, "--json"]).ends_with(0).json();
    let folder = recorded["manifest"]["parts"]["records"]["folder"].as_str().expect("a folder");
    assert!(folder.ends_with(&format!("backups/{id}")), "{folder}");
    assert_eq!(std::fs::read_to_string(app.path("backups/patients.json")).expect("it is back"), whole);
}
