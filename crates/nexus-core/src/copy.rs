//! Copy: a point taken into another vault, whole and by itself, and proven there.
//!
//! It keeps its id and its instant; nothing of it depends on the vault it came from, nor on any other point. A claim in the other
//! vault names the point it is a copy of, so that a copy that broke off is gone on with by the next one of the same point.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use futures::future::{self, Either};
use serde::Serialize;

use crate::bucket::{Address, Reader, StoreOptions};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::files::carry;
use crate::files::rules::Rules;
use crate::local::{Given, Scratch};
use crate::point::{
    CopyOf, Count, DatabaseKind, DatabasePart, FORMAT, JournalEvent, Manifest, PINNED_LABEL, Part, Parts, RecordTable,
    RecordsPart, StoredObject, Verdict,
};
use crate::vault::draft::Draft;
use crate::vault::journal::Journal;
use crate::vault::{RecoveryPoint, SOFTWARE, Standing, Vault, layout};
use crate::verify::{self, LocalRecords, Verified, VerifyRequest, hash_local, record_files};

/// What the hold in the point's journal says.
const COPY: &str = "copy";

/// What to copy.
#[derive(Debug, Clone)]
pub struct CopyRequest {
    /// Which parts; empty: all that the point still has.
    pub parts: Vec<Part>,
    /// Where work in progress may lie.
    pub scratch: PathBuf,
}

/// What copying would do; nothing is written yet.
#[derive(Debug)]
pub struct CopyPlan {
    /// The parts that are copied.
    pub parts: Vec<Part>,
    /// Parts of the point that expired, or that nobody asked for.
    pub left: Vec<Part>,
    /// Files and their bytes.
    pub files: Count,
    /// Bytes of the database, and of the records.
    pub bytes: u64,
    /// How the copy stands in the other vault.
    pub there: There,
    point: RecoveryPoint,
    scratch: PathBuf,
    hold: Arc<OnceLock<String>>,
}

/// What must be cleared away when a copy is broken off.
#[derive(Debug)]
pub struct Unfinished {
    journal: Journal,
    hold: Arc<OnceLock<String>>,
}

impl Unfinished {
    /// Lets the point go, if it was held.
    pub async fn give_up(self, clock: &Clock, events: &Events) {
        if let Err(error) = self.journal.release(self.hold.get().cloned(), clock).await {
            events.warn(format!("the point's journal does not say that the copy is over: {error}"));
        }
    }
}

impl CopyPlan {
    /// What must be cleared away when the copy is broken off.
    pub fn unfinished(&self) -> Unfinished {
        Unfinished { journal: self.point.journal(), hold: Arc::clone(&self.hold) }
    }
}

/// How a copy stands in the other vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum There {
    /// Nothing of it is there.
    Absent,
    /// A copy was begun there and broke off: it is gone on with.
    Begun,
    /// It is there.
    Whole,
    /// It is to lie in the point's own vault, under an id of its own.
    Beside,
}

/// What copying came to.
#[derive(Debug)]
pub struct CopyReport {
    /// The copy.
    pub point: RecoveryPoint,
    /// Its proof in the other vault.
    pub verified: Verified,
}

