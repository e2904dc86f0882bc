use crate::Place;

const VERBS: [&str; 22] = [
    "demo",
    "init",
    "doctor",
    "backup",
    "list",
    "show",
    "verify",
    "drill",
    "restore",
    "get",
    "find",
    "history",
    "diff",
    "guard",
    "rehearse",
    "prune",
    "adopt",
    "copy",
    "pin",
    "unpin",
    "completions",
    "man",
];

#[test]
fn help_lists_the_verbs_that_are_built_and_the_exit_statuses() {
    let help = Place::new().run(&["--help"]).ends_with(0).out;
    for verb in VERBS {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb} is not in:\n{help}");
    }
    for absent in ["report", "ui"] {
        assert!(!help.contains(&format!("\n  {absent} ")), "{absent} is in the help and not built");
    }
    assert!(help.contains("125 when the command was not run"), "{help}");
    for line in ["  0    done", "  1    done, and the answer is bad", "  2    not done", "  130  interrupted"] {
        assert!(help.contains(line), "{line:?} is not in:\n{help}");
    }
}

#[test]
fn every_verb_has_examples_and_json() {
    for verb in VERBS {
        let help = Place::new().run(&[verb, "--help"]).ends_with(0).out;
        assert!(help.contains("Examples:"), "{verb} has no examples");
        assert!(help.contains("--json"), "{verb} has no --json");
    }
}

#[test]
fn a_wrong_command_line_is_not_done_and_says_what_was_meant() {
    let place = Place::new();
    place.run(&["lst"]).ends_with(2).says("list");
    place.run(&["backup", "--lable", "x"]).ends_with(2).says("--label");
    place.run(&["backup", "--only", "databse"]).ends_with(2).says("database");
    place.run(&["backup", "--label", "Not A Label"]).ends_with(2);
    place.run(&["verify", "--quick", "--full"]).ends_with(2);
    place.run(&["restore"]).ends_with(2).says("<POINT>");
    place.run(&["get"]).ends_with(2).says("<KEY>");
    place.run(&["get", "--table", "patients"]).ends_with(2).says("--pk");
    place.run(&["get", "a.jpg", "--table", "patients", "--pk", "1"]).ends_with(2).says("cannot be used with");
    place.run(&["find", "patients", "--all", "--point", "latest"]).ends_with(2).says("cannot be used with");
    place.run(&["history", "patients"]).ends_with(2).says("<KEY>");
    place.run(&["guard", "--lable", "x", "--", "true"]).ends_with(125).says("--label");
    place.run(&["guard", "true"]).ends_with(125);
    place.run(&["guard", "--help"]).ends_with(0);
}

#[test]
fn completions_know_the_verbs() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Place::new().run(&["completions", shell]).ends_with(0).out;
        assert!(VERBS.iter().all(|verb| script.contains(verb)), "{shell}");
    }
    assert_eq!(Place::new().run(&["completions", "fish", "--json"]).json()["shell"], "fish");
}

#[test]
fn a_page_for_each_verb_goes_into_a_folder() {
    let place = Place::new();
    assert!(place.run(&["man"]).ends_with(0).out.contains(".TH nexus 1"));
    place.run(&["man", "--output", "pages"]).ends_with(0);
    assert!(place.path().join("pages/nexus.1").exists());
    for verb in VERBS {
        assert!(place.path().join(format!("pages/nexus-{verb}.1")).exists(), "{verb}");
    }
}

#[test]
fn a_reader_that_closes_stdout_is_no_failure() {
    let place = Place::new();
    let mut child = place
        .command(&["completions", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("it ends");
    assert!(ended.status.success() && ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn output_that_is_lost_is_a_failure() {
    let place = Place::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("the device");
    let ended = place.command(&["completions", "bash"]).stdout(full).output().expect("the binary runs");
    assert_eq!(ended.status.code(), Some(2));
}
