//! The units of `packaging/systemd/` and the cron lines of `docs/scheduling.md`, as far as a machine without either can tell.

use std::path::{Path, PathBuf};

use crate::app::{App, sandbox};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn units() -> Vec<(String, String)> {
    let folder = root().join("packaging/systemd");
    let mut units: Vec<(String, String)> = std::fs::read_dir(folder)
        .expect("the units")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).expect("a unit"))
        })
        .collect();
    units.sort();
    units
}

#[tokio::test]
async fn each_service_has_its_timer_and_runs_a_command_that_is_understood() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let units = units();
    let mut verbs = Vec::new();
    for (name, text) in units.iter().filter(|(name, _)| name.ends_with(".service") && !name.contains('@')) {
        let timer = name.replace(".service", ".timer");
        let (_, timer) = units.iter().find(|(name, _)| *name == timer).unwrap_or_else(|| panic!("{name} has no timer"));
        for line in ["OnCalendar=", "Persistent=true", "RandomizedDelaySec=", "WantedBy=timers.target"] {
            assert!(timer.contains(line), "{line} is not in {timer}");
        }
        for line in ["Type=oneshot", "OnFailure=nexus-failed@%n.service", "ReadWritePaths="] {
            assert!(text.contains(line), "{line} is not in {name}");
        }
        let command =
            text.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/nexus ")).expect("a command");
        let command = command.replace("/var/lib/prometheus/node-exporter/", "");
        let words: Vec<&str> = command.split(' ').collect();
        app.run(&words).ends_with(0);
        verbs.push(words[0].to_owned());
    }
    verbs.sort();
    assert_eq!(verbs, ["backup", "drill", "prune"], "in another order nothing could be drilled or pruned");
    assert!(units.iter().any(|(name, _)| name == "nexus-failed@.service"));
}

#[test]
fn every_line_of_a_unit_is_a_section_a_comment_or_a_setting() {
    let sections = ["[Unit]", "[Service]", "[Timer]", "[Install]"];
    for (name, text) in units() {
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let setting = line.split_once('=').is_some_and(|(key, _)| key.chars().all(char::is_alphanumeric));
            assert!(setting || sections.contains(&line), "{name}: {line}");
        }
    }
}

#[tokio::test]
async fn the_cron_lines_run_in_an_environment_like_that_of_cron() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let page = std::fs::read_to_string(root().join("docs/scheduling.md")).expect("the page");
    let block = page.split("```cron\n").nth(1).and_then(|rest| rest.split("```").next()).expect("cron lines");
    let folder = Path::new(env!("CARGO_BIN_EXE_nexus")).parent().expect("a folder").display().to_string();
    let mut ran = 0;
    for line in block.lines().filter(|line| line.contains("nexus")) {
        let command = line.split_whitespace().skip(5).collect::<Vec<_>>().join(" ");
        assert!(line.split_whitespace().take(5).all(|field| field == "*" || field.parse::<u8>().is_ok()), "{line}");
        let command = command.replace("/tmp/", "tmp/").replace("/srv/clinic", &app.path("").display().to_string());
        // Cron knows a home, a shell and a path, and the credentials that its line or file names.
        let script = format!("export PATH={folder}:/usr/bin:/bin\n{command}");
        let mut sh = app.tool(Path::new("/bin/sh"));
        sh.args(["-c", &script]);
        crate::app::Ended::of(nexus_testkit::kill::run(sh, crate::app::LIMIT)).ends_with(0);
        ran += 1;
    }
    assert_eq!(ran, 3);
}
