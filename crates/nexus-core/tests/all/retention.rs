//! What retention decides: a clinic's year as a table, and a hundred thousand random histories beside a model of the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use nexus_core::point::{Label, Part, PointId};
use nexus_core::retention::{Candidate, Keep, Reason, Rules, SafetyRules, decide};

/// 2025-11-15, a Saturday, at noon in UTC.
const NOW: i64 = 1_763_208_000;
const DAY: u64 = 86_400;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("a time")
}

fn point(id: &str) -> Candidate {
    Candidate {
        id: id.parse().expect("an id"),
        parts: Part::ALL.to_vec(),
        proven: true,
        pinned: None,
        announced: Vec::new(),
        needed: Vec::new(),
    }
}

/// A point each night at two o'clock, so many nights up to the last one.
fn nights(label: &str, count: i64) -> Vec<Candidate> {
    let last: Timestamp = "2025-11-15T02:00:00Z".parse().expect("a time");
    let night = |ago| PointId::new(label.parse().expect("a label"), last - SignedDuration::from_hours(24 * ago));
    (0..count).map(|ago| point(&night(ago).to_string())).collect()
}

fn word(reason: &Reason) -> String {
    match reason {
        Reason::Young { .. } => "its time is not over".to_owned(),
        Reason::Over { .. } => "its time is over".to_owned(),
        reason => reason.to_string(),
    }
}

/// The decisions as a person would read them: points of one label in a row with one fate in one line.
fn table(points: &[Candidate], rules: &Rules) -> String {
    let decisions = decide(points, rules, now());
    let labels: BTreeSet<&Label> = points.iter().map(|point| point.id.label()).collect();
    let mut text = String::new();
    for (label, part) in labels.iter().flat_map(|label| Part::ALL.map(|part| (label, part))) {
        let mut runs: Vec<(String, Vec<&PointId>)> = Vec::new();
        for decision in decisions.iter().filter(|one| one.part == part && one.point.label() == *label) {
            let fate = if decision.keep { "keep" } else { "remove" };
            let fate = format!("{fate:6}  {}", word(&decision.reason));
            match runs.last_mut() {
                Some((last, ids)) if *last == fate => ids.push(&decision.point),
                _ => runs.push((fate, vec![&decision.point])),
            }
        }
        for (fate, ids) in runs {
            let day = |id: &PointId| id.claimed().strftime("%Y-%m-%d").to_string();
            let (newest, oldest) = (day(ids[0]), day(ids[ids.len() - 1]));
            let days = if newest == oldest { newest } else { format!("{newest} back to {oldest}") };
            writeln!(text, "{label} {part}  {days:29} {:3}  {fate}", ids.len()).expect("room");
        }
    }
    text
}

#[track_caller]
fn assert_table(points: &[Candidate], rules: &Rules, expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let got = table(points, rules);
    let got: Vec<&str> = got.lines().map(str::trim).collect();
    assert!(got == expected, "decided was:\n{}\n\nexpected was:\n{}", got.join("\n"), expected.join("\n"));
}

/// A year of nights, three imports, four restores, a pin, a week in which nothing was proven.
fn year() -> Vec<Candidate> {
    let mut points = nights("nightly", 365);
    // The vault could not be reached after the last two nights' points were committed; of an older night a check failed.
    for ago in [0, 1, 9] {
        points[ago].proven = false;
    }
    points[200].pinned = Some("before the audit".to_owned());
    for import in ["import_20250301_170000", "import_20250620_170000", "import_20251020_170000"] {
        points.push(point(import));
    }
    for safety in [1, 2, 3, 9] {
        points.push(point(&format!("before-restore_202511{:02}_090000", 15 - safety)));
    }
    points.push(point("before-restore_20250701_090000"));
    points
}

