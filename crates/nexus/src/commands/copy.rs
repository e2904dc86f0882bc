//! `copy`: a point taken into another vault, whole and by itself, and proven there.

use nexus_core::bucket::Address;
use nexus_core::copy::{self, CopyPlan, CopyReport, CopyRequest, There, Unfinished};
use nexus_core::error::Result;
use nexus_core::point::{Part, Proof, Verdict};
use nexus_core::vault::{RecoveryPoint, Vault};
use serde::Serialize;

use super::show::passed_over;
use super::summary;
use crate::cli::CopyArgs;
use crate::failure::Outcome;
use crate::page::Page;
use crate::run::Run;
use crate::settings::{AWS, Origin, S3Settings, Setting};
use crate::wording::{command_line, counted, size};

/// What was copied or would be, for programs.
#[derive(Debug, Serialize)]
struct Told<'a> {
    point: String,
    from: String,
    to: String,
    parts: &'a [Part],
    /// Parts of the point that are not in the copy.
    left: &'a [Part],
    files: u64,
    bytes: u64,
    /// How the copy stood before.
    there: There,
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<&'a Proof>,
    /// The command that restores it.
    #[serde(skip_serializing_if = "Option::is_none")]
    restore: Option<String>,
}

/// The other vault, with how it is reached.
struct Other {
    vault: Vault,
    /// The flags with which a restore reaches it.
    reach: Vec<String>,
}

/// Copies, or shows what would be.
pub async fn run(run: &Run, args: &CopyArgs, unfinished: &mut Option<Unfinished>) -> Result<Outcome> {
    let vault = run.vault().await?;
    let mut found = vault.find(&args.point, &args.only).await?;
    found.point = run.with_source(found.point).await?;
    passed_over(run, &found);
    let other = other(run, args, &found.point).await?;
    let request = CopyRequest { parts: args.only.clone(), scratch: run.scratch.path().to_path_buf() };
    let point = found.point;
    let plan = copy::plan(point.clone(), &other.vault, request).await?;
    if args.dry_run {
        let told = told(&point, &other, &plan, (None, None));
        run.terminal.answer(&page(&point, &other, &plan), &told);
        return Ok(Outcome::Done);
    }
    run.terminal.aside(&page(&point, &other, &plan));
    *unfinished = Some(plan.unfinished());
    let (parts, left, files, bytes, there) =
        (plan.parts.clone(), plan.left.clone(), plan.files, plan.bytes, plan.there);
    let report = if there == There::Whole {
        copy::prove(&plan, &other.vault, &run.clock, &run.events).await?
    } else {
        copy::copy(plan, &other.vault, &run.clock, &run.events).await?
    };
    *unfinished = None;
    let restore = restore_command(&report, &other);
    let told = Told {
        point: point.id().to_string(),
        from: vault.address().to_string(),
        to: other.vault.address().to_string(),
        parts: &parts,
        left: &left,
        files: files.files,
        bytes: bytes + files.bytes,
        there,
        dry_run: false,
        proof: Some(&report.verified.proof),
        restore: Some(restore),
    };
    run.terminal.answer(&done(&report, there, told.restore.as_deref().unwrap_or_default()), &told);
    ended(run, report)
}

/// Lets the point go when the copy was broken off.
pub async fn clear_up(run: &Run, unfinished: Option<Unfinished>) {
    if let Some(unfinished) = unfinished {
        unfinished.give_up(&run.clock, &run.events).await;
    }
}

fn ended(run: &Run, report: CopyReport) -> Result<Outcome> {
    if let Some(error) = &report.verified.unrecorded {
        run.terminal.warn(&format!("the copy's journal does not hold its proof: {error}"));
    }
    match (report.verified.proof.verdict, report.verified.trouble) {
        (Verdict::CouldNotVerify, Some(trouble)) => Err(trouble),
        (verdict, _) => Ok(Outcome::of(verdict == Verdict::Verified)),
    }
}

async fn other(run: &Run, args: &CopyArgs, point: &RecoveryPoint) -> Result<Other> {
    let (target, app) = (&args.target, point.vault().app());
    let flag = |value: &Option<String>, name| value.clone().map(|value| Setting { value, origin: Origin::Flag(name) });
    let named = run.settings.s3.other(
        flag(&target.to_endpoint, "--to-endpoint"),
        flag(&target.to_region, "--to-region"),
        flag(&target.to_profile, "--to-profile"),
    );
    let address = Address::parse(&target.to_vault, &run.folder)?;
    let reader = match &named {
        Some(settings) => run.other_reader(settings.clone(), &address).await?,
        None => run.reader(&address).await?,
    };
    copy::require_elsewhere(point, &reader, &address)?;
    let scratch = run.scratch.path().to_path_buf();
    let vault = if args.dry_run {
        Vault::open_or_imagine(&reader, &address, app, run.store_rules(), scratch, &run.clock).await?
    } else {
        if let Address::Folder(path) = &address {
            nexus_core::local::create_private_folder(path)?;
        }
        Vault::open_or_create(&reader, &address, app, run.store_rules(), scratch, &run.clock).await?
    };
    let s3 = named.as_ref().unwrap_or(&run.settings.s3);
    let mut reach = reach(s3, &address);
    reach.extend(reach_files(run, point, (&vault, s3)));
    Ok(Other { vault, reach })
}

