//! A range of keys that is listed page by page.

use super::page::{Cursor, Page, Query};
use crate::bucket::Object;
use crate::bucket::marks::tells_bytes_from_walk;
use crate::bucket::spool::{Inlet, When};

/// Pages of a range before another one is begun in its middle: the ends of ranges cost a request each, and a bucket that is
/// listed in so many pages is listed in seconds.
const LONG: u32 = 20;

/// How far a range is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its next page is to be asked for.
    Waits,
    /// It is asked for.
    Asked,
    /// There is none.
    Done,
}

/// The first key behind a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Met {
    /// It is not known yet.
    NotYet,
    /// There is none.
    Nothing,
    /// This one.
    Key(String),
}

/// Keys behind `start` up to `end`, below a prefix.
pub(super) struct Range {
    pub(super) id: usize,
    pub(super) query: Query,
    pub(super) standing: Standing,
    pub(super) inlet: Inlet,
    start: Option<String>,
    /// The last key that is its own.
    pub(super) end: Option<String>,
    pub(super) last: Option<String>,
    /// What was listed first behind `start`, be it its own or not.
    pub(super) first: Met,
    /// The same behind `end`.
    pub(super) beyond: Met,
    /// The range that begins where this ends.
    pub(super) right: Option<usize>,
    /// Pages since it was split.
    pub(super) pages: u32,
    long: u32,
    misses: u32,
    /// It was split, and what lies behind the middle is not known yet.
    splitting: bool,
    in_order: bool,
    /// Objects that were its own.
    objects: u64,
    /// A whole folder's: what the folder is called if the service does not spell folders for URLs.
    pub(super) spelled: Option<String>,
}

/// What a page holds of a range, and what it shows.
pub(super) struct Outcome {
    pub(super) objects: Vec<Object>,
    pub(super) out_of_order: bool,
    pub(super) shows_bytes: bool,
}

impl Range {
    pub(super) fn new(id: usize, query: Query, inlet: Inlet) -> Self {
        Self {
            id,
            query,
            standing: Standing::Waits,
            inlet,
            start: None,
            end: None,
            last: None,
            first: Met::NotYet,
            beyond: Met::NotYet,
            right: None,
            pages: 0,
            long: LONG,
            misses: 0,
            splitting: false,
            in_order: true,
            objects: 0,
            spelled: None,
        }
    }

    pub(super) fn query(&self) -> Query {
        self.query.clone()
    }

    /// Takes in what a page holds. Keys that come twice are one.
    pub(super) fn take(&mut self, page: Page) -> Outcome {
        let mut outcome =
            Outcome { objects: Vec::with_capacity(page.objects.len()), out_of_order: false, shows_bytes: false };
        // A page may be empty with more to come.
        if self.first == Met::NotYet && !(page.objects.is_empty() && page.next.is_some()) {
            self.first = page.objects.first().map_or(Met::Nothing, |object| Met::Key(object.key.clone()));
        }
        self.pages += 1;
        for object in page.objects {
            let key = object.key.as_str();
            if let Some(end) = &self.end
                && key > end.as_str()
            {
                if self.beyond == Met::NotYet {
                    self.beyond = Met::Key(object.key.clone());
                }
                continue;
            }
            if self.beyond != Met::NotYet || self.start.as_deref().is_some_and(|start| key <= start) {
                outcome.out_of_order = true;
            }
            if let Some(last) = &mut self.last {
                if key == last {
                    continue;
                }
                outcome.out_of_order |= key < last.as_str();
                outcome.shows_bytes |= tells_bytes_from_walk(last, key);
                last.clear();
                last.push_str(key);
            } else {
                self.last = Some(key.to_owned());
            }
            outcome.objects.push(object);
        }
        self.objects += outcome.objects.len() as u64;
        self.in_order &= !outcome.out_of_order;
        match page.next {
            Some(next) if self.beyond == Met::NotYet => {
                self.query.cursor = next;
                self.standing = Standing::Waits;
            }
            _ => {
                if self.beyond == Met::NotYet {
                    self.beyond = Met::Nothing;
                }
                self.standing = Standing::Done;
            }
        }
        outcome
    }

    pub(super) fn is_done(&self) -> bool {
        self.standing == Standing::Done
    }

