//! Where points are kept: one app's vault in a bucket or folder, and nothing outside its prefix.

mod damage;
pub mod draft;
pub(crate) mod eraser;
pub mod journal;
mod kept;
pub mod layout;
mod records;
pub mod unended;

use std::path::PathBuf;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};

use crate::bucket::{Address, Reader, StoreOptions, Writer};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::listing::ListingReader;
use crate::point::{Abandonment, Claim, Ending, FORMAT, Manifest, Part, PointId, VaultDescriptor, document, parse};
use journal::{Entries, Journal};

/// What writes: the name and version in every document.
pub const SOFTWARE: &str = concat!("nexus ", env!("CARGO_PKG_VERSION"));
/// Points looked at at once.
const AT_ONCE: usize = 16;
/// How long a claim may say nothing before it counts as broken off. A running backup says each hour that it lives.
pub const SILENT: SignedDuration = SignedDuration::from_hours(24);
/// How long the copies of a claim that was given up are left alone: the next backup, of the next night too, goes on from them.
pub const SPARED: SignedDuration = SignedDuration::from_hours(48);

/// How what we write ourselves is stored: database, records, listing, manifest, journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreRules {
    /// `x-amz-server-side-encryption` of what we write; `None` leaves it to the bucket.
    pub encryption: Option<String>,
    /// Storage class of database copies.
    pub database_class: Option<String>,
    /// `x-amz-server-side-encryption` of the copies of files; `None` leaves it to the bucket.
    pub copies_encryption: Option<String>,
}

impl Default for StoreRules {
    fn default() -> Self {
        Self { encryption: Some("AES256".into()), database_class: Some("STANDARD_IA".into()), copies_encryption: None }
    }
}

/// One app's vault.
#[derive(Debug, Clone)]
pub struct Vault {
    writer: Writer,
    address: Address,
    descriptor: VaultDescriptor,
    rules: StoreRules,
    /// Runs of listings that memory should not hold go here.
    scratch: PathBuf,
}

/// What is known of one point.
#[derive(Debug, Clone)]
pub struct PointState {
    /// Its id.
    pub id: PointId,
    /// What it is.
    pub standing: Standing,
    /// What happened to it.
    pub journal: Entries,
    /// True when it was made of what an older tool had left, or is claimed to be.
    pub adopted: bool,
}

/// What a claimed id has come to.
#[derive(Debug, Clone)]
pub enum Standing {
    /// A point.
    Committed(Box<Manifest>),
    /// A claim that has not ended: a backup is running, or broke off.
    Unfinished(Box<Claim>),
    /// A claim that was given up: when, and why.
    Abandoned(Abandonment),
    /// Something of it cannot be read or understood.
    Unreadable(String),
}

impl PointState {
    /// The manifest of a committed point.
    pub fn manifest(&self) -> Option<&Manifest> {
        match &self.standing {
            Standing::Committed(manifest) => Some(manifest),
            _ => None,
        }
    }

    /// True when the point is committed and proven.
    pub fn is_proven(&self) -> bool {
        self.manifest().is_some_and(|manifest| self.journal.proven(manifest).is_some())
    }
}

/// The right to read one committed point.
#[derive(Debug, Clone)]
pub struct RecoveryPoint {
    vault: Vault,
    manifest: Manifest,
    journal: Entries,
    /// Where its files came from, when that was named.
    source: Option<Reader>,
}

/// A point that was asked for, and the newer ones that were not chosen for `latest`, each with the reason.
#[derive(Debug, Clone)]
pub struct Found {
    /// The point.
    pub point: RecoveryPoint,
    /// Newer ones, newest first.
    pub passed_over: Vec<(PointId, String)>,
}

