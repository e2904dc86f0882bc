//! `doctor`: the checklist before the deed, each line with its next step; then what the next backup takes.

mod git;
mod steps;

use std::path::Path;

use nexus_core::backup::BackupPlan;
use nexus_core::bucket::Address;
use nexus_core::bucket::inventory::InventoryAt;
use nexus_core::doctor::{
    Basis, Checklist, DoctorPlan, Estimate, Line, Prices, Standing, Trying, Unfinished, examine, glance,
};
use nexus_core::error::{Error, Result};
use serde::Serialize;

use super::backup;
use crate::cli::DoctorArgs;
use crate::failure::Outcome;
use crate::page::{Cell, Page, Style};
use crate::run::Run;
use crate::wording::{count, size};
use steps::Told;

/// The answer for programs.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    fit: bool,
    lines: Vec<Shown<'a>>,
    estimate: Option<&'a Estimate>,
}

/// A line for programs.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    name: &'static str,
    standing: &'static str,
    what: &'a str,
    next: Vec<Told>,
}

/// Looks, and says what was seen; `unfinished` learns what must be removed when this is not polled to its end.
pub async fn run(run: &Run, args: &DoctorArgs, unfinished: &mut Option<Unfinished>) -> Result<Outcome> {
    let prices = match &args.prices {
        Some(path) => prices(&run.folder.join(path))?,
        None => Prices::default(),
    };
    let mut list = Checklist::default();
    let trying = if args.dry_run { Trying::Nothing } else { Trying::Rights };
    match plan(run, (args, trying)).await {
        Ok(plan) => {
            list.lines.push(configuration(run, &plan.backup));
            let looked = Box::pin(examine(&plan, &prices, &run.clock, &run.events, unfinished)).await?;
            list.lines.extend(looked.lines);
            list.lines.extend(git::line(&plan.backup));
            list.estimate = looked.estimate;
        }
        Err(error) => list.lines.push(Line::of_error("configuration", error)),
    }
    let answer = Answer {
        fit: list.is_fit(),
        lines: list.lines.iter().map(|line| shown(run, line)).collect(),
        estimate: list.estimate.as_ref(),
    };
    run.terminal.answer(&page(&answer), &answer);
    Ok(Outcome::of(answer.fit))
}

/// Removes what a look that was broken off has stored.
pub async fn clear_up(unfinished: Option<Unfinished>) {
    if let Some(unfinished) = unfinished {
        unfinished.give_up().await;
    }
}

/// The quick half, before a backup: what would make it fail ends it, what is doubtful is said.
///
/// # Errors
///
/// The first line that failed.
pub async fn before_backup(run: &Run, backup: &BackupPlan) -> Result<()> {
    let plan = around(run, backup.clone(), Trying::Nothing).await?;
    for line in glance(&plan, &run.clock).await {
        let told = steps::told(run, &line);
        let next: Vec<String> = told.iter().map(Told::sentence).collect();
        match (line.standing, line.cause) {
            (Standing::Passed, _) => {}
            (Standing::Warned, _) => run.terminal.note(&format!("{}: {}", line.name, line.what)),
            (Standing::Failed, Some(error)) => return Err(error),
            (Standing::Failed, None) => return Err(Error::usage_hint(line.what, next.join("; "))),
        }
    }
    // Records in git are bad, and no backup is worse.
    if let Some(line) = git::line(backup).filter(|line| line.standing != Standing::Passed) {
        let next: Vec<String> = steps::told(run, &line).iter().map(Told::sentence).collect();
        run.terminal.warn(&format!("{}; {}", line.what, next.join("; ")));
    }
    Ok(())
}

async fn plan(run: &Run, (args, trying): (&DoctorArgs, Trying)) -> Result<DoctorPlan> {
    let choices = backup::Choices {
        label: run.settings.label.clone(),
        only: Vec::new(),
        copies: None,
        vanished: nexus_core::files::capture::Vanished::Fail,
    };
    let backup = backup::plan(run, &choices).await?;
    let inventory = match &args.inventory {
        Some(url) => Some(inventory(run, url).await?),
        None => None,
    };
    Ok(DoctorPlan { inventory, ..around(run, backup, trying).await? })
}

/// It is read on the files' service: S3 Inventory delivers into buckets of the same region.
async fn inventory(run: &Run, url: &str) -> Result<InventoryAt> {
    let named = url.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).filter(|(_, key)| !key.is_empty());
    let Some((bucket, key)) = named else {
        return Err(Error::usage_hint(
            format!("{url:?} names no inventory"),
            "name its manifest: --inventory s3://bucket/…/manifest.json",
        ));
    };
    let address = Address::parse(&format!("s3://{bucket}"), &run.folder)?;
    Ok(InventoryAt { reader: run.files_reader(&address).await?, key: key.to_owned() })
}

