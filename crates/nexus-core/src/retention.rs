//! What to keep: a pure function of points, rules and the time. It decides; only `prune` removes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::point::{Label, Part, PointId};

/// How far in the future a point may be dated, by a clock that is a little ahead, before it is set apart.
pub const TOLERATED: SignedDuration = SignedDuration::from_mins(5);

/// How long points are kept, and how many of them however old they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// How long each part is kept, in seconds from its id's time stamp; a part that is not here is kept for ever.
    pub ages: BTreeMap<Part, u64>,
    /// The proven points that are kept beyond that, counted for each label and part.
    pub keep: Keep,
    /// The same for the points that a restore takes before it changes anything.
    pub safety: SafetyRules,
}

/// Which of the older points are kept. Each counts proven points of one label and part, the newest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// So many of the newest; 0 counts as 1, since the newest proven one is never removed.
    pub last: u32,
    /// The newest of each of so many days (UTC) that have one.
    pub daily: u32,
    /// The newest of each of so many weeks (Monday to Sunday) that have one.
    pub weekly: u32,
    /// The newest of each of so many months that have one.
    pub monthly: u32,
    /// The newest of each of so many years that have one.
    pub yearly: u32,
}

/// What is kept of the points labelled `before-restore`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SafetyRules {
    /// How long all their parts are kept, in seconds; `None`: for ever.
    pub age: Option<u64>,
    /// So many of the newest proven ones are kept beyond that; 0 counts as 1.
    pub last: u32,
}

const DAY: u64 = 24 * 60 * 60;

impl Default for Rules {
    /// 30 days for databases, 7 for files, 90 for records, and the last 3; of safety points the last 3, and 7 days.
    fn default() -> Self {
        Self {
            ages: [(Part::Database, 30 * DAY), (Part::Files, 7 * DAY), (Part::Records, 90 * DAY)].into(),
            keep: Keep { last: 3, ..Keep::default() },
            safety: SafetyRules { age: Some(7 * DAY), last: 3 },
        }
    }
}

impl Rules {
    /// How long this part of a point with this label is kept, in seconds; `None`: for ever.
    pub fn age(&self, label: &Label, part: Part) -> Option<u64> {
        if label.is_safety() { self.safety.age } else { self.ages.get(&part).copied() }
    }

    fn keep(&self, label: &Label) -> Keep {
        if label.is_safety() { Keep { last: self.safety.last, ..Keep::default() } } else { self.keep }
    }
}

/// A committed point as these rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: PointId,
    /// The parts that have not expired.
    pub parts: Vec<Part>,
    /// True when it is proven.
    pub proven: bool,
    /// Why it is pinned, when it is.
    pub pinned: Option<String>,
    /// The parts that some prune has announced to remove: they count for nothing when others are counted.
    pub announced: Vec<Part>,
    /// Who depends on which of its parts now, in words.
    pub needed: Vec<(Part, String)>,
}

/// What is to become of one part of one point, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The point.
    pub point: PointId,
    /// The part.
    pub part: Part,
    /// Keep it or remove it.
    pub keep: bool,
    /// Why.
    #[serde(flatten)]
    pub reason: Reason,
}