#[test]
fn a_clinics_year_by_the_default_rules() {
    assert_table(
        &year(),
        &Rules::default(),
        "
            before-restore database  2025-11-14 back to 2025-11-12   3  keep    its time is not over
            before-restore database  2025-11-06 back to 2025-07-01   2  remove  its time is over
            before-restore files  2025-11-14 back to 2025-11-12   3  keep    its time is not over
            before-restore files  2025-11-06 back to 2025-07-01   2  remove  its time is over
            before-restore records  2025-11-14 back to 2025-11-12   3  keep    its time is not over
            before-restore records  2025-11-06 back to 2025-07-01   2  remove  its time is over
            import database  2025-10-20                      1  keep    its time is not over
            import database  2025-06-20                      1  keep    number 2 of the newest proven
            import database  2025-03-01                      1  keep    number 3 of the newest proven
            import files  2025-10-20                      1  keep    the newest proven
            import files  2025-06-20                      1  keep    number 2 of the newest proven
            import files  2025-03-01                      1  keep    number 3 of the newest proven
            import records  2025-10-20                      1  keep    its time is not over
            import records  2025-06-20                      1  keep    number 2 of the newest proven
            import records  2025-03-01                      1  keep    number 3 of the newest proven
            nightly database  2025-11-15 back to 2025-10-17  30  keep    its time is not over
            nightly database  2025-10-16 back to 2025-04-30 170  remove  its time is over
            nightly database  2025-04-29                      1  keep    pinned: before the audit
            nightly database  2025-04-28 back to 2024-11-16 164  remove  its time is over
            nightly files  2025-11-15 back to 2025-11-09   7  keep    its time is not over
            nightly files  2025-11-08 back to 2025-04-30 193  remove  its time is over
            nightly files  2025-04-29                      1  keep    pinned: before the audit
            nightly files  2025-04-28 back to 2024-11-16 164  remove  its time is over
            nightly records  2025-11-15 back to 2025-08-18  90  keep    its time is not over
            nightly records  2025-08-17 back to 2025-04-30 110  remove  its time is over
            nightly records  2025-04-29                      1  keep    pinned: before the audit
            nightly records  2025-04-28 back to 2024-11-16 164  remove  its time is over
        ",
    );
}

#[test]
fn a_clinics_year_with_days_weeks_months_and_years_kept() {
    let keep = Keep { last: 3, daily: 7, weekly: 5, monthly: 12, yearly: 2 };
    let ages = [(Part::Database, 2 * DAY), (Part::Files, DAY)].into();
    let mut points = nights("nightly", 420);
    for point in &mut points {
        point.parts = vec![Part::Database];
    }
    let rules = Rules { ages, keep, safety: SafetyRules { age: None, last: 1 } };
    assert_table(
        &points,
        &rules,
        "
            nightly database  2025-11-15 back to 2025-11-14   2  keep    its time is not over
            nightly database  2025-11-13                      1  keep    number 3 of the newest proven
            nightly database  2025-11-12                      1  keep    the newest of 2025-11-12
            nightly database  2025-11-11                      1  keep    the newest of 2025-11-11
            nightly database  2025-11-10                      1  keep    the newest of 2025-11-10
            nightly database  2025-11-09                      1  keep    the newest of 2025-11-09
            nightly database  2025-11-08 back to 2025-11-03   6  remove  its time is over
            nightly database  2025-11-02                      1  keep    the newest of the week of 2025-10-27
            nightly database  2025-11-01                      1  remove  its time is over
            nightly database  2025-10-31                      1  keep    the newest of 2025-10
            nightly database  2025-10-30 back to 2025-10-27   4  remove  its time is over
            nightly database  2025-10-26                      1  keep    the newest of the week of 2025-10-20
            nightly database  2025-10-25 back to 2025-10-20   6  remove  its time is over
            nightly database  2025-10-19                      1  keep    the newest of the week of 2025-10-13
            nightly database  2025-10-18 back to 2025-10-01  18  remove  its time is over
            nightly database  2025-09-30                      1  keep    the newest of 2025-09
            nightly database  2025-09-29 back to 2025-09-01  29  remove  its time is over
            nightly database  2025-08-31                      1  keep    the newest of 2025-08
            nightly database  2025-08-30 back to 2025-08-01  30  remove  its time is over
            nightly database  2025-07-31                      1  keep    the newest of 2025-07
            nightly database  2025-07-30 back to 2025-07-01  30  remove  its time is over
            nightly database  2025-06-30                      1  keep    the newest of 2025-06
            nightly database  2025-06-29 back to 2025-06-01  29  remove  its time is over
            nightly database  2025-05-31                      1  keep    the newest of 2025-05
            nightly database  2025-05-30 back to 2025-05-01  30  remove  its time is over
            nightly database  2025-04-30                      1  keep    the newest of 2025-04
            nightly database  2025-04-29 back to 2025-04-01  29  remove  its time is over
            nightly database  2025-03-31                      1  keep    the newest of 2025-03
            nightly database  2025-03-30 back to 2025-03-01  30  remove  its time is over
            nightly database  2025-02-28                      1  keep    the newest of 2025-02
            nightly database  2025-02-27 back to 2025-02-01  27  remove  its time is over
            nightly database  2025-01-31                      1  keep    the newest of 2025-01
            nightly database  2025-01-30 back to 2025-01-01  30  remove  its time is over
            nightly database  2024-12-31                      1  keep    the newest of 2024-12
            nightly database  2024-12-30 back to 2024-09-22 100  remove  its time is over
        ",
    );
}