impl Vault {
    /// Opens a vault that is there.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when there is none; [`Error::Usage`] when it belongs to another app than `app`.
    pub async fn open(
        reader: &Reader,
        address: &Address,
        app: Option<&str>,
        rules: StoreRules,
        scratch: PathBuf,
    ) -> Result<Self> {
        let key = format!("{}{}", address.prefix(), layout::DESCRIPTOR);
        let Some(bytes) = reader.read(&key).await? else {
            return Err(Error::missing(format!("there is no vault at {address}")));
        };
        let descriptor: VaultDescriptor = parse(&bytes, &format!("{address}/{}", layout::DESCRIPTOR))?;
        Self::owned_by(&descriptor, address, app)?;
        let writer = reader.writer(address.prefix());
        Ok(Self { writer, address: address.clone(), descriptor, rules, scratch })
    }

    /// Opens a vault, and makes it when there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when it belongs to another app.
    pub async fn open_or_create(
        reader: &Reader,
        address: &Address,
        app: &str,
        rules: StoreRules,
        scratch: PathBuf,
        clock: &Clock,
    ) -> Result<Self> {
        layout::check_app(app)?;
        match Self::open(reader, address, Some(app), rules.clone(), scratch.clone()).await {
            Err(Error::Missing { .. }) => {}
            opened => return opened,
        }
        reader.check().await?;
        let descriptor = VaultDescriptor {
            format: FORMAT,
            app: app.to_owned(),
            created: clock.now(),
            nonce: clock.nonce(),
            software: SOFTWARE.to_owned(),
        };
        let writer = reader.writer(address.prefix());
        let key = format!("{}{}", address.prefix(), layout::DESCRIPTOR);
        let options = StoreOptions { encryption: rules.encryption.clone(), ..json() };
        if !writer.create(&key, document(&descriptor).into(), &options).await? {
            // Another run made it this moment.
            return Self::open(reader, address, Some(app), rules, scratch).await;
        }
        Ok(Self { writer, address: address.clone(), descriptor, rules, scratch })
    }

    /// A vault that may not be there yet, to look at what lies in its place; nothing is written.
    ///
    /// # Errors
    ///
    /// As [`Vault::open`], but for one that is missing.
    pub async fn open_or_imagine(
        reader: &Reader,
        address: &Address,
        app: &str,
        rules: StoreRules,
        scratch: PathBuf,
        clock: &Clock,
    ) -> Result<Self> {
        layout::check_app(app)?;
        match Self::open(reader, address, Some(app), rules.clone(), scratch.clone()).await {
            Err(Error::Missing { .. }) => {}
            opened => return opened,
        }
        let (created, nonce, software) = (clock.now(), String::new(), SOFTWARE.to_owned());
        let descriptor = VaultDescriptor { format: FORMAT, app: app.to_owned(), created, nonce, software };
        Ok(Self { writer: reader.writer(address.prefix()), address: address.clone(), descriptor, rules, scratch })
    }

    fn owned_by(descriptor: &VaultDescriptor, address: &Address, app: Option<&str>) -> Result<()> {
        match app {
            Some(app) if app != descriptor.app => Err(Error::usage_hint(
                format!("the vault at {address} belongs to the app {:?}, not to {app:?}", descriptor.app),
                format!("give {app} a vault of its own, for example --vault {address}-{app}"),
            )),
            _ => Ok(()),
        }
    }

