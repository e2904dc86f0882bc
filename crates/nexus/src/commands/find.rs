//! `find`: the records that fit conditions, in one point or in all of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nexus_core::error::{Error, Result};
use nexus_core::lookup::find::{Searched, Take, find};
use nexus_core::lookup::{Cost, LeftOut, points, table};
use nexus_core::point::Part;
use nexus_core::vault::RecoveryPoint;
use serde_json::json;

use super::get::cost;
use super::show::passed_over;
use crate::cli::FindArgs;
use crate::failure::Outcome;
use crate::page::Page;
use crate::run::Run;
use crate::terminal::Terminal;
use crate::wording::{count, counted, moment};

/// Finds them. Damaged records are a bad answer, none that fit is an answer.
pub async fn run(run: &Run, args: &FindArgs) -> Result<Outcome> {
    let vault = run.vault().await?;
    let (points, mut left_out) = if args.all {
        points(&vault).await?
    } else {
        let found = vault.find(&args.point, &[Part::Records]).await?;
        passed_over(run, &found);
        (vec![found.point], Vec::new())
    };
    let conditions = joined(&args.conditions);
    let mut answer = Answer::new(run, args, points.len());
    let mut refused = None;
    let mut searched = 0;
    for point in &points {
        match search(run, point, (&args.tables, &conditions), &mut answer).await {
            Ok(()) => searched += 1,
            Err(error) if args.all => {
                let Some(left) = LeftOut::of(point.id(), &error) else { return Err(answer.broken_off(error)) };
                left_out.push(left);
                if matches!(error, Error::Usage { .. }) || refused.is_none() {
                    refused = Some(error);
                }
            }
            Err(error) => return Err(answer.broken_off(error)),
        }
        answer.end_point();
    }
    match refused {
        Some(error) if searched == 0 => return Err(answer.broken_off(error)),
        None if searched == 0 => {
            return Err(Error::missing(format!("{} holds no point with records", vault.address())));
        }
        _ => {}
    }
    answer.end(&left_out);
    tell_left_out(run, &left_out);
    Ok(Outcome::of(!left_out.iter().any(|left| left.damaged)))
}

/// Names the points that could not answer.
pub fn tell_left_out(run: &Run, left_out: &[LeftOut]) {
    for left in left_out {
        let text = format!("{} was left out: {}", left.point, left.reason);
        if left.damaged { run.terminal.warn(&text) } else { run.terminal.note(&text) }
    }
}

async fn search(
    run: &Run,
    point: &RecoveryPoint,
    (tables, conditions): (&str, &[String]),
    answer: &mut Answer<'_>,
) -> Result<()> {
    // A name may have a comma itself.
    let names: Vec<&str> = match table(point, tables).await {
        Ok(_) => vec![tables],
        Err(error) if !tables.contains(',') => return Err(error),
        Err(_) => tables.split(',').map(str::trim).filter(|name| !name.is_empty()).collect(),
    };
    if names.is_empty() {
        return Err(Error::usage_hint(
            format!("{tables:?} names no table"),
            "name one, or several with commas between them: nexus find patients,visits",
        ));
    }
    // All of the question must be right before any of the answer is given.
    for name in &names {
        let table = table(point, name).await?;
        for text in conditions {
            nexus_core::lookup::Condition::parse(text, table)?;
        }
    }
    answer.several_tables |= names.len() > 1;
    for name in names {
        let take = answer.begin(point, name);
        let searched = find(point, (name, conditions), &run.scratch, take, &run.events).await?;
        answer.end_table(point, name, searched);
    }
    Ok(())
}

/// Words that a shell has parted belong together: `column is null`, `column is not null`.
fn joined(words: &[String]) -> Vec<String> {
    let is = |word: Option<&String>, text: &str| word.is_some_and(|word| word.eq_ignore_ascii_case(text));
    let mut conditions = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let long = is(words.get(at + 1), "is") && is(words.get(at + 2), "not") && is(words.get(at + 3), "null");
        let short = is(words.get(at + 1), "is") && is(words.get(at + 2), "null");
        let taken = if long {
            4
        } else if short {
            3
        } else {
            1
        };
        conditions.push(words[at..at + taken].join(" "));
        at += taken;
    }
    conditions
}

/// What is printed as it is found.
struct Answer<'a> {
    run: &'a Run,
    counts_only: bool,
    several_points: bool,
    several_tables: bool,
    page: Page,
    open: Open,
    /// JSON that opens the table at hand: empty once it is printed, none where no table is at hand.
    pending: Arc<Mutex<Option<String>>>,
    found: u64,
    rows: u64,
    cost: Cost,
    tables: u64,
}