#[test]
fn after_three_weeks_of_unproven_nights_the_last_proven_ones_are_still_there() {
    let mut points = nights("nightly", 60);
    for point in &mut points {
        point.parts = vec![Part::Files];
    }
    for point in &mut points[..21] {
        point.proven = false;
    }
    assert_table(
        &points,
        &Rules::default(),
        "
            nightly files  2025-11-15 back to 2025-11-09   7  keep    its time is not over
            nightly files  2025-11-08 back to 2025-10-26  14  remove  its time is over
            nightly files  2025-10-25                      1  keep    the newest proven
            nightly files  2025-10-24                      1  keep    number 2 of the newest proven
            nightly files  2025-10-23                      1  keep    number 3 of the newest proven
            nightly files  2025-10-22 back to 2025-09-17  36  remove  its time is over
        ",
    );
}

#[test]
fn an_adopted_partial_future_or_unproven_point_stays_or_goes_for_its_own_reason() {
    let mut points = vec![
        point("nightly_20270101_020000"),
        point("nightly_20251115_120400"),
        point("nightly_20251001_020000"),
        point("nightly_20250901_020000"),
        point("nightly_20250801_020000"),
        point("nightly_20250701_020000"),
        point("old_20240101_020000"),
        point("old_20230101_020000"),
    ];
    points[1].proven = false;
    points[2].parts = vec![Part::Database];
    points[3].announced = vec![Part::Files];
    points[5].needed = vec![(Part::Files, "a backup reuses its files".to_owned())];
    // Adopted ones are committed, bear no time of their own and are unproven until somebody verifies them.
    points[6].proven = false;
    points[7].proven = false;
    let rules = Rules { keep: Keep { last: 1, ..Keep::default() }, ..Rules::default() };
    assert_table(
        &points,
        &rules,
        "
            nightly database  2027-01-01                      1  keep    dated in the future
            nightly database  2025-11-15                      1  keep    its time is not over
            nightly database  2025-10-01                      1  keep    the newest proven
            nightly database  2025-09-01 back to 2025-07-01   3  remove  its time is over
            nightly files  2027-01-01                      1  keep    dated in the future
            nightly files  2025-11-15                      1  keep    its time is not over
            nightly files  2025-09-01 back to 2025-08-01   2  keep    the newest proven
            nightly files  2025-07-01                      1  keep    a backup reuses its files
            nightly records  2027-01-01                      1  keep    dated in the future
            nightly records  2025-11-15 back to 2025-09-01   2  keep    its time is not over
            nightly records  2025-08-01 back to 2025-07-01   2  remove  its time is over
            old database  2024-01-01 back to 2023-01-01   2  keep    none of its label is proven
            old files  2024-01-01 back to 2023-01-01   2  keep    none of its label is proven
            old records  2024-01-01 back to 2023-01-01   2  keep    none of its label is proven
        ",
    );
}

/// Numbers that look random, the same for the same seed.
pub struct Random(pub u64);