    /// The app it belongs to.
    pub fn app(&self) -> &str {
        &self.descriptor.app
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// How what we write is stored.
    pub fn rules(&self) -> &StoreRules {
        &self.rules
    }

    /// The reader of the bucket or folder it lies in.
    pub fn reader(&self) -> &Reader {
        self.writer.reader()
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }

    pub(crate) fn scratch(&self) -> &std::path::Path {
        &self.scratch
    }

    /// A key of the vault as the bucket knows it.
    pub(crate) fn full(&self, key: &str) -> String {
        format!("{}{key}", self.address.prefix())
    }

    /// A key of the vault in a person's words.
    pub fn name(&self, key: &str) -> String {
        format!("{}/{key}", self.address)
    }

    pub(crate) async fn read(&self, key: &str) -> Result<Option<Bytes>> {
        self.reader().read(&self.full(key)).await
    }

    pub(crate) async fn create(&self, key: &str, bytes: Vec<u8>) -> Result<bool> {
        let options = StoreOptions { encryption: self.rules.encryption.clone(), ..json() };
        self.writer.create(&self.full(key), bytes.into(), &options).await
    }

    /// Gives up multipart uploads that a killed run left in the vault more than a day ago; those of others are theirs.
    pub(crate) async fn sweep_uploads(&self, clock: &Clock, events: &Events) {
        let now = clock.now();
        let Ok(before) = now.checked_sub(SILENT) else { return };
        let mut swept = 0;
        for (key, upload) in self.writer.old_uploads(before).await {
            // One that cannot be told is left: it costs little, and may be somebody's.
            let left = self.is_left_behind(&key[self.address.prefix().len()..], now).await.unwrap_or(false);
            if left && self.writer.give_up_upload(&key, &upload).await.is_ok() {
                swept += 1;
            }
        }
        if swept > 0 {
            events.note(format!("{swept} multipart uploads of killed runs, over a day old, were given up"));
        }
    }

    /// True for the key of a point or a claim of ours whose backup does not run any more.
    async fn is_left_behind(&self, key: &str, now: Timestamp) -> Result<bool> {
        let id = match layout::stamp_of_database(key).filter(|_| key.starts_with(layout::DATABASE)) {
            Some(stamp) => self.ids().await?.into_iter().find(|id| id.stamp() == stamp),
            None => key.split_once('/').and_then(|(folder, _)| folder.parse().ok()),
        };
        let Some(id) = id else { return Ok(false) };
        Ok(match self.state(id).await?.map(|state| (state.standing, state.journal)) {
            None | Some((Standing::Unreadable(_), _)) => false,
            Some((Standing::Unfinished(claim), journal)) => {
                let last = journal.last_alive().unwrap_or(claim.started).max(claim.started);
                now.duration_since(last) > SILENT
            }
            Some((Standing::Committed(_) | Standing::Abandoned(_), _)) => true,
        })
    }

    /// All keys below a prefix, relative to the vault, for prefixes that hold few.
    pub(crate) async fn small_listing(&self, prefix: &str) -> Result<Vec<String>> {
        let listed = self.reader().list(&self.full(prefix), &self.scratch, &Events::none()).await?;
        let cut = self.address.prefix().len();
        listed
            .filter(|object| !object.as_ref().is_ok_and(|object| object.key.ends_with('/')))
            .map(|object| object.map(|object| object.key[cut..].to_owned()))
            .collect()
    }

    /// Every object of the vault with its size, in the order of the keys.
    pub(crate) async fn objects(&self, events: &Events) -> Result<impl Iterator<Item = Result<(String, u64)>> + use<>> {
        self.objects_of("", events).await
    }

    /// The same below a prefix.
    pub(crate) async fn objects_below(
        &self,
        prefix: &str,
    ) -> Result<impl Iterator<Item = Result<(String, u64)>> + use<>> {
        self.objects_of(prefix, &Events::none()).await
    }

    async fn objects_of(
        &self,
        prefix: &str,
        events: &Events,
    ) -> Result<impl Iterator<Item = Result<(String, u64)>> + use<>> {
        let listed = self.reader().list(&self.full(prefix), &self.scratch, events).await?;
        let (cut, folders) = (self.address.prefix().len(), self.reader().is_folder());
        let objects = listed.filter(move |object| {
            !object.as_ref().is_ok_and(|object| folders && object.kind == crate::listing::FileKind::Folder)
        });
        Ok(objects.map(move |object| object.map(|object| (object.key[cut..].to_owned(), object.side.size))))
    }

    /// The right to read a point whose manifest was read already; of its journal it knows nothing.
    pub(crate) fn point(&self, manifest: &Manifest) -> RecoveryPoint {
        RecoveryPoint { vault: self.clone(), manifest: manifest.clone(), journal: Entries::default(), source: None }
    }

    /// The same for one whose journal was read as well.
    pub(crate) fn point_of(&self, manifest: &Manifest, journal: Entries) -> RecoveryPoint {
        RecoveryPoint { journal, ..self.point(manifest) }
    }

    /// The ids that have something below them, oldest first. Not all of them need be points of ours.
    pub(crate) async fn ids(&self) -> Result<Vec<PointId>> {
        let folders = self.reader().folders(self.address.prefix()).await?;
        let mut ids: Vec<PointId> = folders.iter().filter_map(|name| name.parse().ok()).collect();
        ids.sort();
        Ok(ids)
    }

    /// All points and claims, newest first. Folders of other tools that look like points are left out.
    pub async fn points(&self) -> Result<Vec<PointState>> {
        let ids = self.ids().await?;
        let states: Vec<Option<PointState>> =
            stream::iter(ids.into_iter().rev()).map(|id| self.state(id)).buffered(AT_ONCE).try_collect().await?;
        Ok(states.into_iter().flatten().collect())
    }

    /// The claim of an id, however it ended, when it is there and can be understood.
    pub(crate) async fn claim_of(&self, id: &PointId) -> Result<Option<Claim>> {
        let key = layout::claim(id);
        Ok(self.read(&key).await?.and_then(|bytes| parse::<Claim>(&bytes, &self.name(&key)).ok()))
    }

    /// What is known of one id, or `None` when it is not ours.
    pub async fn state(&self, id: PointId) -> Result<Option<PointState>> {
        let (manifest, claim) = (layout::manifest(&id), layout::claim(&id));
        let journal = Journal::new(self.clone(), id.clone());
        let (ending, started, entries) =
            futures::join!(self.read(&manifest), self.read(&claim), Box::pin(journal.entries()));
        let (ending, started) = (ending?, started?);
        // One that cannot be read is told of where it counts.
        let claimed = started.as_ref().and_then(|bytes| parse::<Claim>(bytes, &self.name(&claim)).ok());
        let adopted = claimed.is_some_and(|claim| claim.adopted);
        let standing = match (ending, started) {
            (None, None) => return Ok(None),
            (Some(bytes), _) => self.ending(&id, &bytes),
            (None, Some(bytes)) => match parse::<Claim>(&bytes, &self.name(&claim)) {
                Ok(claim) => Standing::Unfinished(Box::new(claim)),
                Err(error) => Standing::Unreadable(error.to_string()),
            },
        };
        // A prune announces before it removes a manifest: what the journal said earlier could take a point for a backup that broke off.
        let journal = match standing {
            Standing::Committed(_) => entries?,
            _ => Box::pin(journal.entries()).await?,
        };
        Ok(Some(PointState { id, standing, journal, adopted }))
    }

    fn ending(&self, id: &PointId, bytes: &[u8]) -> Standing {
        let what = self.name(&layout::manifest(id));
        match parse::<Ending>(bytes, &what) {
            Ok(Ending::Committed(manifest)) if manifest.point != *id => {
                Standing::Unreadable(format!("{what} is the manifest of {}", manifest.point))
            }
            Ok(Ending::Committed(manifest)) => Standing::Committed(manifest),
            Ok(Ending::Abandoned(abandoned)) => Standing::Abandoned(abandoned.abandoned),
            Err(error) => Standing::Unreadable(error.to_string()),
        }
    }

    /// Finds the point that `selector` names: `latest`, `latest:<label>`, an id or an unambiguous beginning of one.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when there is none; [`Error::Usage`] when several begin like that;
    /// [`Error::Damaged`] or [`Error::Newer`] when it is named outright and its manifest cannot be used.
    pub async fn find(&self, selector: &str, needs: &[Part]) -> Result<Found> {
        match selector.split_once(':') {
            None if selector == "latest" => self.latest(None, needs).await,
            Some(("latest", label)) => self.latest(Some(label), needs).await,
            _ => self.named(selector).await,
        }
    }

    async fn latest(&self, label: Option<&str>, needs: &[Part]) -> Result<Found> {
        if let Some(label) = label {
            label.parse::<crate::point::Label>()?;
        }
        let mut passed_over = Vec::new();
        for id in self.ids().await?.into_iter().rev() {
            // One by one, newest first: what lies behind the one that fits need not be read.
            let Some(state) = self.state(id).await? else { continue };
            let fits = label.map_or(!state.id.label().is_aside(), |label| state.id.label().as_str() == label);
            if !fits {
                continue;
            }
            if let Some(reason) = unfit(&state, needs) {
                if reason != PRUNED {
                    passed_over.push((state.id, reason));
                }
                continue;
            }
            let PointState { standing: Standing::Committed(manifest), journal, .. } = state else { continue };
            let point = RecoveryPoint { vault: self.clone(), manifest: *manifest, journal, source: None };
            return Ok(Found { point, passed_over });
        }
        let of = label.map_or(String::new(), |label| format!(" with the label {label:?}"));
        let mut what = format!("{} holds no proven point{of} with all that is needed", self.address);
        for (id, reason) in passed_over.iter().take(3) {
            what = format!("{what}; {id}: {reason}");
        }
        Err(Error::missing(what))
    }

    async fn named(&self, selector: &str) -> Result<Found> {
        let ids = self.ids().await?;
        let matching: Vec<_> = ids.into_iter().filter(|id| id.to_string().starts_with(selector)).collect();
        let exact = matching.iter().find(|id| id.to_string() == selector).cloned();
        let id = match (exact, matching.as_slice()) {
            (Some(id), _) => id,
            (None, [id]) if !selector.is_empty() => id.clone(),
            (None, []) => return Err(Error::missing(format!("{} holds no point {selector:?}", self.address))),
            (None, several) => {
                let names: Vec<_> = several.iter().rev().take(5).map(ToString::to_string).collect();
                return Err(Error::usage_hint(
                    format!("{selector:?} begins the names of {} points", several.len()),
                    format!("give more of the id, for example one of {}", names.join(", ")),
                ));
            }
        };
        let state = self.state(id.clone()).await?;
        let Some(state) = state else {
            return Err(Error::missing(format!(
                "{} holds no point {selector:?}: that folder is another tool's",
                self.address
            )));
        };
        match state.standing {
            Standing::Committed(manifest) => {
                let point =
                    RecoveryPoint { vault: self.clone(), manifest: *manifest, journal: state.journal, source: None };
                Ok(Found { point, passed_over: Vec::new() })
            }
            Standing::Unfinished(_) if state.journal.announcements().next().is_some() => {
                Err(Error::missing(format!("{id} was pruned: there is no such point any more")))
            }
            Standing::Unfinished(_) => {
                Err(Error::missing(format!("{id} was started and never committed: there is no such point")))
            }
            Standing::Abandoned(given_up) => {
                Err(Error::missing(format!("{id} was given up ({}): there is no such point", given_up.reason)))
            }
            // Read once more for the error with its kind: newer and damaged have other remedies.
            Standing::Unreadable(reason) => match self.read(&layout::manifest(&id)).await? {
                Some(bytes) => match parse::<Ending>(&bytes, &self.name(&layout::manifest(&id))) {
                    Err(error) => Err(error),
                    Ok(_) => Err(Error::damaged(reason)),
                },
                None => Err(Error::damaged(reason)),
            },
        }
    }
}

/// Said of a point whose manifest a prune has removed, while copies in its folder are still used.
const PRUNED: &str = "pruned";

/// Why a point is not `latest`, or `None` when it may be.
fn unfit(state: &PointState, needs: &[Part]) -> Option<String> {
    let manifest = match &state.standing {
        Standing::Committed(manifest) => manifest,
        // A point that was pruned is none that anybody would look for.
        Standing::Unfinished(_) if state.journal.announcements().next().is_some() => return Some(PRUNED.into()),
        Standing::Unfinished(_) => return Some("not committed".into()),
        Standing::Abandoned(_) => return Some("given up".into()),
        Standing::Unreadable(reason) => return Some(format!("unreadable: {reason}")),
    };
    let (going, expired) = (state.journal.going(), state.journal.expired());
    if let Some(part) = needs.iter().find(|part| !manifest.has(**part)) {
        return Some(format!("it has no {part}"));
    }
    if needs.contains(&Part::Records) && manifest.own_records().is_none() {
        return Some("its records were written by an older tool".into());
    }
    if let Some(part) = needs.iter().find(|part| expired.contains(part)) {
        return Some(format!("its {part} expired"));
    }
    if let Some(part) = needs.iter().find(|part| going.contains(part)) {
        return Some(format!("its {part} are being pruned"));
    }
    if manifest.present().iter().all(|part| going.contains(part)) {
        return Some("it is being pruned".into());
    }
    if state.journal.failed() {
        return Some("a check found damage".into());
    }
    state.journal.proven(manifest).is_none().then(|| "not proven".into())
}

impl RecoveryPoint {
    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its id.
    pub fn id(&self) -> &PointId {
        &self.manifest.point
    }