/// Why a part is kept or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Reason {
    /// It is pinned.
    Pinned {
        /// Why.
        because: String,
    },
    /// Somebody depends on it now.
    Needed {
        /// Who.
        by: String,
    },
    /// Its time stamp lies in the future: a clock was or is wrong.
    Future,
    /// Nothing limits its time.
    ForEver,
    /// Its time is not over.
    Young {
        /// When it will be.
        until: Timestamp,
    },
    /// It is among the newest proven ones; the newest is number 1.
    Last {
        /// Which of them.
        number: u64,
    },
    /// It is the newest proven one of its day.
    Daily {
        /// The day.
        day: Date,
    },
    /// It is the newest proven one of its week.
    Weekly {
        /// The week's Monday.
        monday: Date,
    },
    /// It is the newest proven one of its month.
    Monthly {
        /// The month's first day.
        month: Date,
    },
    /// It is the newest proven one of its year.
    Yearly {
        /// The year.
        year: i16,
    },
    /// None of its label and part is proven, so nothing of them is removed.
    NoneProven,
    /// Its time is over, and enough newer ones are kept.
    Over {
        /// Since when.
        since: Timestamp,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned { because } => write!(f, "pinned: {because}"),
            Self::Needed { by } => write!(f, "{by}"),
            Self::Future => f.write_str("dated in the future"),
            Self::ForEver => f.write_str("kept for ever"),
            Self::Young { until } => write!(f, "until {}", until.strftime("%Y-%m-%d %H:%M UTC")),
            Self::Last { number: 1 } => f.write_str("the newest proven"),
            Self::Last { number } => write!(f, "number {number} of the newest proven"),
            Self::Daily { day } => write!(f, "the newest of {day}"),
            Self::Weekly { monday } => write!(f, "the newest of the week of {monday}"),
            Self::Monthly { month } => write!(f, "the newest of {}", month.strftime("%Y-%m")),
            Self::Yearly { year } => write!(f, "the newest of {year}"),
            Self::NoneProven => f.write_str("none of its label is proven"),
            Self::Over { since } => write!(f, "over since {}", since.strftime("%Y-%m-%d %H:%M UTC")),
        }
    }
}

/// Decides on every part of every point: those of the newest point first, its parts in their order.
pub fn decide(points: &[Candidate], rules: &Rules, now: Timestamp) -> Vec<Decision> {
    let mut newest_first: Vec<&Candidate> = points.iter().collect();
    newest_first.sort_by(|left, right| right.id.cmp(&left.id));
    let groups = Groups::of(&newest_first, now);
    let mut decisions = Vec::new();
    for point in newest_first {
        for part in &point.parts {
            let (keep, reason) = of_part(point, *part, &groups, rules, now);
            decisions.push(Decision { point: point.id.clone(), part: *part, keep, reason });
        }
    }
    decisions
}

fn of_part(point: &Candidate, part: Part, groups: &Groups, rules: &Rules, now: Timestamp) -> (bool, Reason) {
    if let Some(because) = &point.pinned {
        return (true, Reason::Pinned { because: because.clone() });
    }
    if let Some((_, by)) = point.needed.iter().find(|(needed, _)| *needed == part) {
        return (true, Reason::Needed { by: by.clone() });
    }
    if is_future(&point.id, now) {
        return (true, Reason::Future);
    }
    let Some(age) = rules.age(point.id.label(), part) else { return (true, Reason::ForEver) };
    let seconds = SignedDuration::from_secs(i64::try_from(age).unwrap_or(i64::MAX));
    // A time beyond all times is no limit.
    let Ok(since) = point.id.claimed().checked_add(seconds) else { return (true, Reason::ForEver) };
    if now < since {
        return (true, Reason::Young { until: since });
    }
    let kept = groups.keeps(point, part, rules.keep(point.id.label()));
    kept.map_or((false, Reason::Over { since }), |reason| (true, reason))
}

fn is_future(id: &PointId, now: Timestamp) -> bool {
    id.claimed().duration_since(now) > TOLERATED
}

/// How many spans of a kind keep their newest, the first day of the one that a day lies in, and the reason.
type Kept = (u32, fn(Date) -> Date, fn(Date) -> Reason);