impl Random {
    /// One below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

const SEED: u64 = 20_251_115;
const HISTORIES: u64 = 100_000;

/// Seconds before now at which something may have happened: often at the very limits of rules.
fn age(random: &mut Random) -> i64 {
    let days = match random.below(4) {
        0 => random.below(10),
        1 => random.below(100),
        2 => random.below(1_000),
        _ => [7, 30, 90, 1, 2][usize::try_from(random.below(5)).expect("small")],
    };
    let wobble = [0, 0, 1, -1, 43_200][usize::try_from(random.below(5)).expect("small")];
    i64::try_from(days * DAY).expect("small") + wobble
}

fn parts(random: &mut Random, one_in: u64) -> Vec<Part> {
    Part::ALL.into_iter().filter(|_| random.one_in(one_in)).collect()
}

/// One history: up to fifty points, committed by hand, by night, by a restore, adopted; checked or not; pinned, announced,
/// in use; dated in the future.
fn history(random: &mut Random) -> Vec<Candidate> {
    let most = if random.one_in(20) { 50 } else { 12 };
    let mut points: BTreeMap<PointId, Candidate> = BTreeMap::new();
    for _ in 0..=random.below(most) {
        let label = ["nightly", "import", "before-restore"][usize::try_from(random.below(3)).expect("small")];
        let ago = if random.one_in(12) { -age(random) - 299 } else { age(random) };
        let id = PointId::new(label.parse().expect("a label"), now() - SignedDuration::from_secs(ago));
        let parts = match random.below(4) {
            0 => parts(random, 2),
            _ => Part::ALL.to_vec(),
        };
        // Failed, not looked at and adopted points are all of one kind here: nobody has shown that they can be restored.
        let proven = !random.one_in(3);
        let announced = if random.one_in(6) { self::parts(random, 2) } else { Vec::new() };
        let needed = if random.one_in(8) { self::parts(random, 2) } else { Vec::new() };
        let pinned = random.one_in(10).then(|| "a reason".to_owned());
        let needed = needed.into_iter().map(|part| (part, "somebody".to_owned())).collect();
        points.insert(id.clone(), Candidate { id, parts, proven, pinned, announced, needed });
    }
    let mut points: Vec<Candidate> = points.into_values().collect();
    // In whatever order a vault lists them.
    for at in (1..points.len()).rev() {
        points.swap(at, usize::try_from(random.below(at as u64 + 1)).expect("small"));
    }
    points
}

fn rules(random: &mut Random) -> Rules {
    let limit = |random: &mut Random| {
        [0, 1, DAY, 7 * DAY, 30 * DAY, 90 * DAY][usize::try_from(random.below(6)).expect("small")]
    };
    let mut ages = BTreeMap::new();
    for part in Part::ALL {
        if !random.one_in(6) {
            ages.insert(part, limit(random));
        }
    }
    let count = |random: &mut Random| {
        let few = random.below(5);
        u32::try_from(if random.one_in(2) { 0 } else { few }).expect("small")
    };
    let last = u32::try_from(random.below(5)).expect("small");
    let keep =
        Keep { last, daily: count(random), weekly: count(random), monthly: count(random), yearly: count(random) };
    let age = (!random.one_in(4)).then(|| limit(random));
    let safety = SafetyRules { age, last: u32::try_from(random.below(4)).expect("small") };
    Rules { ages, keep, safety }
}

/// The rules once more, from the words they were asked for in, with a calendar of its own.
mod model {
    use super::{BTreeMap, BTreeSet, Candidate, Keep, NOW, Part, Rules};

    /// A point with its time in seconds.
    pub struct Point<'a> {
        pub point: &'a Candidate,
        at: i64,
    }

    pub fn points(points: &[Candidate]) -> Vec<Point<'_>> {
        points.iter().map(|point| Point { point, at: point.id.claimed().as_second() }).collect()
    }

    /// Days, weeks from Monday on, months and years as numbers that grow.
    fn spans(at: i64) -> [i64; 4] {
        let days = at.div_euclid(86_400);
        // Days since 0000-03-01 fall into eras of 400 years.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let (year, month) = (era * 400 + year_of_era, (from_march + 2) % 12);
        let year = if month < 2 { year + 1 } else { year };
        // The first of January 1970 was a Thursday.
        [days, (days + 3).div_euclid(7), year * 12 + month, year]
    }

    impl Point<'_> {
        pub fn is_future(&self) -> bool {
            self.at > NOW + 300
        }

        /// Its place among those that are counted: proven, with this part, not of the future, not announced to go.
        fn counts(&self, part: Part) -> bool {
            self.point.proven
                && self.point.parts.contains(&part)
                && !self.point.announced.contains(&part)
                && !self.is_future()
        }
    }

    /// The times of the counted points of a label and part, the newest first.
    pub fn counted(points: &[Point], like: &Point, part: Part) -> Vec<i64> {
        let same = |other: &&Point| other.point.id.label() == like.point.id.label() && other.counts(part);
        let mut counted: Vec<i64> = points.iter().filter(same).map(|point| point.at).collect();
        counted.sort_unstable_by(|left, right| right.cmp(left));
        counted
    }

    /// Those of them that are kept for their number or their place in the calendar.
    fn chosen(counted: &[i64], keep: Keep) -> BTreeSet<i64> {
        let mut chosen: BTreeSet<i64> = counted.iter().take(keep.last.max(1) as usize).copied().collect();
        for (kind, count) in [keep.daily, keep.weekly, keep.monthly, keep.yearly].into_iter().enumerate() {
            let mut newest: BTreeMap<i64, i64> = BTreeMap::new();
            for at in counted {
                newest.entry(spans(*at)[kind]).or_insert(*at);
            }
            chosen.extend(newest.values().rev().take(count as usize));
        }
        chosen
    }

    pub fn keeps(this: &Point, counted: &[i64], part: Part, rules: &Rules) -> bool {
        let is_safety = this.point.id.label().as_str() == "before-restore";
        let limit = if is_safety { rules.safety.age } else { rules.ages.get(&part).copied() };
        let Some(limit) = limit else { return true };
        let young = NOW < this.at + i64::try_from(limit).expect("small");
        let in_use = this.point.needed.iter().any(|(needed, _)| *needed == part);
        if this.point.pinned.is_some() || in_use || this.is_future() || young {
            return true;
        }
        if !this.point.proven {
            return counted.is_empty();
        }
        // One that was announced is looked at as if it had not been: it may be needed after all.
        let mut with_this = counted.to_vec();
        if !with_this.contains(&this.at) {
            with_this.push(this.at);
            with_this.sort_unstable_by(|left, right| right.cmp(left));
        }
        let keep = if is_safety { Keep { last: rules.safety.last, ..Keep::default() } } else { rules.keep };
        chosen(&with_this, keep).contains(&this.at)
    }
}

