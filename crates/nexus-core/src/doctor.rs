//! The checklist before the deed: each line passed, warned or failed, with the next step; then what a backup will cost.
//!
//! It leaves nothing behind: what it tries, it tries on small objects of its own, which go again.

mod abilities;
mod database;
mod drill;
mod estimate;
mod files;
mod inventory;
mod line;
mod machine;
mod prices;
mod prune;
mod retention;
mod rights;
mod service;
mod sizes;
mod vault;

use crate::backup::BackupPlan;
use crate::bucket::inventory::InventoryAt;
use crate::bucket::{Address, Reader};
use crate::clock::Clock;
use crate::error::{Error, Result, chain};
use crate::event::Events;
use crate::local::Scratch;
use crate::retention::Rules;
use crate::vault::StoreRules;
pub use estimate::{Basis, Bytes, Cost, Estimate, Requests};
pub use line::{Line, Standing, Step};
pub use prices::{Prices, Storage};
pub use rights::Unfinished;

/// What is looked at.
#[derive(Debug, Clone)]
pub struct DoctorPlan {
    /// The backup that would be made.
    pub backup: BackupPlan,
    /// The app.
    pub app: String,
    /// The bucket or folder that the vault lies in, or would.
    pub vault: Reader,
    /// Where in it.
    pub address: Address,
    /// How what is written there is stored.
    pub rules: StoreRules,
    /// What is kept how long.
    pub retention: Rules,
    /// Whether anything is tried.
    pub trying: Trying,
    /// What tells which files to expect, in place of a listing.
    pub inventory: Option<InventoryAt>,
}

/// Whether rights are tried out, on objects of their own that go again, or nothing is written at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trying {
    /// They are.
    Rights,
    /// Nothing is written.
    Nothing,
}

/// Everything that was looked at, in its order.
#[derive(Debug, Default)]
pub struct Checklist {
    /// The lines.
    pub lines: Vec<Line>,
    /// What the next backup will take, where that could be seen.
    pub estimate: Option<Estimate>,
}

impl Checklist {
    /// True when nothing failed.
    pub fn is_fit(&self) -> bool {
        self.lines.iter().all(|line| line.standing != Standing::Failed)
    }
}

/// Looks at everything.
///
/// What is wrong is a line, never an error. `unfinished` learns what must be removed when this is not polled to its end.
///
/// # Errors
///
/// Those of this machine's scratch folder: without one nothing can be looked at.
pub async fn examine(
    plan: &DoctorPlan,
    prices: &Prices,
    clock: &Clock,
    events: &Events,
    unfinished: &mut Option<Unfinished>,
) -> Result<Checklist> {
    let scratch = Scratch::create(&plan.backup.scratch)?;
    // A service that does not answer has a line of its own.
    let mut lines: Vec<Line> = machine::clock(plan, clock).await.ok().flatten().into_iter().collect();
    let database = database::look(plan).await;
    // One that does not answer is not waited for again.
    let answers = database.iter().all(|line| line.name != "database" || line.standing != Standing::Failed);
    lines.extend(database);
    if answers {
        lines.extend(database::hold(plan, &scratch, clock, events).await);
    }
    let (more, reached) = vault::reach(plan, &scratch).await;
    lines.extend(more);
    let probe = rights::Probe::of(clock);
    if reached {
        lines.extend(service::lines(plan).await);
        if plan.trying == Trying::Rights {
            lines.extend(rights::lines(plan, &probe, clock, unfinished).await);
        }
    }
    lines.extend(files::look(plan, &probe, clock).await);
    lines.extend(vault::place(plan));
    lines.extend(retention::lines(plan, prices));
    if reached {
        lines.extend(prune::line(plan, &scratch, clock.now()).await);
        lines.extend(drill::line(plan, &scratch, clock.now()).await);
    }
    // What cannot be reached is not waited for again.
    let lost = lines.iter().any(|line| line.standing == Standing::Failed && ["vault", "files"].contains(&line.name));
    let (line, inventory) = if lost { (None, None) } else { inventory::look(plan, &scratch, clock).await };
    let lost = lost || line.as_ref().is_some_and(|line| line.standing == Standing::Failed);
    lines.extend(line);
    let estimated =
        if lost { None } else { Some(estimate::estimate(plan, prices, (&scratch, inventory), clock, events).await) };
    let estimate = match estimated {
        Some(Ok(estimate)) => Some(estimate),
        Some(Err(error)) if lines.iter().all(|line| line.standing != Standing::Failed) => {
            lines.push(Line::of_error("estimate", error));
            None
        }
        failed => {
            let why =
                failed.and_then(std::result::Result::err).map_or(String::new(), |error| format!(": {}", chain(&error)));
            let next = vec![Step::Say("mend what failed above, and look again".to_owned())];
            lines.push(Line::warned("estimate", format!("not made, nor was room looked for{why}"), next));
            None
        }
    };
    lines.extend(machine::room(plan, estimate.as_ref()));
    lines.extend(machine::records_folder(plan));
    Ok(Checklist { lines, estimate })
}

/// The quick half: what is to be seen without writing, listing or reading anything whole.
///
/// What `backup` itself finds out at once, before it claims anything, is not asked twice.
pub async fn glance(plan: &DoctorPlan, clock: &Clock) -> Vec<Line> {
    let mut lines = machine::records_folder(plan);
    lines.extend(machine::room_for_copy(plan));
    match machine::clock(plan, clock).await {
        Ok(line) => lines.extend(line),
        // Waited for once is long enough: nothing that follows would be answered.
        Err(error @ Error::Unreachable { .. }) => lines.push(Line::of_error("service", error)),
        Err(_) => {}
    }
    lines
}
