//! `rehearse`: a point restored into scratch, a command run there, and what it changed.

mod child;
mod ground;
mod owner;
mod pages;
mod variables;

use std::process::ExitStatus;

use nexus_core::bucket::{Address, Reader};
use nexus_core::changes::files::Likeness;
use nexus_core::error::{Error, Result};
use nexus_core::files::scratch::sweep;
use nexus_core::rehearse::look::{Changes, Place, Rows, Seen, compare};
use nexus_core::rehearse::{Ground, RehearsePlan};
use tokio::process::Child;

use super::show::passed_over;
use crate::cli::RehearseArgs;
use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::run::Run;
use crate::settings::Environment;
use variables::Variables;

/// Tells what a rehearsal has started from all other processes.
const MARK: &str = "NEXUS_REHEARSAL_ID";

/// What a rehearsal works with, all of it looked at and nothing made.
struct Prepared {
    plan: RehearsePlan,
    variables: Variables,
    /// The probe; none: the settings are trusted.
    probe: Option<String>,
    /// The application's own places; an error: why they cannot be looked at.
    own: Result<Place>,
}

/// What came of the command.
struct Rehearsed {
    status: ExitStatus,
    milliseconds: u64,
    /// An error: the command left something there that cannot be looked at.
    changes: Result<Changes>,
    application: Application,
}

/// What became of the application meanwhile.
enum Application {
    /// It was looked at before and after.
    Seen(Changes),
    /// It could not be looked at.
    Unseen(Error),
}

impl Application {
    fn is_unchanged(&self) -> bool {
        matches!(self, Self::Seen(changes) if changes.is_none())
    }
}

/// Rehearses, or shows what would be made. Whatever happens, scratch is removed.
pub async fn run(run: &Run, args: &RehearseArgs, environment: &Environment, interrupt: &Interrupt) -> Result<Outcome> {
    if !run.settings.rehearse.environment.contains_key("PATH") {
        child::require(&args.command, environment)?;
    }
    let prepared = run.work(prepare(run, args), interrupt).await?;
    if args.dry_run {
        run.terminal.answer(&pages::plan(&prepared), &pages::planned(&prepared));
        return Ok(Outcome::Done);
    }
    run.terminal.aside(&pages::plan(&prepared));
    let Prepared { plan, variables, probe, own } = prepared;
    let mut ground = Ground::new(plan);
    let mut command = None;
    let mark = run.clock.nonce();
    let work = Work { run, args, environment, variables: &variables, probe: probe.as_deref(), mark: &mark };
    let done = run.work(Box::pin(work.carry_out(own, &mut ground, &mut command)), interrupt).await;
    let mark = format!("{MARK}={mark}");
    if let Some(mut command) = command {
        child::end(&mut command, &mark).await;
    }
    let running: Vec<String> = child::left(&mark).iter().map(ToString::to_string).collect();
    if !running.is_empty() {
        let ids = running.join(", ");
        run.terminal.warn(&format!("what the command started still runs as process {ids}, and its scratch goes now"));
    }
    let scratch = pages::Scratch::of(&ground);
    let left = ground.clear(&run.scratch, (&run.clock, &run.events)).await;
    for place in &left {
        run.terminal.warn(&format!("scratch could not be removed; the next rehearsal does it: {place}"));
    }
    let Rehearsed { status, milliseconds, changes, application } = done?;
    let (about, status) = ((args, &application), (status, milliseconds));
    let changes = match changes {
        Ok(changes) => changes,
        Err(error) => {
            pages::warn(run, about, status.0);
            // Whatever it is, it is the command's work and no damage of the point.
            let what = "what the command changed cannot be seen".to_owned();
            return Err(Error::Local { what, cause: Some(error.into()) });
        }
    };
    let removed = if left.is_empty() { pages::Removed::Whole } else { pages::Removed::Partly };
    pages::tell(run, about, &scratch, (status, &changes), removed);
    let alone = !args.exclusive || application.is_unchanged();
    Ok(Outcome::of(status.0.success() && left.is_empty() && alone))
}

/// Finds the point and looks at every place that has a part in it.
async fn prepare(run: &Run, args: &RehearseArgs) -> Result<Prepared> {
    let probe = probe(run, args)?;
    let vault = run.vault().await?;
    let needs = ground::needs(&vault, args).await?;
    let mut found = vault.find(&args.point, &needs).await?;
    found.point = run.with_source(found.point).await?;
    passed_over(run, &found);
    let point = found.point;
    let own = ground::own(run, &point).await;
    if let (Err(error), true) = (&own, args.exclusive) {
        return Err(Error::usage_hint(
            format!("--exclusive is about the application itself, which cannot be looked at: {error}"),
            "leave --exclusive out, or name the application's database as the point has it",
        ));
    }
    let request = ground::request(run, args, &point, own.as_ref().ok()).await?;
    let variables = Variables::read(&run.settings.rehearse.environment)?;
    variables.check(&point, request.files.as_ref().map(|files| &files.address))?;
    let plan = RehearsePlan::make(point, request).await?;
    Ok(Prepared { plan, variables, probe, own })
}

