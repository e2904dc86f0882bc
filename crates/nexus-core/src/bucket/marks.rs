//! Keys that a listing is expected to have, a page apart: where its ranges begin, known before anything is listed.
//!
//! A mark that is wrong costs a request, or another try, and loses nothing: every seam is looked at.

/// Keys on a page.
const PAGE: u64 = 1_000;
/// Keys between two marks: fewer than fill a page, so that some may have come since and a range is one page still.
const APART: u64 = 960;
/// There are up to this many, then every other one goes.
const MOST: usize = 32;

/// Some keys of what was listed before, evenly spread.
#[derive(Debug, Clone)]
pub struct Marks {
    keys: Vec<String>,
    /// Keys from one to the next.
    apart: u64,
    /// Keys since the last one.
    since: u64,
    last: String,
    ordered: bool,
    tells: bool,
}

impl Default for Marks {
    fn default() -> Self {
        Self::apart(APART)
    }
}

impl Marks {
    /// None yet; there will be so many keys from one to the next, and twice as many, and so on, where there are many keys.
    pub fn apart(keys: u64) -> Self {
        Self { keys: Vec::new(), apart: keys.max(1), since: 0, last: String::new(), ordered: true, tells: false }
    }

    /// Takes the next key, in byte order.
    pub fn add(&mut self, key: &str) {
        self.ordered &= key > self.last.as_str() || self.last.is_empty();
        self.tells |= tells_bytes_from_walk(&self.last, key);
        self.last.clear();
        self.last.push_str(key);
        self.since += 1;
        if self.since < self.apart {
            return;
        }
        self.since = 0;
        self.keys.push(key.to_owned());
        if self.keys.len() > MOST {
            let mut at = 0;
            self.keys.retain(|_| {
                at += 1;
                at % 2 == 0
            });
            // The last one was the odd one out.
            self.since = self.apart;
            self.apart *= 2;
        }
    }

    /// How many requests list so many keys from mark to mark; `None` where there is no mark to begin at.
    pub(crate) fn requests(&self, keys: u64) -> Option<u64> {
        let ranges = self.in_any_order("").len() as u64 + 1;
        match self.apart {
            _ if ranges == 1 => None,
            APART => Some(ranges),
            // Each ends within a page.
            _ => Some(keys / PAGE + ranges / 2),
        }
    }

    /// Where ranges below a prefix may begin, also on a service whose order is not known: a walk of folders lists these keys as
    /// bytes do.
    pub(super) fn in_any_order(&self, prefix: &str) -> &[String] {
        if self.tells { &[] } else { self.in_bytes(prefix) }
    }

    /// Where ranges below a prefix may begin on a service that lists in byte order.
    pub(super) fn in_bytes(&self, prefix: &str) -> &[String] {
        let below = self.ordered && self.keys.iter().all(|key| key.starts_with(prefix));
        if below { &self.keys } else { &[] }
    }
}

/// True when two keys that follow each other in byte order would come the other way round in a walk of folders.
pub(super) fn tells_bytes_from_walk(before: &str, after: &str) -> bool {
    let parting = before.bytes().zip(after.bytes()).find(|(left, right)| left != right);
    matches!(parting, Some((left, b'/')) if left < b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(keys: impl IntoIterator<Item = String>) -> Marks {
        let mut marks = Marks::default();
        keys.into_iter().for_each(|key| marks.add(&key));
        marks
    }

    #[test]
    fn they_are_a_page_apart_where_there_are_few_and_spread_evenly_where_there_are_many() {
        let key = |at: u64| format!("p/{at:09}");
        assert!(marks((0..959).map(key)).in_any_order("p/").is_empty());
        assert_eq!(marks((0..2_000).map(key)).in_any_order("p/"), [key(959), key(1_919)]);
        for total in [17_541, 30_719, 30_720, 31_680, 100_000, 1_000_000] {
            let found = marks((0..total).map(key));
            let found = found.in_any_order("p/");
            let places: Vec<u64> = found.iter().map(|key| key[2..].parse().expect("a number")).collect();
            let first = places[0] + 1;
            assert!(places.len() as u64 <= 32 && (total < 31_680 || places.len() >= 16), "{total}: {}", places.len());
            assert!(places.iter().zip(1..).all(|(place, at)| place + 1 == first * at), "{total}: {places:?}");
            assert!(total - places.last().expect("one") <= first, "{total}: {places:?}");
        }
    }

    #[test]
    fn keys_that_tell_orders_apart_are_for_byte_order_alone_and_those_of_no_order_for_none() {
        let many = |first: &str, second: &str| {
            let between = |folder: &str| (0..960).map(|at| format!("{folder}{at:04}")).collect::<Vec<_>>();
            marks(between(first).into_iter().chain(between(second)))
        };
        assert_eq!(many("a/", "b/").in_any_order("").len(), 2);
        let told = many("a-b/", "a/");
        assert_eq!((told.in_any_order("").len(), told.in_bytes("").len()), (0, 2));
        assert_eq!(many("b/", "a/").in_bytes("").len(), 0);
        assert_eq!(many("a/", "b/").in_bytes("a/").len(), 0);
    }

    #[test]
    fn only_what_a_walk_of_folders_would_turn_round_tells_the_order() {
        assert!(tells_bytes_from_walk("a-b/c", "a/b"));
        assert!(tells_bytes_from_walk("x/a!", "x/a/b"));
        assert!(!tells_bytes_from_walk("a/b", "a/c"));
        assert!(!tells_bytes_from_walk("a", "a/b"));
        assert!(!tells_bytes_from_walk("a/b", "a0"));
    }
}