/// A lock whose last holder may have panicked: what is behind it is only ever printed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How much of the JSON is open.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Open {
    Nothing,
    Points,
    Point,
}

impl<'a> Answer<'a> {
    fn new(run: &'a Run, args: &FindArgs, points: usize) -> Self {
        let mut page = Page::new();
        page.columns(["POINT", "INSTANT", "TABLE", "FOUND", "OF"]);
        Self {
            run,
            counts_only: args.count,
            several_points: args.all && points > 1,
            several_tables: false,
            page,
            open: Open::Nothing,
            pending: Arc::default(),
            found: 0,
            rows: 0,
            cost: Cost::default(),
            tables: 0,
        }
    }

    fn terminal(&self) -> &Terminal {
        &self.run.terminal
    }

    /// Opens a table, and says where its records go.
    fn begin(&mut self, point: &RecoveryPoint, name: &str) -> Take {
        let terminal = self.terminal().clone();
        let json = self.terminal().wants_json();
        if json {
            *locked(&self.pending) = Some(self.opening(point, name));
        }
        if self.counts_only {
            return Arc::new(|_| Ok(()));
        }
        if json {
            let (pending, first) = (Arc::clone(&self.pending), Mutex::new(true));
            return Arc::new(move |line| {
                terminal.raw(&locked(&pending).as_mut().map(std::mem::take).unwrap_or_default());
                let begins = std::mem::replace(&mut *locked(&first), false);
                terminal.raw(&format!("{}{line}", if begins { "\n" } else { ",\n" }));
                Ok(())
            });
        }
        let mut before = String::new();
        if self.several_points {
            before = format!("{}\t", point.id());
        }
        if self.several_tables {
            before = format!("{before}{name}\t");
        }
        Arc::new(move |line| {
            terminal.line(&format!("{before}{line}"));
            Ok(())
        })
    }

    /// The JSON before a table's records: it is printed once there is an answer, so that an error is the only thing said.
    fn opening(&self, point: &RecoveryPoint, name: &str) -> String {
        let mut text = match self.open {
            Open::Nothing => "{\"points\":[\n".to_owned(),
            Open::Points | Open::Point => ",\n".to_owned(),
        };
        if self.open != Open::Point {
            let head = json!({ "point": point.id(), "instant": point.manifest().instant }).to_string();
            text = format!("{text}{},\"tables\":[\n", head.trim_end_matches('}'));
        }
        let records = if self.counts_only { "" } else { ",\"records\":[" };
        format!("{text}{{\"table\":{}{records}", json!(name))
    }

    /// Closes what was printed before an error.
    fn broken_off(&mut self, error: Error) -> Error {
        self.end_point();
        if self.open == Open::Points {
            self.terminal().raw("\n],\"incomplete\":true}\n");
        }
        error
    }

    fn end_table(&mut self, point: &RecoveryPoint, name: &str, searched: Searched) {
        self.found += searched.found;
        self.rows += searched.rows;
        self.cost.add(searched.cost);
        self.tables += 1;
        if self.terminal().wants_json() {
            self.terminal().raw(&locked(&self.pending).take().unwrap_or_default());
            self.open = Open::Point;
            let closing = if self.counts_only { "" } else { "\n]" };
            self.terminal().raw(&format!("{closing},\"found\":{},\"rows\":{}}}", searched.found, searched.rows));
        }
        self.page.row([
            point.id().to_string().into(),
            moment(point.manifest().instant).into(),
            name.to_owned().into(),
            count(searched.found).into(),
            count(searched.rows).into(),
        ]);
    }

    fn end_point(&mut self) {
        // Records of a table were printed, and its search broke off.
        let cut = locked(&self.pending).take().is_some_and(|pending| pending.is_empty());
        if cut {
            self.terminal().raw("\n],\"incomplete\":true}");
            self.open = Open::Point;
        }
        if self.terminal().wants_json() && self.open == Open::Point {
            self.terminal().raw("\n]}");
            self.open = Open::Points;
        }
    }

    fn end(self, left_out: &[LeftOut]) {
        if self.terminal().wants_json() {
            let rest = json!({ "found": self.found, "left_out": left_out, "cost": self.cost }).to_string();
            self.terminal().raw(&format!("\n],{}\n", rest.trim_start_matches('{')));
        } else if self.counts_only {
            self.terminal().raw(&self.page.text(false));
        } else if self.tables > 1 {
            self.terminal().aside(&self.page);
        }
        let found = format!("{} of {} fit", counted(self.found, "record"), count(self.rows));
        self.terminal().note(&format!("{found}; {}", cost(&self.cost)));
    }
}
