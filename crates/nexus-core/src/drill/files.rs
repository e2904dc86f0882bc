//! The files: all compared by listing before, some or all of them read from where their copies lie, and hashed.

use std::collections::BTreeSet;
use std::time::Instant;

use futures::stream::{self, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};

use super::{Look, Sample, milliseconds};
use crate::error::Result;
use crate::event::Stage;
use crate::listing::FileEntry;
use crate::point::{Count, Part, Sampled};
use crate::verify::{AT_ONCE, content};

/// So many listing lines are kept in memory; a larger sample is read while the listing goes by.
const AT_HAND: u64 = 10_000;

/// How the files were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesDrilled {
    /// Files whose copies were compared with a listing of the vault.
    pub compared: u64,
    /// How long comparing took, in milliseconds, with everything else that is small.
    pub compared_milliseconds: u64,
    /// Files that were read and hashed.
    pub read: Count,
    /// Files that have a copy.
    pub of: Count,
    /// How long reading took, in milliseconds.
    pub milliseconds: u64,
    /// Nothing kept the listing from being used.
    usable: bool,
    /// Reading went to its end over all of them that a listing found nothing wrong with.
    every: bool,
}

impl FilesDrilled {
    /// Files that were compared by listing and not read yet.
    pub(super) fn compared(compared: u64, compared_milliseconds: u64, usable: bool) -> Self {
        Self { compared, compared_milliseconds, usable, ..Self::default() }
    }

    /// What was read, when it was not everything.
    pub fn sampled(&self) -> Option<Sampled> {
        (!self.every).then_some(Sampled { read: self.read, of: self.of })
    }

    /// How long reading all of them would take, in milliseconds, from those that were read: by their number or by their
    /// bytes, whichever says more. Nothing where none were read.
    pub fn extrapolated(&self) -> Option<u64> {
        if self.every {
            return Some(self.milliseconds);
        }
        let times = |all: u64, read: u64| {
            let all = u128::from(self.milliseconds) * u128::from(all) / u128::from(read.max(1));
            u64::try_from(all).unwrap_or(u64::MAX)
        };
        let by_bytes = if self.read.bytes > 0 { times(self.of.bytes, self.read.bytes) } else { 0 };
        (self.read.files > 0).then(|| times(self.of.files, self.read.files).max(by_bytes))
    }
}

impl Look<'_> {
    /// Reads as many as the plan says of those that a listing found nothing wrong with.
    pub(super) async fn files(&mut self, mut seen: FilesDrilled) -> FilesDrilled {
        let Some(files) = &self.plan.point.manifest().parts.files else { return seen };
        seen.of = files.total;
        // A listing that is no use was found already.
        if !seen.usable || self.findings.iter().any(|finding| finding.name == files.listing.key) {
            return seen;
        }
        let lacking: BTreeSet<String> = self
            .findings
            .iter()
            .filter(|finding| finding.part == Some(Part::Files))
            .map(|finding| finding.name.clone())
            .collect();
        if let Err(error) = self.read_files(&lacking, &mut seen).await {
            self.meet(Part::Files, &files.listing.key, error);
        }
        seen
    }

    async fn read_files(&mut self, lacking: &BTreeSet<String>, seen: &mut FilesDrilled) -> Result<()> {
        let point = &self.plan.point;
        let has_copy = |entry: &FileEntry| entry.at.is_some();
        let (mut of, mut whole) = (Count::default(), 0);
        for entry in point.listing(&self.plan.scratch).await? {
            let entry = entry?;
            if has_copy(&entry) {
                of.add(entry.source.size);
                whole += u64::from(!lacking.contains(&entry.key));
            }
        }
        seen.of = of;
        let wanted = match self.plan.sample {
            Sample::All => whole,
            Sample::Files(number) => number.min(whole),
        };
        let mut choice = Choice::new(&self.clock.nonce(), whole, wanted);
        let entries = point.listing(&self.plan.scratch).await?.filter(|entry| {
            // An error is passed on, not counted.
            entry.as_ref().map_or(true, |entry| has_copy(entry) && !lacking.contains(&entry.key) && choice.takes())
        });
        // Going through a long listing takes longer than reading a few files: it must not count as their time.
        let few = wanted < whole && wanted <= AT_HAND;
        let entries: Box<dyn Iterator<Item = Result<FileEntry>> + Send> =
            if few { Box::new(entries.collect::<Vec<_>>().into_iter()) } else { Box::new(entries) };
        self.events.started(Stage::ReadFiles, Some(wanted), None);
        let begun = Instant::now();
        let events = self.events;
        let (read, found) = stream::iter(entries)
            .map(async |entry| content(point, &entry?, (Stage::ReadFiles, events)).await)
            .buffer_unordered(AT_ONCE)
            .try_fold((Count::default(), Vec::new()), async |(mut read, mut found), (bytes, finding)| {
                read.add(bytes);
                found.extend(finding);
                Ok((read, found))
            })
            .await?;
        seen.milliseconds = milliseconds(begun);
        self.events.ended(Stage::ReadFiles);
        seen.read = read;
        seen.every = wanted == whole;
        self.bytes += read.bytes;
        self.findings.extend(found);
        Ok(())
    }
}

/// Chooses so many of so many by chance, one after the other, each equally likely (Knuth, volume 2, algorithm S).
struct Choice {
    state: u64,
    left: u64,
    wanted: u64,
}

impl Choice {
    fn new(seed: &str, of: u64, wanted: u64) -> Self {
        let state = Sha256::digest(seed).iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        Self { state, left: of, wanted }
    }

    /// Whether the next one is chosen.
    fn takes(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        let chosen = self.next() % self.left < self.wanted;
        self.left -= 1;
        self.wanted -= u64::from(chosen);
        chosen
    }

    /// Source: Steele, Lea, Flood: "Fast splittable pseudorandom number generators" (2014), `SplitMix64`.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_as_many_are_chosen_as_are_wanted_and_others_by_another_seed() {
        let chosen = |seed: &str, wanted| {
            let mut choice = Choice::new(seed, 1_000, wanted);
            (0..1_000).filter(|_| choice.takes()).collect::<Vec<u64>>()
        };
        for wanted in [0, 1, 100, 999, 1_000] {
            assert_eq!(chosen("a", wanted).len() as u64, wanted);
        }
        assert_eq!(chosen("a", 100), chosen("a", 100));
        assert_ne!(chosen("a", 100), chosen("b", 100));
        let beyond = chosen("a", 100).iter().filter(|at| **at >= 500).count();
        assert!((20..80).contains(&beyond), "{beyond} of 100 lie in the second half");
    }

    #[test]
    fn a_sample_is_extrapolated_by_what_says_more_and_nothing_is_guessed_from_nothing() {
        let files = |read, milliseconds| FilesDrilled {
            read,
            of: Count { files: 1_000, bytes: 50_000 },
            milliseconds,
            every: read.files == 1_000,
            ..FilesDrilled::default()
        };
        // Small files of a vault with large ones: a tenth of the number, a fiftieth of the bytes.
        assert_eq!(files(Count { files: 100, bytes: 1_000 }, 200).extrapolated(), Some(10_000));
        assert_eq!(files(Count { files: 10, bytes: 25_000 }, 200).extrapolated(), Some(20_000));
        assert_eq!(files(Count { files: 1_000, bytes: 50_000 }, 200).extrapolated(), Some(200));
        assert_eq!(files(Count::default(), 200).extrapolated(), None);
    }
}