/// Looks at the point and at what the other vault has of it. Nothing is written.
///
/// # Errors
///
/// [`Error::Usage`] when the other vault is the point's own, or another app's, or for a part that the point does not have;
/// [`Error::Exists`] when the other vault holds another point of this second.
pub async fn plan(point: RecoveryPoint, to: &Vault, request: CopyRequest) -> Result<CopyPlan> {
    require_elsewhere(&point, to.reader(), to.address())?;
    let from = point.vault();
    if from.app() != to.app() {
        return Err(Error::usage(format!(
            "the vault at {} is of {:?}, the point of {:?}",
            to.address(),
            to.app(),
            from.app()
        )));
    }
    let kept = point.kept();
    let parts = if request.parts.is_empty() { kept.clone() } else { request.parts };
    if let Some(part) = parts.iter().find(|part| !point.manifest().has(**part)) {
        return Err(Error::missing(format!("{} has no {part}", point.id())));
    }
    if parts.is_empty() {
        return Err(Error::missing(format!("nothing of {} is left: all its parts expired", point.id())));
    }
    point.require_kept(&parts).await?;
    if parts.contains(&Part::Records) && point.manifest().own_records().is_none() {
        return Err(Error::usage_hint(
            format!(
                "the records of {} were written by an older tool and lie on the machine that adopted them",
                point.id()
            ),
            format!("copy the rest: {}", without_records(&parts)),
        ));
    }
    let left = point.manifest().present().into_iter().filter(|part| !parts.contains(part)).collect();
    let there = there(&point, to, &parts).await?;
    let manifest = point.manifest();
    let of = |part: Part| parts.contains(&part);
    let files = manifest.parts.files.as_ref().filter(|_| of(Part::Files)).map(|files| files.total).unwrap_or_default();
    let database = manifest.parts.database.as_ref().filter(|_| of(Part::Database)).map_or(0, |part| part.object.bytes);
    let records = manifest.parts.records.as_ref().filter(|_| of(Part::Records));
    let records: u64 = records.map_or(0, |part| part.tables.iter().map(RecordTable::stored_bytes).sum());
    Ok(CopyPlan {
        parts,
        left,
        files,
        bytes: database + records,
        there,
        point,
        scratch: request.scratch,
        hold: Arc::default(),
    })
}

/// A copy of a point in its own vault, under an id of its own: what a point needs that consists of versions of its source and is
/// to stay for longer than they do.
///
/// # Errors
///
/// As [`plan`], for parts that are going.
pub async fn plan_beside(point: RecoveryPoint, scratch: PathBuf) -> Result<CopyPlan> {
    let parts = point.kept();
    point.require_kept(&parts).await?;
    let files = point.manifest().parts.files.as_ref().map(|files| files.total).unwrap_or_default();
    Ok(CopyPlan {
        parts,
        left: Vec::new(),
        files,
        bytes: 0,
        there: There::Beside,
        point,
        scratch,
        hold: Arc::default(),
    })
}

/// Refuses a place for the copy that is the point's own vault, or lies among the files that are backed up: those there would be
/// backed up with them, copy after copy. To be asked before a vault is made there.
///
/// # Errors
///
/// [`Error::Usage`] saying which of the two it is.
pub fn require_elsewhere(point: &RecoveryPoint, to: &Reader, address: &Address) -> Result<()> {
    let from = point.vault();
    let one_place = from.reader().place() == to.place() && from.reader().endpoint() == to.endpoint();
    if one_place && from.address() == address {
        return Err(Error::usage_hint(
            format!("{} lies in {address} already", point.id()),
            "name another vault with --to-vault, best with another account or provider",
        ));
    }
    let Some(part) = &point.manifest().parts.files else { return Ok(()) };
    let source = Address::parse(&part.source, Path::new("/"))?;
    let near = matches!(source, Address::Folder(_)) || to.endpoint() == part.endpoint.as_deref();
    let Some(place) = source.prefix_of(address).filter(|_| near) else { return Ok(()) };
    if !Rules::new(&part.rules)?.takes(&format!("{place}{}", layout::DESCRIPTOR)) {
        return Ok(());
    }
    Err(Error::usage_hint(
        format!("{address} lies among the files of {}, so that every backup would take the copies too", point.id()),
        format!("name a vault outside {}, best with another account or provider", part.source),
    ))
}

fn without_records(parts: &[Part]) -> String {
    let rest: Vec<&str> = parts.iter().filter(|part| **part != Part::Records).map(|part| part.name()).collect();
    format!("--only {}", rest.join(","))
}

