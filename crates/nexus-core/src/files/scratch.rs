//! A prefix for the files of a rehearsal: claimed before anything is written below it, removed whole afterwards, and after a
//! kill by the next run.
//!
//! `<base>/<point>-<nonce>/` holds the files. `<base>/.nexus-rehearsals/<point>-<nonce>.json` says who works there: nothing is
//! ever removed without such a marker, and a marker names nothing but its own prefix.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::bucket::folder::Folder;
use crate::bucket::{Address, Bucket, Reader, Remover, StoreOptions};
use crate::error::{Error, Result, chain};
use crate::event::Events;
use crate::local::Scratch;
use crate::point::{FORMAT, PointId, document, parse};

/// Where the markers lie.
const MARKERS: &str = ".nexus-rehearsals/";
/// How they end.
const ENDING: &str = ".json";
/// A prefix that another machine claimed is left alone for this long: whether its owner lives cannot be seen from here.
const ELSEWHERE: SignedDuration = SignedDuration::from_hours(24);
/// Keys removed at once.
const BATCH: usize = 1_000;
/// How often a prefix is listed again until nothing is left: a copy that was dropped may still be ending.
const ROUNDS: u32 = 3;

/// Who works in a scratch prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The machine's name.
    pub machine: String,
    /// What tells one run of the machine from the next.
    pub boot: String,
    /// The process.
    pub process: u32,
    /// When the process began, in the machine's own count: numbers of processes are used again.
    pub begun: u64,
}

/// Whether an owner still works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Lives,
    /// It does not.
    Dead,
    /// It is another machine's, which cannot be seen from here.
    Elsewhere,
}

/// What a marker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    format: u32,
    /// The prefix it is for, one level below the base, without its `/`.
    scratch: String,
    #[serde(flatten)]
    owner: Owner,
    claimed: Timestamp,
}

/// A claimed prefix. It must be removed; when it is not, the next run does it once its owner is gone.
#[derive(Debug, Clone)]
pub struct ScratchFiles {
    base: Reader,
    /// The prefix of all rehearsals.
    within: String,
    name: String,
    address: Address,
}

impl ScratchFiles {
    /// Claims a prefix that nobody else has, below `address`.
    ///
    /// # Errors
    ///
    /// What the service or the disk fails with.
    pub async fn claim(
        (base, address): (&Reader, &Address),
        (point, nonce): (&PointId, &str),
        owner: &Owner,
        now: Timestamp,
    ) -> Result<Self> {
        let claimed = Self::at(base, address, format!("{point}-{nonce}"));
        base.make_folder()?;
        let marker = Marker { format: FORMAT, scratch: claimed.name.clone(), owner: owner.clone(), claimed: now };
        let key = claimed.marker();
        let options = StoreOptions::default();
        if claimed.base.writer(&key).create(&key, document(&marker).into(), &options).await? {
            return Ok(claimed);
        }
        Err(Error::Exists { what: format!("a rehearsal is under way at {}", claimed.address) })
    }

    fn at(base: &Reader, address: &Address, name: String) -> Self {
        let place = match address {
            Address::S3 { bucket, prefix } => {
                Address::S3 { bucket: bucket.clone(), prefix: format!("{prefix}{name}/") }
            }
            Address::Folder(path) => Address::Folder(path.join(&name)),
        };
        Self { base: base.clone(), within: address.prefix().to_owned(), name, address: place }
    }

    /// Where the files lie.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The right to read what [`ScratchFiles::address`] names.
    pub fn reader(&self) -> Reader {
        match &self.address {
            Address::S3 { .. } => self.base.clone(),
            Address::Folder(path) => Bucket::Folder(Folder::new(path.clone())).reader(),
        }
    }

    fn marker(&self) -> String {
        format!("{}{MARKERS}{}{ENDING}", self.within, self.name)
    }

    /// Removes everything below the prefix, then the marker.
    ///
    /// # Errors
    ///
    /// What the service or the disk fails with; the marker stays then, so that the next run goes on with it.
    pub async fn remove(self, scratch: &Scratch) -> Result<()> {
        let prefix = format!("{}{}/", self.within, self.name);
        let remover = self.base.writer(&prefix).remover();
        let mut round = 0;
        // What is in a folder need not have a name that a listing could show, and is not all shown.
        while !self.base.is_folder() && empty(&self.base, &prefix, &remover, scratch).await? > 0 {
            round += 1;
            if round == ROUNDS {
                return Err(Error::Changed {
                    what: format!("files at {} come back as they are removed", self.address),
                });
            }
        }
        remover.remove_folder().await?;
        if !self.base.is_made() {
            return Ok(());
        }
        let marker = self.marker();
        self.base.writer(&marker).remover().remove(&[marker]).await
    }
}

/// Removes what a listing of the prefix shows, and counts it.
async fn empty(base: &Reader, prefix: &str, remover: &Remover, scratch: &Scratch) -> Result<u64> {
    let (mut gone, mut batch) = (0, Vec::new());
    for object in base.list(prefix, scratch.path(), &Events::none()).await? {
        gone += 1;
        batch.push(object?.key);
        if batch.len() == BATCH {
            remover.remove(&batch).await?;
            batch.clear();
        }
    }
    remover.remove(&batch).await?;
    Ok(gone)
}

/// Removes the prefixes below `address` whose owners are dead, and names them; `life` looks at an owner.
///
/// One that cannot be removed is told of and stands in nobody's way.
///
/// # Errors
///
/// What looking for markers fails with.
pub async fn sweep(
    (base, address): (&Reader, &Address),
    life: &(dyn Fn(&Owner) -> Life + Sync),
    now: Timestamp,
    (scratch, events): (&Scratch, &Events),
) -> Result<Vec<String>> {
    let mut swept = Vec::new();
    if !base.is_made() {
        return Ok(swept);
    }
    let markers = format!("{}{MARKERS}", address.prefix());
    for object in base.list(&markers, scratch.path(), &Events::none()).await? {
        let key = object?.key;
        let Some(bytes) = base.read(&key).await? else { continue };
        // What is no marker of ours is not ours to remove.
        let Ok(marker) = parse::<Marker>(&bytes, &key) else { continue };
        let found = ScratchFiles::at(base, address, marker.scratch.clone());
        let gone = match life(&marker.owner) {
            Life::Lives => false,
            Life::Dead => true,
            Life::Elsewhere => now.duration_since(marker.claimed) > ELSEWHERE,
        };
        if !is_ours(&marker.scratch) || found.marker() != key || !gone {
            continue;
        }
        let place = found.address.to_string();
        match found.remove(scratch).await {
            Ok(()) => swept.push(place),
            Err(error) => events.warn(format!(
                "{place} was left by a rehearsal that was killed and could not be removed: {}",
                chain(&error)
            )),
        }
    }
    Ok(swept)
}

/// True for `<point>-<nonce>`, the only names that are ever made here.
fn is_ours(name: &str) -> bool {
    let parts = name.rsplit_once('-');
    let is_nonce = |nonce: &str| !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_alphanumeric());
    parts.is_some_and(|(point, nonce)| is_nonce(nonce) && point.parse::<PointId>().is_ok())
}
