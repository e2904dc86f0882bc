//! One page of a listing, of objects or of versions, decided from the keys alone.
//!
//! A page costs one search and its own length, however many objects the bucket holds: keys behind a
//! common prefix are jumped over, not walked through.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::version::History;

/// What a page is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageQuery {
    pub prefix: String,
    /// Never empty.
    pub delimiter: Option<String>,
    pub position: Position,
    pub limit: usize,
}

/// Where a page begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Only keys behind this one.
    pub after: String,
    /// No keys that begin with this: they were rolled up on the page before.
    pub past: Option<String>,
    /// The page before ended within `after`, which has more to list.
    pub within: bool,
}

/// A page; what a listing says of a key comes once or, with versions, several times.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub entries: Vec<(String, T)>,
    pub prefixes: Vec<String>,
    /// Where the next page begins, if there is one.
    pub next: Option<Position>,
}

/// The order in which keys are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The order of the keys' UTF-8 bytes.
    Bytes,
    /// The order in which a walk of directories finds them: name by name.
    Walk,
    /// The same; what begins behind a key that is not there leaves out what lies before it by bytes.
    FilteredWalk,
}

impl Position {
    /// An opaque string from which this can be had back.
    pub fn token(&self) -> String {
        let text = match &self.past {
            Some(prefix) => format!("p{prefix}"),
            None => format!("k{}", self.after),
        };
        URL_SAFE_NO_PAD.encode(text)
    }

    /// Reads what [`Position::token`] wrote.
    pub fn of_token(token: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        if let Some(prefix) = text.strip_prefix('p') {
            return Some(Self::behind_prefix(prefix));
        }
        text.strip_prefix('k').map(Self::behind_key)
    }

    /// Behind one key.
    pub fn behind_key(key: &str) -> Self {
        Self { after: key.to_owned(), ..Self::default() }
    }

    /// Behind some of the versions of a key.
    pub fn within_key(key: &str) -> Self {
        Self { within: true, ..Self::behind_key(key) }
    }

    /// Behind everything that begins with this prefix.
    pub fn behind_prefix(prefix: &str) -> Self {
        Self { past: Some(prefix.to_owned()), ..Self::behind_key(prefix) }
    }

    /// Behind the last key or common prefix of the page before, which a marker names without saying which it was.
    pub fn behind_marker(marker: &str, prefix: &str, delimiter: Option<&str>) -> Self {
        let rest = marker.strip_prefix(prefix).unwrap_or_default();
        let rolled_up = delimiter.is_some_and(|text| rest.find(text).is_some_and(|at| at + text.len() == rest.len()));
        if rolled_up { Self::behind_prefix(marker) } else { Self::behind_key(marker) }
    }
}

/// The page that `query` asks for; `entries` are what it says of one key.
pub(crate) fn page<T, I: IntoIterator<Item = T>>(
    keys: &BTreeMap<String, History>,
    query: &PageQuery,
    order: Order,
    entries: impl Fn(&str, &History) -> I,
) -> Page<T> {
    let mut page = PageInProgress::new(query);
    if query.limit == 0 {
        return page.page;
    }
    let mut offer = |key: &str, history: &History| page.offer_all(key, entries(key, history));
    match order {
        Order::Bytes => in_byte_order(keys, query, offer),
        Order::FilteredWalk if !keys.contains_key(&query.position.after) => {
            let behind = |key: &str| key > query.position.after.as_str();
            in_walk_order(keys, query, |key, history| if behind(key) { offer(key, history) } else { Offer::Taken });
        }
        Order::Walk | Order::FilteredWalk => in_walk_order(keys, query, offer),
    }
    page.page
}

fn in_byte_order(keys: &BTreeMap<String, History>, query: &PageQuery, mut offer: impl FnMut(&str, &History) -> Offer) {
    let after = query.position.after.as_str();
    let mut from = match query.position.past.as_deref().map(far_behind) {
        Some(jump) => Bound::Included(jump),
        None if query.position.within => Bound::Included(after.to_owned()),
        None => Bound::Excluded(after.to_owned()),
    };
    if query.prefix.as_str() > after || query.position == Position::default() {
        from = Bound::Included(query.prefix.clone());
    }
    'jump: loop {
        for (key, history) in keys.range((from, Bound::Unbounded)) {
            if !key.starts_with(&query.prefix) {
                return;
            }
            match offer(key, history) {
                Offer::Taken => {}
                Offer::RolledUp(prefix) => {
                    from = Bound::Included(far_behind(&prefix));
                    continue 'jump;
                }
                Offer::Full => return,
            }
        }
        return;
    }
}

fn in_walk_order(keys: &BTreeMap<String, History>, query: &PageQuery, mut offer: impl FnMut(&str, &History) -> Offer) {
    let Position { after, within, .. } = &query.position;
    let mut keys: Vec<_> = keys
        .iter()
        .filter(|(key, _)| key.starts_with(&query.prefix))
        .filter(|(key, _)| after.is_empty() || walk_order(key, after).is_gt() || (*within && *key == after))
        .collect();
    keys.sort_by(|(one, _), (other, _)| walk_order(one, other));
    for (key, history) in keys {
        if matches!(offer(key, history), Offer::Full) {
            return;
        }
    }
}

fn walk_order(one: &str, other: &str) -> Ordering {
    one.split('/').cmp(other.split('/'))
}

/// A key behind all but the strangest of the keys that begin with `prefix`.
fn far_behind(prefix: &str) -> String {
    format!("{prefix}\u{10ffff}")
}

/// What became of a key that was offered to a page.
enum Offer {
    Taken,
    RolledUp(String),
    Full,
}

struct PageInProgress<'a, T> {
    query: &'a PageQuery,
    past: Option<String>,
    last: Position,
    page: Page<T>,
}

impl<'a, T> PageInProgress<'a, T> {
    fn new(query: &'a PageQuery) -> Self {
        let page = Page { entries: Vec::new(), prefixes: Vec::new(), next: None };
        Self { query, past: query.position.past.clone(), last: Position::default(), page }
    }

    fn offer_all(&mut self, key: &str, entries: impl IntoIterator<Item = T>) -> Offer {
        for entry in entries {
            match self.offer(key, entry) {
                Offer::Taken => {}
                otherwise => return otherwise,
            }
        }
        Offer::Taken
    }

    fn offer(&mut self, key: &str, entry: T) -> Offer {
        if self.past.as_ref().is_some_and(|past| key.starts_with(past)) {
            return Offer::Taken;
        }
        if self.page.entries.len() + self.page.prefixes.len() == self.query.limit {
            self.page.next = Some(self.last.clone());
            return Offer::Full;
        }
        if let Some(prefix) = self.rolled_up(key) {
            self.last = Position::behind_prefix(&prefix);
            self.past = Some(prefix.clone());
            self.page.prefixes.push(prefix.clone());
            return Offer::RolledUp(prefix);
        }
        self.last = Position::behind_key(key);
        self.page.entries.push((key.to_owned(), entry));
        Offer::Taken
    }

    fn rolled_up(&self, key: &str) -> Option<String> {
        let delimiter = self.query.delimiter.as_ref()?;
        let rest = &key[self.query.prefix.len()..];
        let end = rest.find(delimiter.as_str())? + delimiter.len();
        Some(key[..self.query.prefix.len() + end].to_owned())
    }
}