/// The flags that lead to the files' own service, which is another one than the copy's.
fn reach_files(run: &Run, point: &RecoveryPoint, (other, s3): (&Vault, &S3Settings)) -> Vec<String> {
    let Some(part) = &point.manifest().parts.files else { return Vec::new() };
    let is_bucket = matches!(Address::parse(&part.source, &run.folder), Ok(Address::S3 { .. }));
    let mine = run.files_service();
    let same = other.reader().endpoint() == part.endpoint.as_deref() && s3.profile == mine.profile;
    if other.reader().is_folder() || !is_bucket || same {
        return Vec::new();
    }
    let mut words = vec!["--files-endpoint".to_owned(), part.endpoint.clone().unwrap_or_else(|| AWS.to_owned())];
    let lasting = |setting: &&Setting<String>| !matches!(setting.origin, Origin::Variable(_));
    if let Some(profile) = mine.profile.as_ref().filter(lasting) {
        words.extend(["--files-profile".to_owned(), profile.value.clone()]);
    }
    words
}

fn reach(s3: &S3Settings, address: &Address) -> Vec<String> {
    let mut words = vec!["--vault".to_owned(), address.to_string()];
    if matches!(address, Address::Folder(_)) {
        return words;
    }
    if let Some(endpoint) = s3.named_endpoint() {
        words.extend(["--endpoint".to_owned(), endpoint]);
    }
    let lasting = |setting: &&Setting<String>| !matches!(setting.origin, Origin::Variable(_));
    let flags = [("--region", s3.region.as_ref().filter(lasting)), ("--profile", s3.profile.as_ref().filter(lasting))];
    for (flag, setting) in flags {
        words.extend(setting.into_iter().flat_map(|setting| [flag.to_owned(), setting.value.clone()]));
    }
    words
}

fn restore_command(report: &CopyReport, other: &Other) -> String {
    let id = report.point.id().to_string();
    command_line(["nexus", "restore", &id].into_iter().chain(other.reach.iter().map(String::as_str)))
}

fn told<'a>(
    point: &RecoveryPoint,
    other: &Other,
    plan: &'a CopyPlan,
    (proof, restore): (Option<&'a Proof>, Option<String>),
) -> Told<'a> {
    Told {
        point: point.id().to_string(),
        from: point.vault().address().to_string(),
        to: other.vault.address().to_string(),
        parts: &plan.parts,
        left: &plan.left,
        files: plan.files.files,
        bytes: plan.bytes + plan.files.bytes,
        there: plan.there,
        dry_run: true,
        proof,
        restore,
    }
}

fn page(point: &RecoveryPoint, other: &Other, plan: &CopyPlan) -> Page {
    let mut page = Page::new();
    page.heading(format!("Copy of {}", point.id()));
    page.field("from", point.vault().address().to_string());
    page.field("to", other.vault.address().to_string());
    let parts: Vec<_> = plan.parts.iter().map(|part| part.name()).collect();
    page.field("parts", parts.join(", "));
    if !plan.left.is_empty() {
        let left: Vec<_> = plan.left.iter().map(|part| part.name()).collect();
        page.field("left out", left.join(", "));
    }
    if plan.files.files > 0 {
        page.field("files", format!("{}, {}", counted(plan.files.files, "file"), size(plan.files.bytes)));
    }
    if plan.bytes > 0 {
        page.field("the rest", size(plan.bytes));
    }
    page.field("by way of", way(point, other));
    match plan.there {
        There::Absent | There::Beside => {}
        There::Begun => page.field("there", "a copy that broke off, which is gone on with"),
        There::Whole => page.field("there", "the whole copy: it is only proven again"),
    }
    page
}

fn way(point: &RecoveryPoint, other: &Other) -> &'static str {
    if point.vault().reader().shares_service_with(other.vault.reader()) {
        "the service, which copies by itself"
    } else {
        "this machine, checked on both ends"
    }
}

fn done(report: &CopyReport, there: There, restore: &str) -> Page {
    let (point, proof) = (&report.point, &report.verified.proof);
    let mut page = Page::new();
    let did = if there == There::Whole { "is there already" } else { "copied" };
    page.heading(format!("{} {did}", point.id()));
    page.field("vault", point.vault().address().to_string());
    page.field("verdict", summary::verdict(proof.verdict));
    page.field("files", counted(proof.files, "file"));
    page.field("rows", counted(proof.rows, "row"));
    summary::findings(&mut page, "Findings", &proof.findings, Some(proof.findings_total));
    page.heading("To bring it back from there");
    page.line(format!("  {restore}"));
    page
}