async fn around(run: &Run, backup: BackupPlan, trying: Trying) -> Result<DoctorPlan> {
    let address = run.settings.vault()?.clone();
    let app = backup::app(run)?;
    let (vault, retention) = (run.reader(&address).await?, run.settings.rules());
    Ok(DoctorPlan { backup, app, vault, address, rules: run.store_rules(), retention, trying, inventory: None })
}

fn configuration(run: &Run, backup: &BackupPlan) -> Line {
    let parts: Vec<&str> = backup.parts.iter().map(|part| part.name()).collect();
    let from = match &run.settings.config {
        Some(path) => path.display().to_string(),
        None => "flags and environment".to_owned(),
    };
    Line::passed("configuration", format!("{from}: {}", parts.join(", ")))
}

/// A table of prices in place of the one that is built in.
fn prices(path: &Path) -> Result<Prices> {
    let what = format!("cannot read the prices in `{}`", path.display());
    let text = std::fs::read_to_string(path).map_err(|cause| Error::local(what.clone(), cause))?;
    toml::from_str(&text).map_err(|cause| {
        let example = toml::to_string(&Prices::default()).unwrap_or_default();
        Error::usage_hint(format!("{what}: {}", cause.message()), format!("write it like this one:\n{example}"))
    })
}

fn shown<'a>(run: &Run, line: &'a Line) -> Shown<'a> {
    let standing = match line.standing {
        Standing::Passed => "passed",
        Standing::Warned => "warned",
        Standing::Failed => "failed",
    };
    Shown { name: line.name, standing, what: &line.what, next: steps::told(run, line) }
}

fn page(answer: &Answer<'_>) -> Page {
    let mut page = Page::new();
    for line in &answer.lines {
        let style = match line.standing {
            "passed" => Style::Good,
            "warned" => Style::Doubtful,
            _ => Style::Bad,
        };
        page.row([Cell::styled(line.standing, style), line.name.into(), line.what.into()]);
    }
    let open: Vec<&Shown<'_>> = answer.lines.iter().filter(|line| !line.next.is_empty()).collect();
    if !open.is_empty() {
        page.heading("Next steps");
    }
    for line in open {
        page.line(format!("{}:", line.name));
        for step in &line.next {
            page.line(format!("  {}", step.sentence()));
        }
    }
    if let Some(estimate) = answer.estimate {
        forecast(&mut page, estimate);
    }
    page.heading(if answer.fit { "Fit for a backup." } else { "Not fit for a backup." });
    page
}

fn forecast(page: &mut Page, estimate: &Estimate) {
    page.heading("The next backup, about");
    if estimate.files > 0 {
        page.field("files", format!("{} of {} to copy", count(estimate.files_to_copy), count(estimate.files)));
    }
    let requests = estimate.requests.puts + estimate.requests.gets;
    if requests > 0 {
        let (puts, gets) = (count(estimate.requests.puts), count(estimate.requests.gets));
        page.field("requests", format!("{}: {puts} that write or list, {gets} that read", count(requests)));
    }
    let bytes = &estimate.bytes;
    let ways = [(bytes.sent, "sent"), (bytes.copied, "copied by the service"), (bytes.received, "read back")];
    let ways: Vec<String> =
        ways.into_iter().filter(|(bytes, _)| *bytes > 0).map(|(bytes, way)| format!("{} {way}", size(bytes))).collect();
    if !ways.is_empty() {
        page.field("bytes", ways.join(", "));
    }
    page.field("stored", format!("{} more", size(bytes.stored)));
    page.field("time", format!("{:.0} s", estimate.seconds.max(1.0)));
    if let Some(cost) = &estimate.cost {
        page.field(
            "cost",
            format!(
                "{:.4} {} for requests, {:.4} a month for what is stored more, up to {:.4} for what is read from outside",
                cost.requests, cost.currency, cost.month, cost.received
            ),
        );
        page.field("prices", format!("{} (another table: --prices FILE)", cost.prices));
    }
    if let Some(basis) = estimate.basis {
        let words = match basis {
            Basis::LastPoint => "from the newest point, in proportion",
            Basis::Tried => "made, counted, thrown away",
            Basis::Rough => "by rule of thumb; the first backup tells better",
        };
        page.field("sizes", format!("of database and records: {words}"));
    }
}
