//! What a prune will do and did, for a person and for programs.

use jiff::Timestamp;
use nexus_core::point::{Count, Part, PointId};
use nexus_core::prune::{Announced, ClaimPlan, Doomed, Fate, Foreign, PrunePlan, Pruned, RecordFolder, Swept};
use nexus_core::retention::{Decision, Reason};
use nexus_core::vault::Vault;
use serde::Serialize;

use crate::page::{Cell, Page, Style};
use crate::wording::{counted, distance, moment, size};

/// How many foreign names a page shows.
const NAMES: usize = 10;

/// A plan for programs.
#[derive(Debug, Serialize)]
pub struct Planned<'a> {
    vault: String,
    dry_run: bool,
    decisions: &'a [Decision],
    remove: &'a [Doomed],
    claims: &'a [ClaimPlan],
    announced_by_others: &'a [Announced],
    record_folders: &'a [RecordFolder],
    objects: &'a Swept,
}

/// It.
pub fn planned<'a>(vault: &Vault, plan: &'a PrunePlan) -> Planned<'a> {
    Planned {
        vault: vault.address().to_string(),
        dry_run: true,
        decisions: &plan.decisions,
        remove: &plan.doomed,
        claims: &plan.claims,
        announced_by_others: &plan.announced,
        record_folders: &plan.folders,
        objects: &plan.swept,
    }
}

/// What was done, for programs.
#[derive(Debug, Serialize)]
pub struct Reported<'a> {
    vault: String,
    dry_run: bool,
    #[serde(flatten)]
    pruned: &'a Pruned,
}

/// It.
pub fn reported<'a>(vault: &Vault, pruned: &'a Pruned) -> Reported<'a> {
    Reported { vault: vault.address().to_string(), dry_run: false, pruned }
}

/// A plan.
pub fn plan(plan: &PrunePlan, now: Timestamp) -> Page {
    let mut page = Page::new();
    if !plan.decisions.is_empty() {
        page.columns(["POINT", "PARTS", "", "WHY"]);
    }
    for (point, parts, decision) in rows(&plan.decisions) {
        let fate = if decision.keep { Cell::styled("keep", Style::Good) } else { Cell::styled("remove", Style::Bad) };
        page.row([point.to_string().into(), words(&parts).into(), fate, why(&decision.reason, now).into()]);
    }
    claims(&mut page, &plan.claims, now);
    for announced in &plan.announced {
        let word = if announced.withdrawn { "is taken back" } else { "stands for a day" };
        let parts = words(&announced.parts);
        let ago = distance(announced.at, now);
        page.line(format!(
            "{}: a prune announced {parts} {ago} ago and did not remove it; that {word}",
            announced.point
        ));
    }
    page.heading("In all");
    let parts: usize = plan.doomed.iter().map(|doomed| doomed.parts.len()).sum();
    let whole = plan.doomed.iter().filter(|doomed| doomed.whole).count();
    page.field(
        "removes",
        format!("{} of {}, {} whole", counted(parts as u64, "part"), counted(plan.doomed.len() as u64, "point"), whole),
    );
    page.field("frees", freed(plan.swept.removed));
    folders(&mut page, &plan.folders);
    foreign(&mut page, &plan.swept.foreign);
    page
}

/// What was done.
pub fn report(pruned: &Pruned) -> Page {
    let mut page = Page::new();
    page.heading("Pruned");
    let whole: Vec<String> =
        pruned.removed.iter().filter(|doomed| doomed.whole).map(|doomed| doomed.point.to_string()).collect();
    page.field("points", if whole.is_empty() { "none removed".to_owned() } else { whole.join(", ") });
    for doomed in pruned.removed.iter().filter(|doomed| !doomed.whole) {
        page.field("parts", format!("{} of {}", words(&doomed.parts), doomed.point));
    }
    for claim in &pruned.claims {
        page.field("claims", claim.point.to_string());
    }
    page.field("freed", freed(pruned.swept.removed));
    folders(&mut page, &pruned.folders);
    for (point, why) in &pruned.withdrawn {
        page.field("stays", format!("{point}: {why}"));
    }
    for kept in pruned.kept.iter().take(NAMES) {
        page.field("locked", format!("{}: {}", kept.key, kept.why));
    }
    if pruned.kept.len() > NAMES {
        page.field("locked", format!("and {} more", counted((pruned.kept.len() - NAMES) as u64, "object")));
    }
    foreign(&mut page, &pruned.swept.foreign);
    page
}

/// The decisions, those of one point that say the same in one row.
fn rows(decisions: &[Decision]) -> Vec<(&PointId, Vec<Part>, &Decision)> {
    let mut rows: Vec<(&PointId, Vec<Part>, &Decision)> = Vec::new();
    for decision in decisions {
        let same = rows.iter_mut().rev().take_while(|(point, ..)| **point == decision.point);
        let same =
            same.into_iter().find(|(_, _, other)| other.keep == decision.keep && other.reason == decision.reason);
        match same {
            Some((_, parts, _)) => parts.push(decision.part),
            None => rows.push((&decision.point, vec![decision.part], decision)),
        }
    }
    rows
}

fn why(reason: &Reason, now: Timestamp) -> String {
    match reason {
        Reason::Young { until } => format!("{} more", distance(now, *until)),
        Reason::Over { since } => format!("over since {} ({} ago)", moment(*since), distance(*since, now)),
        reason => reason.to_string(),
    }
}

fn claims(page: &mut Page, claims: &[ClaimPlan], now: Timestamp) {
    for (at, claim) in claims.iter().enumerate() {
        if at == 0 {
            page.heading("Not points");
        }
        let ago = |at: &Timestamp| format!("{} ago", distance(*at, now));
        let (fate, words) = match &claim.fate {
            Fate::Running { alive } => ("keep", format!("a backup is under way, last heard of {}", ago(alive))),
            Fate::Spared { given_up } => ("keep", format!("given up {}: its copies stay for two days", ago(given_up))),
            Fate::Revoked { alive } => ("give up", format!("broke off: last heard of {}", ago(alive))),
            Fate::Swept { given_up } => ("clear", format!("given up {}", ago(given_up))),
            Fate::Forgotten { given_up } => ("remove", format!("given up {}", ago(given_up))),
            Fate::Finished => ("remove", "what an interrupted prune has left, or later points still used".to_owned()),
        };
        page.row([claim.point.to_string().into(), fate.into(), words.into()]);
    }
}

fn words(parts: &[Part]) -> String {
    let names: Vec<&str> = parts.iter().map(|part| part.name()).collect();
    names.join(",")
}

fn freed(count: Count) -> String {
    match count.files {
        0 => "nothing".to_owned(),
        objects => format!("{} in {}", size(count.bytes), counted(objects, "object")),
    }
}

fn folders(page: &mut Page, folders: &[RecordFolder]) {
    for folder in folders {
        page.field("records", format!("{} ({})", folder.path.display(), size(folder.bytes)));
    }
}

fn foreign(page: &mut Page, foreign: &Foreign) {
    if foreign.total.files == 0 {
        return;
    }
    page.heading(format!(
        "Not ours, never touched: {}, {}",
        counted(foreign.total.files, "object"),
        size(foreign.total.bytes)
    ));
    for name in foreign.names.iter().take(NAMES) {
        page.line(format!("  {name}"));
    }
    if foreign.names.len() > NAMES {
        page.line("  …");
    }
}
