//! Whether a git repository keeps records of the app: once committed, they are in every clone for ever.

use std::path::Path;
use std::process::{Command, Stdio};

use nexus_core::backup::BackupPlan;
use nexus_core::doctor::{Line, Step};

use crate::wording::{counted, shell_quoted};

/// What git says of the records folder; nothing where there is no git, or no repository around it.
pub fn line(plan: &BackupPlan) -> Option<Line> {
    let name = "records in git";
    let folder = plan.records.as_ref()?.folder.as_deref().filter(|folder| folder.is_dir())?;
    let tracked = match tracked(folder)? {
        Ok(tracked) => tracked,
        Err(trust) => {
            let what = format!("not looked at: the repository around {} belongs to another user", folder.display());
            return Some(Line::warned(name, what, vec![Step::Shell(trust)]));
        }
    };
    if tracked == 0 {
        return Some(Line::passed(name, "none is tracked"));
    }
    let here = shell_quoted(&folder.display().to_string());
    let next = vec![
        Step::Shell(format!("git -C {here} rm -r --cached --quiet -- .")),
        Step::Say(
            "and commit that; what was pushed already is in every clone: see to it that its history is rewritten"
                .to_owned(),
        ),
    ];
    Some(Line::failed(name, format!("{} in {} are tracked by git", counted(tracked, "file"), folder.display()), next))
}

/// Files below a folder that git tracks, those for git itself left out; or the command by which git comes to trust the
/// repository of another user, which it will not even read as it is.
fn tracked(folder: &Path) -> Option<Result<u64, String>> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["ls-files", "-z", "--", "."]).env("LC_ALL", "C");
    let output = command.stdin(Stdio::null()).output().ok()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let trust =
            said.lines().map(str::trim).find(|line| line.starts_with("git config ") && line.contains("safe.directory"));
        return trust.map(|trust| Err(trust.to_owned()));
    }
    let paths = output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    let own = |path: &&[u8]| path.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.starts_with(b".git"));
    Some(Ok(paths.filter(|path| !own(path)).count() as u64))
}