/// The probe, which must be there unless the settings are trusted.
fn probe(run: &Run, args: &RehearseArgs) -> Result<Option<String>> {
    if args.trust_env {
        return Ok(None);
    }
    let probe = run.settings.rehearse.probe.clone().filter(|probe| !probe.trim().is_empty());
    probe.map(Some).ok_or_else(|| {
        Error::usage_hint(
            "nothing shows that the command would work on the scratch and not on the application itself",
            "write [rehearse] probe = \"…\" into nexus.toml: a command that prints the database (and bucket and prefix) that \
             the application's own settings lead to; or pass --trust-env",
        )
    })
}

/// What does the work, and what it works with.
struct Work<'a> {
    run: &'a Run,
    args: &'a RehearseArgs,
    environment: &'a Environment,
    variables: &'a Variables,
    probe: Option<&'a str>,
    mark: &'a str,
}

/// Removes the scratch files that rehearsals which were killed have left, where the configuration says that they go.
pub async fn sweep_scratch(run: &Run) -> Result<()> {
    let Some(bucket) = &run.settings.rehearse.bucket else { return Ok(()) };
    let reader = run.files_reader(&bucket.value).await?;
    sweep_left(run, (&reader, &bucket.value)).await
}

async fn sweep_left(run: &Run, (reader, address): (&Reader, &Address)) -> Result<()> {
    let mine = owner::here();
    let life = |of: &nexus_core::files::scratch::Owner| owner::life(of, &mine);
    for place in sweep((reader, address), &life, run.clock.now(), (&run.scratch, &run.events)).await? {
        run.terminal.note(&format!("removed {place}, which a rehearsal that was killed had left"));
    }
    Ok(())
}

impl Work<'_> {
    async fn carry_out(
        &self,
        own: Result<Place>,
        ground: &mut Ground,
        command: &mut Option<Child>,
    ) -> Result<Rehearsed> {
        let (run, tools) = (self.run, (&self.run.clock, &self.run.events));
        self.sweep(ground).await?;
        ground.make(&owner::here(), &run.scratch, tools).await?;
        let place = ground.place().ok_or_else(|| Error::usage("no database was made"))?;
        let mut variables = self.variables.of(ground)?;
        variables.insert(MARK.to_owned(), self.mark.to_owned());
        if let Some(probe) = self.probe {
            child::probe(probe, (&variables, self.environment), &variables::expected(ground)).await?;
        }
        let before = self.look(&place, ground, Rows::Kept).await?;
        let own_before = self.look_at_own(own, ground).await?;
        let begun = std::time::Instant::now();
        let output = || run.terminal.for_children();
        let started = command.insert(child::start(&self.args.command, (&variables, self.environment), &output)?);
        let status = child::wait(started).await?;
        *command = None;
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let application = self.compare_own(own_before, ground).await;
        let changes = async {
            let after = self.look(&place, ground, Rows::Kept).await?;
            compare(before, after, Likeness::Content, &run.scratch).await
        };
        let changes = changes.await;
        Ok(Rehearsed { status, milliseconds, changes, application })
    }

    /// Removes the files that rehearsals which were killed have left.
    async fn sweep(&self, ground: &Ground) -> Result<()> {
        let Some(files) = ground.files_ground() else { return Ok(()) };
        sweep_left(self.run, (&files.reader, &files.address)).await
    }

    async fn look(&self, place: &Place, ground: &Ground, rows: Rows) -> Result<Seen> {
        let run = self.run;
        let how = (rows, run.settings.lock_wait.duration());
        place.look(ground.point(), how, &run.scratch, (&run.clock, &run.events)).await
    }

    /// Looks at the application itself; that it cannot be is only told, unless it must not change.
    async fn look_at_own(&self, own: Result<Place>, ground: &Ground) -> Result<Result<(Place, Seen)>> {
        let looked = match own {
            Ok(place) => self.look(&place, ground, Rows::Hashed).await.map(|seen| (place, seen)),
            Err(error) => Err(error),
        };
        if self.args.exclusive { Ok(Ok(looked?)) } else { Ok(looked) }
    }

    async fn compare_own(&self, before: Result<(Place, Seen)>, ground: &Ground) -> Application {
        let compared = async {
            let (place, before) = before?;
            let after = self.look(&place, ground, Rows::Hashed).await?;
            compare(before, after, Likeness::Untouched, &self.run.scratch).await
        };
        compared.await.map_or_else(Application::Unseen, Application::Seen)
    }
}
