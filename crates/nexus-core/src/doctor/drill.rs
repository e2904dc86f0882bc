//! Whether points are drilled.

use jiff::{SignedDuration, Timestamp};

use super::{DoctorPlan, Line, Step};
use crate::local::Scratch;
use crate::point::Verdict;
use crate::vault::{PointState, Vault};

/// How long ago the last drill may be.
const LONG: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Nothing where there is no vault yet, or no point that is proven.
pub(super) async fn line(plan: &DoctorPlan, scratch: &Scratch, now: Timestamp) -> Option<Line> {
    let (app, scratch) = (Some(plan.app.as_str()), scratch.path().to_path_buf());
    let vault = Vault::open(&plan.vault, &plan.address, app, plan.rules.clone(), scratch).await.ok()?;
    // What cannot be read has a line of its own.
    let points = vault.points().await.ok()?;
    look(&points, now)
}

fn look(points: &[PointState], now: Timestamp) -> Option<Line> {
    let name = "drill";
    let drills = points.iter().flat_map(|point| point.journal.proofs());
    let passed = drills.filter(|(_, proof)| proof.verdict == Verdict::Verified && !proof.measured.is_empty());
    let last = passed.map(|(at, _)| at).max();
    let oldest = points.iter().filter(|point| point.is_proven()).map(|point| point.id.claimed()).min();
    let days = |since: Timestamp| now.duration_since(since).as_hours() / 24;
    let next = || vec![Step::Nexus(vec!["drill".to_owned()])];
    match (last, oldest) {
        (Some(last), _) if now.duration_since(last) <= LONG => {
            Some(Line::passed(name, format!("a point was restored into scratch {} days ago", days(last))))
        }
        (Some(last), _) => {
            Some(Line::warned(name, format!("no point was restored into scratch for {} days", days(last)), next()))
        }
        (None, Some(oldest)) if now.duration_since(oldest) > LONG => Some(Line::warned(
            name,
            format!("no point was ever restored into scratch in {} days", days(oldest)),
            next(),
        )),
        (None, Some(_)) => Some(Line::passed(name, "the points are young, and none was restored into scratch yet")),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::doctor::Standing;
    use crate::point::{Depth, FORMAT, JournalEntry, JournalEvent, Manifest, Measured, Part, Parts, PointId, Proof};
    use crate::vault::Standing as Claimed;
    use crate::vault::journal::Entries;

    fn proof(depth: Depth, verdict: Verdict) -> Proof {
        let measured = [(Part::Database, Measured::default())].into();
        Proof {
            depth,
            verdict,
            parts: Vec::new(),
            files: 0,
            rows: 0,
            bytes_read: 0,
            milliseconds: 0,
            findings_total: 0,
            findings: Vec::new(),
            sampled: None,
            measured: if depth == Depth::Drill { measured } else { BTreeMap::new() },
        }
    }

    /// A proven point of so many days ago, with these checks so many days ago.
    fn point(now: Timestamp, days: i64, checks: &[(Depth, Verdict, i64)]) -> PointState {
        let ago = |days: i64| now - SignedDuration::from_hours(24 * days);
        let id = PointId::new("nightly".parse().expect("a label"), ago(days));
        let entry = |(depth, verdict, days): &(Depth, Verdict, i64)| {
            let proof = proof(*depth, *verdict);
            let event = match depth {
                Depth::Drill => JournalEvent::Drilled(proof),
                _ => JournalEvent::Verified(proof),
            };
            let (nonce, software) = (String::new(), String::new());
            JournalEntry { format: FORMAT, point: id.clone(), at: ago(*days), nonce, software, event }
        };
        let read = checks.iter().map(entry).collect();
        let manifest = Manifest {
            format: FORMAT,
            point: id.clone(),
            app: "clinic".into(),
            nonce: String::new(),
            software: String::new(),
            started: ago(days),
            instant: ago(days),
            committed: ago(days),
            base: None,
            kept_for: BTreeMap::new(),
            parts: Parts::default(),
            findings: Vec::new(),
            references: None,
            adopted: None,
            copy_of: None,
        };
        let journal = Entries { read, unreadable: Vec::new() };
        PointState { id, standing: Claimed::Committed(Box::new(manifest)), journal, adopted: false }
    }

    #[test]
    fn a_drill_that_is_long_ago_or_never_was_is_named_and_one_that_failed_is_none() {
        let now: Timestamp = "2025-11-15T12:00:00Z".parse().expect("a time");
        let verified = |days| (Depth::Default, Verdict::Verified, days);
        let drilled = |verdict, days| (Depth::Drill, verdict, days);
        let standing = |points: &[PointState]| look(points, now).map(|line| line.standing);
        assert_eq!(standing(&[]), None);
        assert_eq!(standing(&[point(now, 10, &[verified(10)])]), Some(Standing::Passed));
        assert_eq!(standing(&[point(now, 40, &[verified(40)])]), Some(Standing::Warned));
        let fresh = [verified(40), drilled(Verdict::Verified, 3)];
        assert_eq!(standing(&[point(now, 40, &fresh)]), Some(Standing::Passed));
        let old = [verified(90), drilled(Verdict::Verified, 31)];
        assert_eq!(standing(&[point(now, 90, &old)]), Some(Standing::Warned));
        let failed = [drilled(Verdict::CouldNotVerify, 3), verified(2)];
        assert_eq!(standing(&[point(now, 40, &failed)]), Some(Standing::Warned));
    }
}