async fn there(point: &RecoveryPoint, to: &Vault, parts: &[Part]) -> Result<There> {
    let of = |copy: Option<&CopyOf>| copy.is_some_and(|copy| copy.nonce == original(point.manifest()).nonce);
    let Some(state) = to.state(point.id().clone()).await? else { return Ok(There::Absent) };
    let going = state.journal.going();
    match state.standing {
        Standing::Committed(manifest) if of(manifest.copy_of.as_ref()) => {
            let lacks = |part: &&Part| !manifest.has(**part) || going.contains(*part);
            match parts.iter().find(lacks) {
                None => Ok(There::Whole),
                Some(part) => Err(Error::usage_hint(
                    format!(
                        "the copy of {} in {} is without its {part}, and a point never changes",
                        point.id(),
                        to.address()
                    ),
                    "copy it into another vault, or ask with --only for the parts that are there",
                )),
            }
        }
        Standing::Unfinished(claim) if of(claim.copy_of.as_ref()) && claim.parts != parts => {
            let names: Vec<&str> = claim.parts.iter().map(|part| part.name()).collect();
            Err(Error::usage_hint(
                format!("a copy of {} in {} was begun with other parts", point.id(), to.address()),
                format!("go on with it: --only {}", names.join(",")),
            ))
        }
        Standing::Unfinished(claim) if of(claim.copy_of.as_ref()) => Ok(There::Begun),
        Standing::Abandoned(given_up) => Err(Error::Exists {
            what: format!(
                "a copy of {} in {} was given up ({}): a prune there removes what is left of it two days later",
                point.id(),
                to.address(),
                given_up.reason
            ),
        }),
        _ => Err(Error::Exists { what: format!("{} holds another point {}", to.address(), point.id()) }),
    }
}

/// What a point is a copy of: itself, when it is none.
fn original(manifest: &Manifest) -> CopyOf {
    manifest.copy_of.clone().unwrap_or_else(|| CopyOf { nonce: manifest.nonce.clone(), vault: String::new() })
}

/// Copies, commits and proves; goes on where an earlier run broke off.
///
/// # Errors
///
/// [`Error::Damaged`] when the point is not whole where it lies: nothing is written then. Any error means that the copy was not
/// committed; what was copied stays for the next run.
pub async fn copy(plan: CopyPlan, to: &Vault, clock: &Clock, events: &Events) -> Result<CopyReport> {
    let scratch = Scratch::create(&plan.scratch)?;
    let journal = plan.point.journal();
    let target = Some(to.address().to_string());
    let hold = journal.hold(JournalEvent::Hold { by: COPY.to_owned(), safety: None, target }, clock, events).await?;
    if let Some(hold) = &hold {
        // A plan is carried out once, so that it is not set yet.
        let _ = plan.hold.set(hold.clone());
    }
    let copied = async {
        plan.point.require_still_kept(&plan.parts).await?;
        let bad_indexes = Box::pin(require_whole(&plan, events)).await?;
        let of = CopyOf { vault: plan.point.vault().address().to_string(), ..original(plan.point.manifest()) };
        let draft = match plan.there {
            There::Beside => to.begin_with(&PINNED_LABEL.parse()?, &plan.parts, (&[], None), clock).await?,
            _ => to.begin_copy(plan.point.id(), &plan.parts, of.clone(), clock).await?,
        };
        let filled = Box::pin(fill((&plan, of, &bad_indexes), &draft, &scratch, clock, events)).await;
        if filled.is_err() {
            to.reader().give_up_uploads().await;
            if plan.there == There::Beside {
                // Nobody will ask for this id again.
                let _ = draft.abandon("the copy failed", clock).await;
            }
        }
        filled
    }
    .await;
    let released = journal.release(hold, clock).await;
    let point = copied?;
    if let Err(error) = released {
        events.warn(format!("the journal of {} does not say that the copy is made: {error}", plan.point.id()));
    }
    let request = VerifyRequest { local: LocalRecords::Ignore, ..VerifyRequest::whole() };
    let verified = match verify::verify(&point, &request, &plan.scratch, clock, events).await {
        Ok(verified) => verified,
        // The copy is there all the same; that nobody could look at it is its verdict.
        Err(error) => Verified::unseen(&request, error),
    };
    Ok(CopyReport { point, verified })
}

