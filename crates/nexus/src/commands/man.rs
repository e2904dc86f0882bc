//! `man`: the manual page, or one page for each verb.

use std::path::Path;

use clap::{Command, CommandFactory};
use nexus_core::error::{Error, Result};
use serde_json::json;

use crate::cli::{Cli, ManArgs};
use crate::failure::Outcome;
use crate::terminal::Terminal;

/// Prints the page of the whole program, or writes all pages.
pub fn run(args: &ManArgs, terminal: &Terminal) -> Result<Outcome> {
    let mut command = Cli::command();
    command.build();
    let Some(folder) = &args.output else {
        let page = rendered(command)?;
        if terminal.wants_json() {
            terminal.json(&json!({ "page": page }));
        } else {
            terminal.raw(&page);
        }
        return Ok(Outcome::Done);
    };
    let written = write_all(&command, folder)?;
    if terminal.wants_json() {
        terminal.json(&json!({ "written": written }));
    } else {
        terminal.raw(&(written.join("\n") + "\n"));
    }
    Ok(Outcome::Done)
}

fn write_all(command: &Command, folder: &Path) -> Result<Vec<String>> {
    let failed = |path: &Path, cause| Error::local(format!("cannot write `{}`", path.display()), cause);
    std::fs::create_dir_all(folder).map_err(|cause| failed(folder, cause))?;
    let verbs = command.get_subcommands().filter(|verb| verb.get_name() != "help");
    let mut written = Vec::new();
    for page in std::iter::once(command).chain(verbs) {
        let name = page.get_display_name().unwrap_or_else(|| page.get_name()).to_owned();
        let path = folder.join(format!("{name}.1"));
        std::fs::write(&path, rendered(page.clone())?).map_err(|cause| failed(&path, cause))?;
        written.push(path.display().to_string());
    }
    Ok(written)
}

fn rendered(command: Command) -> Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|cause| Error::local("cannot make the manual page", cause))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