    /// The vault it lies in.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// The same, knowing how the source of its files is reached.
    #[must_use]
    pub fn with_source(mut self, source: Reader) -> Self {
        self.source = Some(source);
        self
    }

    /// The right to read the source of its files, whose versions a point without copies consists of.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when nothing says how it is reached: it lies on another service than the vault.
    pub fn source(&self) -> Result<Reader> {
        if let Some(source) = &self.source {
            return Ok(source.clone());
        }
        let part = self.manifest.parts.files.as_ref();
        let part = part.ok_or_else(|| Error::missing(format!("{} has no files", self.id())))?;
        let bucket = part.source.strip_prefix("s3://").and_then(|rest| rest.split('/').next());
        let near = bucket.filter(|_| self.vault.reader().endpoint() == part.endpoint.as_deref());
        near.and_then(|bucket| self.vault.reader().sibling(bucket)).ok_or_else(|| {
            Error::usage_hint(
                format!("the files of {} are versions in {}, which this run does not reach", self.id(), part.source),
                format!("name its service: --files-endpoint {}", part.endpoint.as_deref().unwrap_or("aws")),
            )
        })
    }

    /// What had happened to it when it was looked up.
    pub fn entries(&self) -> &Entries {
        &self.journal
    }

    /// The right to add to its journal.
    pub fn journal(&self) -> Journal {
        Journal::new(self.vault.clone(), self.manifest.point.clone())
    }