/// The proven points of each label and part that count, the newest first.
struct Groups<'a>(BTreeMap<(&'a Label, Part), Vec<(&'a PointId, Date)>>);

impl<'a> Groups<'a> {
    fn of(newest_first: &[&'a Candidate], now: Timestamp) -> Self {
        let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for point in newest_first.iter().filter(|point| point.proven && !is_future(&point.id, now)) {
            let day = date(&point.id);
            for part in point.parts.iter().filter(|part| !point.announced.contains(part)) {
                groups.entry((point.id.label(), *part)).or_default().push((&point.id, day));
            }
        }
        Self(groups)
    }

    /// Why the point is kept however old it is, if it is.
    ///
    /// It is held against the others that count, so one that was announced is kept again when it is needed after all.
    fn keeps(&self, point: &Candidate, part: Part, keep: Keep) -> Option<Reason> {
        let others = self.0.get(&(point.id.label(), part)).map_or(&[][..], Vec::as_slice);
        if !point.proven {
            return others.is_empty().then_some(Reason::NoneProven);
        }
        let newer = &others[..others.partition_point(|(other, _)| **other > point.id)];
        let number = newer.len() as u64 + 1;
        if number <= u64::from(keep.last.max(1)) {
            return Some(Reason::Last { number });
        }
        let day = date(&point.id);
        let spans: [Kept; 4] = [
            (keep.daily, |day| day, |day| Reason::Daily { day }),
            (keep.weekly, monday, |monday| Reason::Weekly { monday }),
            (keep.monthly, Date::first_of_month, |month| Reason::Monthly { month }),
            (keep.yearly, Date::first_of_year, |first| Reason::Yearly { year: first.year() }),
        ];
        for (count, span, reason) in spans.into_iter().filter(|(count, ..)| *count > 0) {
            let newer: BTreeSet<Date> = newer.iter().map(|(_, day)| span(*day)).collect();
            if newer.len() < count as usize && !newer.contains(&span(day)) {
                return Some(reason(span(day)));
            }
        }
        None
    }
}

fn date(id: &PointId) -> Date {
    id.claimed().to_zoned(TimeZone::UTC).date()
}

fn monday(day: Date) -> Date {
    // The first days of the calendar have no Monday before them; no point is that old.
    day.checked_sub(jiff::Span::new().days(i64::from(day.weekday().to_monday_zero_offset()))).unwrap_or(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2025-11-15T12:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().expect("a time")
    }

    fn point(label: &str, days_ago: i64) -> Candidate {
        let at = now() - SignedDuration::from_hours(days_ago * 24);
        Candidate {
            id: PointId::new(label.parse().expect("a label"), at),
            parts: Part::ALL.to_vec(),
            proven: true,
            pinned: None,
            announced: Vec::new(),
            needed: Vec::new(),
        }
    }

    /// Days ago of the points whose part is kept, the newest first.
    fn kept(points: &[Candidate], part: Part, rules: &Rules) -> Vec<i64> {
        let decided = decide(points, rules, now());
        decided
            .iter()
            .filter(|decision| decision.part == part && decision.keep)
            .map(|decision| now().duration_since(decision.point.claimed()).as_hours() / 24)
            .collect()
    }

    fn only_last(last: u32) -> Rules {
        Rules { keep: Keep { last, ..Keep::default() }, ..Rules::default() }
    }

    #[test]
    fn each_part_has_its_own_time() {
        let points: Vec<_> = (0..100).step_by(5).map(|days| point("nightly", days)).collect();
        let rules = only_last(1);
        assert_eq!(kept(&points, Part::Files, &rules), [0, 5]);
        assert_eq!(kept(&points, Part::Database, &rules), [0, 5, 10, 15, 20, 25]);
        assert_eq!(kept(&points, Part::Records, &rules).len(), 18);
    }

    #[test]
    fn the_newest_proven_of_each_label_and_part_stays_however_old() {
        let mut newest = point("import", 400);
        newest.parts = vec![Part::Files, Part::Database];
        let points = [newest, point("import", 500), point("nightly", 1)];
        for last in [0, 1] {
            assert_eq!(kept(&points, Part::Files, &only_last(last)), [1, 400]);
            // The newer one has no records: the older one is the newest that has them.
            assert_eq!(kept(&points, Part::Records, &only_last(last)), [1, 500]);
        }
    }

    #[test]
    fn nightly_points_never_expel_the_one_before_an_import() {
        let mut points: Vec<_> = (0..365).map(|days| point("nightly", days)).collect();
        points.push(point("import", 200));
        assert!(kept(&points, Part::Files, &only_last(3)).contains(&200));
    }

    #[test]
    fn only_proven_points_count_and_unproven_ones_go_with_their_time() {
        let mut points: Vec<_> = (8..14).map(|days| point("nightly", days)).collect();
        points[0].proven = false;
        points[2].proven = false;
        assert_eq!(kept(&points, Part::Files, &only_last(2)), [9, 11]);
    }

    #[test]
    fn nothing_goes_of_a_label_and_part_of_which_nothing_is_proven() {
        let mut points: Vec<_> = (8..14).map(|days| point("nightly", days)).collect();
        for point in &mut points {
            point.proven = false;
        }
        assert_eq!(kept(&points, Part::Files, &only_last(2)).len(), 6);
        points.push(point("import", 1));
        assert_eq!(kept(&points, Part::Files, &only_last(2)).len(), 7);
    }

    #[test]
    fn a_pin_keeps_all_of_a_point_and_counts_as_any_other() {
        let mut points: Vec<_> = (8..14).map(|days| point("nightly", days)).collect();
        points[4].pinned = Some("before the audit".into());
        assert_eq!(kept(&points, Part::Files, &only_last(1)), [8, 12]);
    }

    #[test]
    fn a_point_of_the_future_is_kept_and_expels_no_other() {
        let points = [point("nightly", -400), point("nightly", 100), point("nightly", 200)];
        assert_eq!(kept(&points, Part::Files, &only_last(1)), [-400, 100]);
    }

    #[test]
    fn the_newest_of_days_weeks_months_and_years_are_kept() {
        let points: Vec<_> = (0..800).map(|days| point("nightly", days)).collect();
        let keep = |keep: Keep| {
            kept(&points, Part::Files, &Rules { keep, ages: [(Part::Files, 1)].into(), ..Rules::default() })
        };
        let days = Keep { last: 1, daily: 4, ..Keep::default() };
        assert_eq!(keep(days), [0, 1, 2, 3]);
        // 2025-11-15 is a Saturday: the Sundays before it are 6, 13 … days ago.
        assert_eq!(keep(Keep { last: 1, weekly: 3, ..Keep::default() }), [0, 6, 13]);
        assert_eq!(keep(Keep { last: 1, monthly: 3, ..Keep::default() }), [0, 15, 46]);
        assert_eq!(keep(Keep { last: 1, yearly: 3, ..Keep::default() }), [0, 319, 685]);
    }

    #[test]
    fn safety_points_have_rules_of_their_own_and_count_for_nobody() {
        let mut points: Vec<_> = (3..13).map(|days| point("before-restore", days)).collect();
        points.push(point("nightly", 40));
        assert_eq!(kept(&points, Part::Database, &only_last(1)), [3, 4, 5, 6, 40]);
        points.retain(|point| now().duration_since(point.id.claimed()).as_hours() > 24 * 8);
        assert_eq!(kept(&points, Part::Database, &only_last(1)), [9, 10, 11, 40]);
    }

    #[test]
    fn what_is_announced_counts_for_nothing_and_is_kept_again_when_it_is_needed() {
        let mut points: Vec<_> = (8..12).map(|days| point("nightly", days)).collect();
        // Another prune has announced the newest: an older one is kept in its place, and the newest too.
        points[0].announced = vec![Part::Files];
        assert_eq!(kept(&points, Part::Files, &only_last(1)), [8, 9]);
        for point in &mut points {
            point.announced = vec![Part::Files];
        }
        assert_eq!(kept(&points, Part::Files, &only_last(1)), [8, 9, 10, 11]);
    }

    #[test]
    fn what_somebody_depends_on_stays() {
        let mut points: Vec<_> = (8..12).map(|days| point("nightly", days)).collect();
        points[3].needed = vec![(Part::Files, "a backup reuses its files".into())];
        assert_eq!(kept(&points, Part::Files, &only_last(1)), [8, 11]);
        assert_eq!(kept(&points, Part::Database, &only_last(1)), [8, 9, 10, 11]);
    }

    #[test]
    fn every_reason_is_said() {
        let decided = decide(&[point("nightly", 8), point("nightly", 9)], &only_last(1), now());
        let words: Vec<String> = decided
            .iter()
            .filter(|decision| decision.part == Part::Files)
            .map(|decision| decision.reason.to_string())
            .collect();
        assert_eq!(words, ["the newest proven", "over since 2025-11-13 12:00 UTC"]);
    }
}
