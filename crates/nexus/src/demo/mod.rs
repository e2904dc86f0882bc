//! `demo`: a clinic-sized app on an S3 service in this process: backed up, wrecked, restored, compared, with times.
//!
//! It runs the same verbs by the same command lines as a person would, in an environment of its own: it reads nothing
//! of the user's and writes nothing outside its temporary folder.

mod mishap;
mod witness;
mod world;

use std::time::Instant;

use clap::Parser;
use nexus_core::error::{Error, Result};
use serde::Serialize;

use crate::cli::{Cli, DemoArgs};
use crate::commands;
use crate::failure::{Outcome, Situation};
use crate::interrupt::Interrupt;
use crate::page::{Page, Style};
use crate::terminal::Terminal;
use crate::wording::{count, took};
use mishap::Planted;
use witness::Compared;
use world::World;

/// One thing that was done, and how long it took.
#[derive(Debug, Serialize)]
struct Step {
    #[serde(rename = "step")]
    title: &'static str,
    detail: String,
    milliseconds: u64,
}

/// The demo for programs.
#[derive(Debug, Serialize)]
struct Told<'a> {
    steps: &'a [Step],
    rows: Compared,
    objects: Compared,
    equal: bool,
    milliseconds: u64,
}

/// Whether what a verb answers is printed.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Shown,
    Hidden,
}

/// The demo while it runs.
struct Demo<'a> {
    world: World,
    terminal: &'a Terminal,
    /// Where the verbs print: nowhere, when the demo's own JSON is all that is wanted.
    verbs: Terminal,
    interrupt: &'a Interrupt,
    steps: Vec<Step>,
}

/// Tells the whole story; a comparison that differs is a bad answer.
pub async fn run(
    args: &DemoArgs,
    temporary: &std::path::Path,
    terminal: &Terminal,
    interrupt: &Interrupt,
) -> Result<Outcome> {
    let begun = Instant::now();
    let world = World::make(args, temporary)?;
    let verbs = if terminal.wants_json() { terminal.silent() } else { terminal.clone() };
    let mut demo = Demo { world, terminal, verbs, interrupt, steps: Vec::new() };
    demo.did("make a clinic", begun, demo.world.detail());
    demo.back_up().await?;
    let before = demo.witness("take digests of every row and object").await?;
    demo.wreck()?;
    demo.restore().await?;
    if let Some(what) = args.plant.as_deref() {
        mishap::plant(&demo.world, if what == "row" { Planted::Row } else { Planted::Object })?;
    }
    let after = demo.witness("take the digests again").await?;
    let (rows, objects) = (before.rows(&after), before.objects(&after));
    let told = Told {
        steps: &demo.steps,
        equal: rows.is_equal() && objects.is_equal(),
        rows,
        objects,
        milliseconds: milliseconds(begun),
    };
    terminal.answer(&page(&told), &told);
    let outcome = Outcome::of(told.equal);
    if args.keep {
        demo.stay().await;
    }
    Ok(outcome)
}

impl Demo<'_> {
    async fn back_up(&mut self) -> Result<()> {
        // What `show` says next is all that this one would have said.
        self.verb("back up everything, and verify it", "nexus backup --label reimport", Answer::Hidden).await?;
        self.verb("show the point", "nexus show", Answer::Shown).await?;
        let begun = Instant::now();
        let detail = mishap::a_day_of_work(&self.world)?;
        self.did("a day of work", begun, detail);
        self.verb("back up again: only what changed is copied", "nexus backup --label reimport", Answer::Shown).await?;
        self.verb("list the points", "nexus list", Answer::Shown).await
    }

    fn wreck(&mut self) -> Result<()> {
        let begun = Instant::now();
        let detail = mishap::failed_import(&self.world)?;
        self.did("wreck it: a failed import", begun, detail);
        Ok(())
    }

    async fn restore(&mut self) -> Result<()> {
        self.verb("restore it", "nexus restore latest --delete-extra --yes", Answer::Shown).await
    }

    /// Runs a command line as a person would.
    async fn verb(&mut self, step: &'static str, line: &str, answer: Answer) -> Result<()> {
        self.say(&format!("$ {line}"));
        let begun = Instant::now();
        let cli = Cli::try_parse_from(line.split(' ')).map_err(|cause| Error::Local {
            what: format!("the demo cannot run `{line}`"),
            cause: Some(cause.into()),
        })?;
        let terminal = match answer {
            Answer::Shown => self.verbs.clone(),
            Answer::Hidden => self.verbs.silent(),
        };
        let environment = self.world.environment();
        let mut situation = Situation::default();
        // The demo is a verb itself, so the future that runs one lies on the heap.
        let verb = Box::pin(commands::carry_out(cli.verb, &environment, &terminal, self.interrupt, &mut situation));
        let outcome = verb.await?;
        if outcome == Outcome::Bad {
            return Err(Error::damaged(format!("`{line}` did not come out well")));
        }
        self.did(step, begun, format!("`{line}`"));
        Ok(())
    }

    async fn witness(&mut self, step: &'static str) -> Result<witness::Witness> {
        let begun = Instant::now();
        let seen = witness::look(&self.world).await?;
        self.did(step, begun, seen.detail());
        Ok(seen)
    }

    fn did(&mut self, step: &'static str, begun: Instant, detail: String) {
        self.say(&format!("✓ {step}: {detail}"));
        self.steps.push(Step { title: step, detail, milliseconds: milliseconds(begun) });
    }

    fn say(&self, text: &str) {
        self.terminal.note(text);
    }

    /// Waits for Ctrl-C with the service running.
    async fn stay(&self) {
        let mut page = Page::new();
        page.heading("The service runs until Ctrl-C. In another terminal:");
        for line in self.world.to_try() {
            page.line(format!("  {line}"));
        }
        self.terminal.aside(&page);
        self.interrupt.clone().came().await;
    }
}

fn page(told: &Told<'_>) -> Page {
    let mut page = Page::new();
    page.heading("What was done, and how long it took");
    for step in told.steps {
        page.row([format!("  {}", step.title).into(), took(step.milliseconds).into(), step.detail.clone().into()]);
    }
    page.row(["  in all".into(), took(told.milliseconds).into(), "".into()]);
    page.heading("Compared with digests taken before, by plain SQL and plain GETs");
    for (what, compared) in [("rows", &told.rows), ("objects", &told.objects)] {
        let style = if compared.is_equal() { Style::Good } else { Style::Bad };
        let text = format!("  {} of {} {what} are as they were", count(compared.equal), count(compared.total));
        page.line(crate::page::Cell::styled(text, style));
        for name in &compared.different {
            page.line(crate::page::Cell::styled(format!("    differs: {name}"), Style::Bad));
        }
    }
    page
}

fn milliseconds(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