    /// Fetches the database's copy into a private file, and compares its hash.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when the point has no database; [`Error::Damaged`] when the copy is not there or not as it was
    /// written.
    pub async fn database_copy(&self, scratch: &crate::local::Scratch) -> Result<PathBuf> {
        let Some(part) = &self.manifest.parts.database else {
            return Err(Error::missing(format!("{} has no database", self.id())));
        };
        let path = scratch.file("database.db");
        let what = self.vault.name(&part.object.key);
        match self.vault.reader().download(&self.vault.full(&part.object.key), &path).await? {
            None => Err(Error::damaged(format!("{what} is not there"))),
            Some(hash) if hash.sha256 != part.object.sha256 => {
                Err(Error::damaged(format!("{what} is not as it was written: its SHA-256 is another")))
            }
            Some(_) => Ok(path),
        }
    }

    /// Opens its file listing, after the whole of it was fetched and its hash compared.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when it is missing or not as it was written.
    pub async fn listing(&self, scratch: &crate::local::Scratch) -> Result<ListingReader> {
        let Some(files) = &self.manifest.parts.files else {
            return Err(Error::missing(format!("{} has no files", self.id())));
        };
        let what = self.vault.name(&files.listing.key);
        let path = scratch.file(&format!("{}.jsonl.zst", self.id()));
        if !path.exists() {
            // What broke off, or is another, must not be taken for the listing by a later call.
            let unfinished = path.with_extension("unfinished");
            let _ = std::fs::remove_file(&unfinished);
            match self.vault.reader().download(&self.vault.full(&files.listing.key), &unfinished).await? {
                Some(hash) if hash.sha256 == files.listing.sha256 => std::fs::rename(&unfinished, &path)
                    .map_err(|cause| Error::local(format!("cannot write `{}`", path.display()), cause))?,
                Some(_) => return Err(Error::damaged(format!("{what} is not as it was written"))),
                None => return Err(Error::damaged(format!("{what} is not there"))),
            }
        }
        ListingReader::open(&path, what)
    }
}

fn json() -> StoreOptions {
    let headers = [("content-type".to_owned(), "application/json".to_owned())].into();
    StoreOptions { headers, ..StoreOptions::default() }
}
