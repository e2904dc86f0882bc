//! Times as S3 and HTTP write them.

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds since 1970, by this machine.
pub(super) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later than 1970");
    i64::try_from(since.as_secs()).expect("it is not that late")
}

/// `2026-01-31T10:00:00.000Z`.
pub(super) fn iso(seconds: i64) -> String {
    let (year, month, day) = date(seconds.div_euclid(86_400));
    let rest = seconds.rem_euclid(86_400);
    format!("{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}.000Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

/// `Sat, 31 Jan 2026 10:00:00 GMT`.
pub(super) fn http(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400);
    let (year, month, day) = date(days);
    let rest = seconds.rem_euclid(86_400);
    let (name, month) = (DAYS[index(days.rem_euclid(7))], MONTHS[index(month - 1)]);
    format!("{name}, {day:02} {month} {year} {:02}:{:02}:{:02} GMT", rest / 3_600, rest / 60 % 60, rest % 60)
}

fn index(number: i64) -> usize {
    usize::try_from(number).expect("a remainder is not negative")
}

/// The Gregorian date of a day since 1970: eras of 400 years that begin in March.
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(iso(1_704_067_200), "2024-01-01T00:00:00.000Z");
        assert_eq!(iso(951_782_399), "2000-02-28T23:59:59.000Z");
        assert_eq!(http(1_763_188_953), "Sat, 15 Nov 2025 06:42:33 GMT");
    }
}