/// Proves a copy that is there already.
///
/// # Errors
///
/// What the other vault cannot be read for.
pub async fn prove(plan: &CopyPlan, to: &Vault, clock: &Clock, events: &Events) -> Result<CopyReport> {
    let point = to.find(&plan.point.id().to_string(), &[]).await?.point;
    let request = VerifyRequest { local: LocalRecords::Ignore, ..VerifyRequest::whole() };
    let verified = verify::verify(&point, &request, &plan.scratch, clock, events).await?;
    Ok(CopyReport { point, verified })
}

/// A copy of what is damaged would be a copy that nobody can restore. Nothing that is restored needs an index: the files of those
/// that are not as they were written are answered, and the copy is without them.
async fn require_whole(plan: &CopyPlan, events: &Events) -> Result<Vec<String>> {
    let request = VerifyRequest { parts: plan.parts.clone(), local: LocalRecords::Ignore, ..VerifyRequest::whole() };
    let looked = verify::check(&plan.point, &request, &plan.scratch, events).await?;
    if let (Some(indexes), None) = (verify::bad_indexes(&plan.point, &looked.proof), &looked.trouble) {
        for index in &indexes {
            let id = plan.point.id();
            events.warn(format!("{index} of {id} is not as it was written, so the copy is without this index"));
        }
        return Ok(indexes);
    }
    match (looked.proof.verdict, looked.trouble) {
        (Verdict::Verified, _) => Ok(Vec::new()),
        (Verdict::Failed, _) => Err(Error::damaged(format!(
            "{} is not whole where it lies, so no copy is made of it: {} findings, the first is {}",
            plan.point.id(),
            looked.proof.findings_total,
            looked
                .proof
                .findings
                .first()
                .map_or_else(String::new, |first| format!("{:?}: {}", first.name, first.detail))
        ))),
        (Verdict::CouldNotVerify, Some(trouble)) => Err(trouble),
        (Verdict::CouldNotVerify, None) => Err(Error::damaged(format!("{} could not be looked at", plan.point.id()))),
    }
}

async fn fill(
    (plan, of_point, bad_indexes): (&CopyPlan, CopyOf, &[String]),
    draft: &Draft,
    scratch: &Scratch,
    clock: &Clock,
    events: &Events,
) -> Result<RecoveryPoint> {
    let of = |part: Part| plan.parts.contains(&part);
    let manifest = plan.point.manifest();
    let work = async {
        let database = async {
            match manifest.parts.database.as_ref().filter(|_| of(Part::Database)) {
                Some(part) => database(plan, part, draft, (clock, events)).await.map(Some),
                None => Ok(None),
            }
        };
        let records = async {
            match manifest.parts.records.as_ref().filter(|_| of(Part::Records)) {
                Some(part) => {
                    let part = without_indexes(part, bad_indexes);
                    records(plan, part, draft, (clock, events)).await.map(Some)
                }
                None => Ok(None),
            }
        };
        let files = async {
            match manifest.parts.files.as_ref().filter(|_| of(Part::Files)) {
                Some(_) => carry::carry(&plan.point, draft, (clock, scratch), events).await.map(Some),
                None => Ok(None),
            }
        };
        futures::try_join!(database, records, files)
    };
    let (work, alive) = (std::pin::pin!(work), std::pin::pin!(draft.keep_alive(clock)));
    let (database, records, files) = match future::select(work, alive).await {
        Either::Left((done, _)) => done?,
        Either::Right((error, _)) => return Err(error),
    };
    let claim = draft.claim();
    let whole = Manifest {
        format: FORMAT,
        point: claim.point.clone(),
        nonce: claim.nonce.clone(),
        software: SOFTWARE.to_owned(),
        committed: clock.now(),
        base: None,
        kept_for: manifest.kept_for.iter().filter(|(part, _)| of(**part)).map(|(part, kept)| (*part, *kept)).collect(),
        parts: Parts { database, files, records },
        findings: manifest.findings.iter().filter(|finding| finding.part.is_none_or(of)).cloned().collect(),
        copy_of: Some(of_point),
        ..manifest.clone()
    };
    draft.commit(&whole, clock).await
}