    /// Hands on that all is there, and says how much that is.
    pub(super) fn finish(&self) -> u64 {
        if !self.in_order {
            self.inlet.sort();
        }
        self.inlet.end();
        self.objects
    }

    pub(super) fn may_be_split(&self) -> bool {
        self.standing == Standing::Asked && !self.splitting && self.pages >= self.long
    }

    /// Ends this range at a key and makes the one behind it.
    pub(super) fn split(&mut self, id: usize, middle: String) -> Self {
        self.splitting = true;
        self.followed(id, middle, When::AsItComes)
    }

    /// The same with a key that was there when it was looked last.
    pub(super) fn followed(&mut self, id: usize, middle: String, when: When) -> Self {
        let query = Query::of(&self.query.prefix, Cursor::Start(Some(middle.clone())));
        let mut right = Self::new(id, query, self.inlet.followed(when));
        right.start = Some(middle.clone());
        right.end = self.end.replace(middle);
        right.right = self.right.replace(id);
        right
    }

    /// There is no key to be had that may lie in its middle.
    pub(super) fn cannot_be_split(&mut self) {
        self.pages = 0;
        self.long = self.long.saturating_mul(2);
    }

    /// True when the key that it ends with is not there, so that the next one may not begin behind it.
    pub(super) fn ends_before_its_end(&self) -> bool {
        self.is_done() && self.end.is_some() && self.last != self.end
    }

    /// True when its first page showed that nothing is its own.
    pub(super) fn is_empty_at_first(&self) -> bool {
        self.is_done() && self.objects == 0
    }

    /// Nothing lay behind the middle: the next one is nearer. Each in a row waits for a page more.
    pub(super) fn split_failed(&mut self) {
        if std::mem::take(&mut self.splitting) {
            self.misses += 1;
            self.long = self.pages + self.misses;
        }
    }

    /// Something did.
    pub(super) fn split_served(&mut self) {
        if std::mem::take(&mut self.splitting) {
            (self.misses, self.pages, self.long) = (0, 0, LONG);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::spool::{Held, spool};
    use crate::listing::{FileKind, Side};

    fn page(keys: &[&str], next: Option<&str>) -> Page {
        let object = |key: &&str| Object { key: (*key).to_owned(), side: Side::default(), kind: FileKind::File };
        let next = next.map(|token| Cursor::Token(token.to_owned()));
        Page { objects: keys.iter().map(object).collect(), folders: Vec::new(), next }
    }

    fn range() -> Range {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (inlet, _, _) = spool(folder.path(), &Held::default(), When::AsItComes);
        Range::new(1, Query::of("", Cursor::Start(None)), inlet)
    }

    fn keys(outcome: &Outcome) -> Vec<&str> {
        outcome.objects.iter().map(|object| object.key.as_str()).collect()
    }

    #[test]
    fn ranges_that_meet_share_no_key_and_leave_none_out() {
        let mut left = range();
        left.take(page(&["a", "b"], Some("1")));
        let mut right = left.split(2, "m".to_owned());
        // The page was asked for before the range was split.
        let outcome = left.take(page(&["c", "m", "n", "o"], Some("2")));
        assert_eq!(keys(&outcome), ["c", "m"]);
        assert!(left.is_done() && !outcome.out_of_order);
        let outcome = right.take(page(&["n", "o"], None));
        assert_eq!(keys(&outcome), ["n", "o"]);
        assert_eq!(left.beyond, right.first);
    }

    #[test]
    fn a_key_outside_its_range_and_one_out_of_order_are_noticed() {
        let mut left = range();
        assert!(left.take(page(&["b", "a"], Some("1"))).out_of_order);
        let mut left = range();
        left.take(page(&["a"], Some("1")));
        let mut right = left.split(2, "m".to_owned());
        assert!(right.take(page(&["l", "n"], None)).out_of_order);
        assert!(left.take(page(&["b", "n", "c"], None)).out_of_order);
    }

    #[test]
    fn the_first_key_of_a_page_that_is_empty_and_not_the_last_is_not_known() {
        let mut range = range();
        range.take(page(&[], Some("1")));
        assert_eq!(range.first, Met::NotYet);
        range.take(page(&["a"], None));
        assert_eq!((range.first, range.beyond), (Met::Key("a".to_owned()), Met::Nothing));
    }
}
