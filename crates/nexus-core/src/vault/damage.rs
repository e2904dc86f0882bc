//! When damage that a check found counts as cleared: by looks that were as deep where it lay, and by no others.

use crate::point::{Depth, FindingKind, Part, Proof, Verdict};

/// True when one of these proofs, oldest first, found damage that those after it have not cleared.
pub(super) fn is_left(proofs: &[&Proof]) -> bool {
    let mut numbered = proofs.iter().enumerate();
    numbered.any(|(at, proof)| proof.verdict == Verdict::Failed && !is_cleared(proof, &proofs[at + 1..]))
}

/// True when later proofs have looked as deep at all that this one found damaged, and found nothing.
///
/// Bytes that were read and found wrong are not seen by a listing, and what a drill found in the restored database is not
/// seen by who does not restore it.
fn is_cleared(failed: &Proof, later: &[&Proof]) -> bool {
    let verified = || later.iter().filter(|proof| proof.verdict == Verdict::Verified);
    let clears = |(part, depth): (Part, Depth)| {
        verified().any(|proof| proof.parts.contains(&part) && reached(proof, part) >= depth)
    };
    // Claim and journal are looked at by every check.
    verified().next().is_some() && damaged(failed).into_iter().all(clears)
}

/// The parts that were found damaged, each with how deep a look must be to see that.
fn damaged(failed: &Proof) -> Vec<(Part, Depth)> {
    let (listed, total) = (failed.findings.len() as u64, failed.findings_total);
    if listed == 0 || listed < total {
        return failed.parts.iter().map(|part| (*part, reached_to_fail(failed, *part))).collect();
    }
    let needed = failed.findings.iter().filter_map(|finding| {
        let part = finding.part?;
        let reached = reached_to_fail(failed, part);
        // Any listing shows what is not there.
        let is_listed = part == Part::Files && finding.kind == FindingKind::Missing;
        Some((part, if is_listed { reached.min(Depth::Default) } else { reached }))
    });
    needed.collect()
}

/// How deep a check looked at a part; a sampled drill at all files no deeper than a listing.
fn reached(proof: &Proof, part: Part) -> Depth {
    match part {
        Part::Files => proof.depth.min(Depth::Full),
        Part::Database | Part::Records if is_drill(proof) => Depth::Drill,
        // To read every byte of files adds nothing here.
        Part::Database | Part::Records => proof.depth.min(Depth::Default),
    }
}

/// How deep a failed check may have looked to find what it found: a sampled drill has read some of the files.
fn reached_to_fail(proof: &Proof, part: Part) -> Depth {
    if part == Part::Files && proof.sampled.is_some() { Depth::Full } else { reached(proof, part) }
}

fn is_drill(proof: &Proof) -> bool {
    proof.depth == Depth::Drill || proof.sampled.is_some()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::point::{Finding, Sampled};

    fn proof(depth: Depth, verdict: Verdict, parts: &[Part]) -> Proof {
        Proof {
            depth,
            verdict,
            parts: parts.to_vec(),
            files: 0,
            rows: 0,
            bytes_read: 0,
            milliseconds: 0,
            findings_total: 0,
            findings: Vec::new(),
            sampled: None,
            measured: BTreeMap::new(),
        }
    }

    fn failed(depth: Depth, part: Part, kind: FindingKind) -> Proof {
        let finding = Finding { part: Some(part), kind, name: "a".into(), detail: String::new() };
        Proof { findings_total: 1, findings: vec![finding], ..proof(depth, Verdict::Failed, &Part::ALL) }
    }

    fn verified(depth: Depth) -> Proof {
        proof(depth, Verdict::Verified, &Part::ALL)
    }

    fn sampled(proof: Proof) -> Proof {
        Proof { depth: Depth::Default, sampled: Some(Sampled::default()), ..proof }
    }

    #[test]
    fn damage_is_cleared_by_a_look_as_deep_and_by_no_other() {
        let (flipped, missing) = (FindingKind::Changed, FindingKind::Missing);
        let sample = || sampled(verified(Depth::Drill));
        for (failed, clears, does_not) in [
            (
                failed(Depth::Drill, Part::Files, flipped),
                vec![verified(Depth::Full)],
                vec![
                    verified(Depth::Default),
                    sample(),
                    proof(Depth::Full, Verdict::Verified, &[Part::Database, Part::Records]),
                    proof(Depth::Full, Verdict::CouldNotVerify, &Part::ALL),
                ],
            ),
            (sampled(failed(Depth::Drill, Part::Files, flipped)), vec![verified(Depth::Drill)], vec![sample()]),
            (
                failed(Depth::Drill, Part::Files, missing),
                vec![verified(Depth::Default), sample()],
                vec![verified(Depth::Quick)],
            ),
            (
                failed(Depth::Drill, Part::Database, flipped),
                vec![sample(), verified(Depth::Drill)],
                vec![verified(Depth::Full)],
            ),
            (
                failed(Depth::Full, Part::Database, flipped),
                vec![verified(Depth::Default)],
                vec![verified(Depth::Quick), proof(Depth::Drill, Verdict::Verified, &[Part::Files])],
            ),
        ] {
            for later in &clears {
                assert!(is_cleared(&failed, &[later]), "{failed:?} by {later:?}");
            }
            for later in &does_not {
                assert!(!is_cleared(&failed, &[later]), "{failed:?} by {later:?}");
            }
            assert!(!is_cleared(&failed, &[]));
        }
        // Findings beyond those that are listed may be anywhere.
        let many = Proof { findings_total: 2, ..failed(Depth::Drill, Part::Files, missing) };
        assert!(!is_cleared(&many, &[&verified(Depth::Default)]) && is_cleared(&many, &[&verified(Depth::Drill)]));
    }
}
