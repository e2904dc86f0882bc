//! Arithmetic on what is kept how long, in which storage class.

use super::{DoctorPlan, Line, Prices, Step};
use crate::point::Part;

/// Seconds of a day.
pub(super) const DAY: u64 = 24 * 60 * 60;

/// What is to be said of the times that parts are kept.
pub(super) fn lines(plan: &DoctorPlan, prices: &Prices) -> Vec<Line> {
    let kept = &plan.backup.kept_for;
    let has = |part: Part| plan.backup.parts.contains(&part);
    let (database, files) = (kept.get(&Part::Database), kept.get(&Part::Files));
    let mut lines = Vec::new();
    let class = plan.rules.database_class.as_deref().filter(|_| has(Part::Database) && !plan.vault.is_folder());
    if let Some(class) = class {
        lines.push(minimum(class, database.copied(), prices));
    }
    if has(Part::Database) && has(Part::Files) {
        lines.push(together(database.copied(), files.copied()));
    }
    lines
}

/// A class that bills a least number of days is no cheaper for what is kept for less.
fn minimum(class: &str, kept: Option<u64>, prices: &Prices) -> Line {
    let name = "storage class";
    let least = prices.storage.get(class).map_or(0, |prices| prices.least_days);
    match kept {
        Some(seconds) if seconds < least * DAY => Line::warned(
            name,
            format!(
                "database copies are stored as {class}, which is billed for {least} days at least, and kept for {}",
                days(seconds)
            ),
            vec![
                Step::Setting { table: "vault", line: "database-class = \"STANDARD\"".to_owned() },
                Step::Say(format!("or keep them for {least} days at least")),
            ],
        ),
        Some(seconds) => Line::passed(name, format!("{class} for {}", days(seconds))),
        None => Line::passed(name, format!("{class}, and nothing says how long databases are kept")),
    }
}

/// A database whose files are gone names files that cannot be brought back.
fn together(database: Option<u64>, files: Option<u64>) -> Line {
    let name = "retention";
    match (database, files) {
        (database, Some(files)) if database.is_none_or(|database| database > files) => Line::warned(
            name,
            format!(
                "databases are kept {}, files for {}: an older database would come back without the files it names",
                database.map_or_else(|| "for ever".to_owned(), |seconds| format!("for {}", days(seconds))),
                days(files)
            ),
            vec![Step::Setting { table: "retention", line: format!("files = \"{}\"", longer(database)) }],
        ),
        (None, None) => Line::passed(name, "everything is kept for ever"),
        (Some(database), None) => Line::passed(name, format!("databases for {}, files for ever", days(database))),
        (_, Some(files)) => {
            Line::passed(name, format!("files for {}, as long as their databases or longer", days(files)))
        }
    }
}

/// A span that is as long as the database's; for ever has none, so a hundred years stand for it.
fn longer(database: Option<u64>) -> String {
    match database {
        Some(seconds) => format!("{}d", seconds.div_ceil(DAY)),
        None => "36500d".to_owned(),
    }
}

fn days(seconds: u64) -> String {
    if seconds.is_multiple_of(DAY) && seconds > 0 {
        return format!("{} days", seconds / DAY);
    }
    format!("{} hours", seconds.div_ceil(60 * 60))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Standing;

    #[test]
    fn a_class_that_bills_more_days_than_are_kept_is_named() {
        let prices = Prices::default();
        assert_eq!(minimum("STANDARD_IA", Some(7 * DAY), &prices).standing, Standing::Warned);
        assert_eq!(minimum("STANDARD_IA", Some(30 * DAY), &prices).standing, Standing::Passed);
        assert_eq!(minimum("STANDARD", Some(DAY), &prices).standing, Standing::Passed);
        assert_eq!(minimum("STANDARD_IA", None, &prices).standing, Standing::Passed);
    }

    #[test]
    fn a_database_kept_longer_than_its_files_is_named_and_the_step_mends_it() {
        for (database, files) in [(Some(30 * DAY), Some(7 * DAY)), (None, Some(7 * DAY))] {
            let line = together(database, files);
            assert_eq!(line.standing, Standing::Warned);
            assert_eq!(line.next.len(), 1);
        }
        assert_eq!(together(Some(7 * DAY), Some(7 * DAY)).standing, Standing::Passed);
        assert_eq!(together(Some(7 * DAY), None).standing, Standing::Passed);
        assert_eq!(longer(Some(30 * DAY)), "30d");
    }
}
