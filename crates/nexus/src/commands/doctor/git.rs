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
    let tracked = tracked(folder)?;
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

/// Files below a folder that git tracks.
fn tracked(folder: &Path) -> Option<u64> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["ls-files", "-z", "--", "."]);
    let output = command.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    Some(output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty()).count() as u64)
}