#[test]
fn a_hundred_thousand_random_histories_are_decided_as_the_rules_say() {
    let mut random = Random(SEED);
    let (mut removed, mut kept) = (0_u64, 0_u64);
    for at in 0..HISTORIES {
        let (points, rules) = (history(&mut random), rules(&mut random));
        let decisions = decide(&points, &rules, now());
        let context = || format!("history {at} of seed {SEED}: {points:#?}\n{rules:#?}\n{decisions:#?}");
        let decided: BTreeMap<(&PointId, Part), bool> =
            decisions.iter().map(|one| ((&one.point, one.part), one.keep)).collect();
        let parts: usize = points.iter().map(|point| point.parts.len()).sum();
        assert!(decisions.len() == parts && decided.len() == parts, "not one decision a part: {}", context());
        let timed = model::points(&points);
        let mut groups: BTreeMap<(&str, Part), (usize, Vec<i64>)> = BTreeMap::new();
        for this in &timed {
            let Candidate { id, parts, proven, pinned, announced, needed } = this.point;
            for part in parts {
                let keep = decided[&(id, *part)];
                *(if keep { &mut kept } else { &mut removed }) += 1;
                let (stay, counted) = groups
                    .entry((id.label().as_str(), *part))
                    .or_insert_with(|| (0, model::counted(&timed, this, *part)));
                assert_eq!(keep, model::keeps(this, counted, *part, &rules), "the {part} of {id}: {}", context());
                let needed = needed.iter().any(|(needed, _)| needed == part);
                let must_stay = needed || pinned.is_some() || this.is_future();
                assert!(keep || !must_stay, "the {part} of {id} must stay: {}", context());
                let counts = *proven && !announced.contains(part) && !this.is_future();
                *stay += usize::from(counts && keep);
            }
        }
        // Never fewer proven ones than are asked for, if there were so many.
        for ((label, part), (stay, counted)) in groups {
            let last = if label == "before-restore" { rules.safety.last } else { rules.keep.last };
            let floor = counted.len().min(last.max(1) as usize);
            assert!(stay >= floor, "too few {part} of {label} stay: {}", context());
        }
    }
    // A generator that never comes near the rules would prove nothing.
    assert!(removed > HISTORIES && kept > HISTORIES, "{removed} removed, {kept} kept, seed {SEED}");
}

#[test]
fn points_of_the_future_of_safety_and_announced_ones_expel_nobody() {
    let mut random = Random(SEED + 1);
    for at in 0..HISTORIES / 10 {
        let (points, rules) = (history(&mut random), rules(&mut random));
        let others: Vec<Candidate> = model::points(&points)
            .into_iter()
            .filter(|one| !one.is_future() && !one.point.id.label().is_safety() && one.point.announced.len() < 3)
            .map(|one| one.point.clone())
            .collect();
        let (all, alone) = (decide(&points, &rules, now()), decide(&others, &rules, now()));
        for one in &alone {
            let among = all.iter().find(|other| other.point == one.point && other.part == one.part);
            assert_eq!(among, Some(one), "history {at} of seed {}: {points:#?}\n{rules:#?}", SEED + 1);
        }
    }
}