/// How an object of the point's own is stored.
fn stored_as(draft: &Draft, class: Option<&String>, content_type: &str) -> StoreOptions {
    StoreOptions {
        class: class.cloned(),
        encryption: draft.vault().rules().encryption.clone(),
        headers: [("content-type".to_owned(), content_type.to_owned())].into(),
    }
}

async fn database(
    plan: &CopyPlan,
    part: &DatabasePart,
    draft: &Draft,
    (clock, events): (&Clock, &Events),
) -> Result<DatabasePart> {
    let (app, id) = (draft.vault().app(), draft.id());
    let class = draft.vault().rules().database_class.clone();
    let stage = Stage::UploadDatabase;
    events.started(stage, None, Some(part.object.bytes));
    let (key, content_type) = match &part.kind {
        DatabaseKind::Sqlite { .. } => (layout::sqlite(app, id), "application/vnd.sqlite3"),
        DatabaseKind::Postgres { .. } => (layout::postgres(app, id), "application/octet-stream"),
    };
    let options = stored_as(draft, class.as_ref(), content_type);
    draft.require_lively(clock)?;
    let object = carry::object(&plan.point, &part.object, draft, (key, options), (stage, events)).await?;
    let mut kind = part.kind.clone();
    if let DatabaseKind::Postgres { postgres } = &mut kind
        && let Some(globals) = &mut postgres.globals
    {
        let options = stored_as(draft, None, "application/sql");
        draft.require_lively(clock)?;
        *globals =
            carry::object(&plan.point, globals, draft, (layout::globals(app, id), options), (stage, events)).await?;
    }
    events.ended(stage);
    Ok(DatabasePart { kind, object, ..part.clone() })
}

/// Records that go into the copy without some of their indexes.
fn without_indexes(part: &RecordsPart, files: &[String]) -> RecordsPart {
    let mut part = part.clone();
    for table in part.tables.iter_mut().filter(|table| files.contains(&table.index_file())) {
        table.index = None;
    }
    part
}

async fn records(
    plan: &CopyPlan,
    part: RecordsPart,
    draft: &Draft,
    (clock, events): (&Clock, &Events),
) -> Result<RecordsPart> {
    let stage = Stage::UploadRecords;
    let files: Vec<(String, StoredObject)> = record_files(&plan.point, &part)
        .map(|object| (object.key.rsplit('/').next().unwrap_or(&object.key).to_owned(), object))
        .collect();
    events.started(stage, Some(files.len() as u64), Some(files.iter().map(|(_, object)| object.bytes).sum()));
    for (file, object) in files {
        let key = layout::record(draft.id(), &file);
        draft.require_lively(clock)?;
        if part.in_vault {
            let options = stored_as(draft, None, layout::content_type(&file));
            carry::object(&plan.point, &object, draft, (key, options), (stage, events)).await?;
        } else {
            let local = part.folder.as_deref().unwrap_or_default();
            local_record(plan, draft, (Path::new(local), &file), StoredObject { key, ..object }, events).await?;
        }
    }
    events.ended(stage);
    Ok(RecordsPart { folder: None, in_vault: true, ..part })
}

/// Records that only this machine holds are stored from here.
async fn local_record(
    plan: &CopyPlan,
    draft: &Draft,
    (folder, file): (&Path, &str),
    object: StoredObject,
    events: &Events,
) -> Result<()> {
    let path = folder.join(file);
    let hash = hash_local(&path).map_err(|cause| Error::local(format!("cannot read `{}`", path.display()), cause))?;
    if hash.is_none_or(|hash| hash.sha256 != object.sha256) {
        return Err(Error::usage_hint(
            format!(
                "the records of {} are not in the vault, and `{}` is not as it was written",
                plan.point.id(),
                path.display()
            ),
            format!("run it where the records lie, or copy the rest: {}", without_records(&plan.parts)),
        ));
    }
    let kind = layout::content_type(file);
    let stored = draft.add_file(object, (&path, Given::Copied), kind, Stage::UploadRecords, events).await;
    match stored {
        // An earlier run of this copy has stored it; that it is what it should be is seen when the copy is proven.
        Ok(_) | Err(Error::Exists { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
